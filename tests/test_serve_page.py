"""The page of `fullconv serve` in a browser: photos in, overlay, areas and files out; every state, by keyboard, too."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image

from browsing import DARKNESS, FAINT, new_view
from fullconv.images import write_image
from fullconv.labels import LabelSet
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner
from fullconv.serve import ServeOptions, make_service
from fullconv.serve.service import Service
from geotiffs import Shifted, geotiff
from web_server import Client, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "a-long-token"
EVIL = "<img src=x onerror=alert(1)>"


@contextmanager
def opened(runner: Runner, **options: Any) -> Iterator[Client]:
    app = make_service(Service(lambda: runner, "street", ServeOptions(**options)), token=TOKEN)
    with serving(app, TOKEN) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with opened(load_runner(model_path("street"))) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    return path


@contextmanager
def page_of(
    browser: Browser, client: Client, width: int = 1440, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """Open the page with its token; yield it with what went wrong: messages, and requests to other servers."""
    faults: list[str] = []
    view = new_view(browser, width, scheme)
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("console", lambda message: faults.append(message.text) if "status of" not in message.text else None)
    view.on("request", lambda request: faults.append(request.url) if is_foreign(request.url, client) else None)
    view.goto(f"{client.address}/#token={TOKEN}")
    view.get_by_text("Model street").wait_for()
    yield view, faults
    view.close()


def is_foreign(url: str, client: Client) -> bool:
    return not url.startswith((client.address, "data:", "blob:"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1440])
def test_photos_become_overlays_and_areas(
    client: Client, browser: Browser, photo: Path, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    with page_of(browser, client, width, scheme) as (view, faults):
        assert view.get_by_role("status").inner_text() == "No photo yet. Results appear below."
        view.set_input_files("#files", [photo, bad])
        view.locator("article.done").wait_for()
        view.locator("article.failed").wait_for()
        assert view.locator("article.failed p").first.inner_text() == (
            "bad.png: is not an image that can be read; save it as PNG, JPEG or TIFF"
        )
        assert view.get_by_role("status").first.inner_text() == "1 photo labelled, 1 failed."
        summary = client.post("/predict", photo.read_bytes()).json
        present = sorted((area for area in summary["classes"] if area["pixels"]), key=lambda area: -area["pixels"])
        rows = [row.inner_text().split("\t") for row in view.locator("article.done tbody tr").all()]
        assert [(name, pixels) for name, _, pixels in rows] == [
            (area["name"], f"{area['pixels']:,}") for area in present
        ]
        assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert view.evaluate("document.documentElement.scrollWidth") == width
        assert view.evaluate(DARKNESS) == (scheme == "dark")
        assert view.evaluate(FAINT) == []
        assert faults == []


@pytest.mark.parametrize("kind", ["Mask", "Overlay", "Probabilities", "Polygons", "Areas"])
def test_downloads_are_the_answers_of_the_server(client: Client, browser: Browser, photo: Path, kind: str) -> None:
    with page_of(browser, client) as (view, faults):
        view.set_input_files("#files", photo)
        button = view.get_by_role("button", name=kind)
        with view.expect_download() as event:
            button.click()
        path = Path(event.value.path())
        answer = client.post(f"/predict?as={kind.lower()}&name=a%20photo.png", photo.read_bytes())
        assert path.read_bytes() == answer.content
        assert re.fullmatch(r"a photo(-overlay)?\.(png|jpg|npz|geojson|csv)", event.value.suggested_filename)
        assert faults == []


def test_a_map_has_square_metres_and_downloads_a_geotiff(client: Client, browser: Browser, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "map.tif", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    with page_of(browser, client) as (view, _):
        view.set_input_files("#files", path)
        view.locator("article.done").wait_for()
        assert view.locator("article thead").inner_text().split() == ["Class", "Share", "Pixels", "m²"]
        with view.expect_download() as event:
            view.get_by_role("button", name="Mask").click()
        assert event.value.suggested_filename == "map.tif"


def test_everything_works_by_keyboard(client: Client, browser: Browser, photo: Path) -> None:
    with page_of(browser, client) as (view, _):
        focused = "(document.activeElement.id || document.activeElement.textContent)"
        view.on("filechooser", lambda chooser: None)  # Chromium needs a moment to report choosers
        view.keyboard.press("Tab")
        assert view.evaluate(focused) == "Skip to the results"
        view.keyboard.press("Tab")
        assert view.evaluate(focused) == "files"
        assert view.evaluate("getComputedStyle(document.activeElement.closest('label')).outlineStyle") != "none"
        with view.expect_file_chooser() as chooser:
            view.keyboard.press("Space")
        chooser.value.set_files(photo)
        view.locator("article.done").wait_for()
        view.keyboard.press("Tab")
        assert view.evaluate(focused) == "camera"
        view.keyboard.press("Tab")
        if view.evaluate("document.activeElement.className") == "scroll":  # Chromium focuses boxes that scroll
            view.keyboard.press("Tab")
        assert view.evaluate(focused) == "Mask"
        with view.expect_download():
            view.keyboard.press("Enter")
        view.get_by_text("a photo.png is ready.").wait_for()
        assert view.evaluate(focused) == "Mask"


def test_photos_can_be_dropped(client: Client, browser: Browser, photo: Path) -> None:
    with page_of(browser, client) as (view, _):
        drop = """bytes => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
          for (const kind of ["dragenter", "dragover", "drop"])
            document.getElementById("drop").dispatchEvent(
              new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }"""
        view.evaluate(drop, list(photo.read_bytes()))
        view.locator("article.done").wait_for()
        assert view.locator("article h2").inner_text() == "dropped.png"


def test_without_the_token_the_page_asks_for_it(client: Client, browser: Browser) -> None:
    with page_of(browser, client) as (view, faults):
        view.goto("about:blank")
        view.goto(client.address)
        field = view.get_by_label("This server needs its token.")
        field.wait_for()
        assert not view.locator("#drop").is_visible()
        field.fill("wrong-token")
        view.keyboard.press("Enter")
        view.get_by_text("this server needs its token; send").wait_for()
        field.fill(TOKEN)
        view.keyboard.press("Enter")
        view.get_by_text("Model street").wait_for()
        assert view.locator("#drop").is_visible()
        assert [fault for fault in faults if fault != "about:blank"] == []


def test_a_failed_photo_can_be_tried_again(client: Client, browser: Browser, photo: Path) -> None:
    with page_of(browser, client) as (view, _):
        view.route("**/predict?**", lambda route: route.abort())
        view.set_input_files("#files", photo)
        view.get_by_text("The server does not answer.").wait_for()
        view.unroute("**/predict?**")
        view.get_by_role("button", name="Try again").click()
        view.locator("article.done").wait_for()
        assert view.get_by_role("status").first.inner_text() == "1 photo labelled."


def test_a_full_server_is_asked_again(client: Client, browser: Browser, photo: Path) -> None:
    refusals, seen = [], []

    def refuse(route: Any) -> None:
        if seen:
            route.continue_()
            return
        refusals.append(1)
        body = json.dumps({"error": "too-many-requests", "message": "full"})
        route.fulfill(status=429, headers={"Retry-After": "1"}, body=body)

    with page_of(browser, client) as (view, _):
        view.route("**/predict?**", refuse)
        view.set_input_files("#files", photo)
        view.get_by_text("Labelling …").wait_for()
        seen.append(1)
        view.locator("article.done").wait_for()
        assert refusals


def test_names_are_text_and_never_markup(browser: Browser) -> None:
    class Evil(Shifted):
        info = Shifted.info.__class__(LabelSet.named([EVIL, "b", "c"]), Shifted.info.windows, exact=True)

    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(file, "PNG")
    with opened(Evil()) as client, page_of(browser, client) as (view, faults):
        dialogs: list[str] = []
        view.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        view.set_input_files("#files", {"name": f"{EVIL}.png", "mimeType": "image/png", "buffer": file.getvalue()})
        view.locator("article.done").wait_for()
        assert EVIL in view.locator("article").inner_text()
        assert view.locator("article img").count() == 1
        assert dialogs == faults == []


@pytest.mark.parametrize("width", [400, 1440])
def test_the_list_of_addresses_is_a_page_without_other_servers(client: Client, browser: Browser, width: int) -> None:
    with page_of(browser, client, width) as (view, faults):
        view.goto(f"{client.address}/docs")
        view.get_by_role("heading", name="POST /predict").wait_for()
        assert view.get_by_text("One of mask, overlay, probabilities, polygons, areas, json.").is_visible()
        assert view.evaluate("document.documentElement.scrollWidth") == width
        assert view.evaluate(FAINT) == []
        assert faults == []

"""The page of `fullconv export --web` in a browser: labels are those of fullconv, and no other server is reached."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image

from browsing import DARKNESS, FAINT, new_view
from fullconv.geometry.tiles import Window
from fullconv.images import read_label_map, write_image
from fullconv.onnx_graph.exported import read_exported, write_exported
from fullconv.packages.export import export_web
from fullconv.packages.onnxruntime_web import RUNTIME, cached_archive, find_archive
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from refusals import refuses

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TIE = 1e-3
"""Browsers round otherwise than other processors: where two logits differ by less, either class may win."""

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def archive() -> Path:
    """The archive of onnxruntime-web; without it the tests are skipped. .ci/run sets the variable if npm has it."""
    named = os.environ.get("ONNXRUNTIME_WEB")
    path = Path(named) if named else cached_archive()
    if not named and not path.is_file():
        pytest.skip(f"needs {RUNTIME}: npm pack {RUNTIME.replace(' ', '@')}, and its path in ONNXRUNTIME_WEB")
    return path


@pytest.fixture(scope="module")
def folder(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the bundled model of street scenes, with the smallest tiles that its network allows."""
    folder = tmp_path_factory.mktemp("web") / "page"
    export_web("street", folder, onnxruntime_web=archive)
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**described, "tile": 0}))
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


@contextmanager
def page_of(
    browser: Browser, address: str, width: int = 1440, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """Open the page; yield it with what went wrong: messages, and requests to other servers."""
    faults: list[str] = []
    view = new_view(browser, width, scheme)
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("console", lambda message: faults.append(message.text))
    view.context.on(
        "request",
        lambda request: None if request.url.startswith((address, f"blob:{address}")) else faults.append(request.url),
    )
    view.goto(address)
    view.get_by_text("Model street: sky").wait_for()
    try:
        yield view, faults
    finally:
        view.close()


def photo(path: Path, height: int, width: int) -> Path:
    random = np.random.default_rng(height)
    squares = random.integers(0, 192, (height // 24 + 1, width // 24 + 1, 3), np.uint8).repeat(24, 0).repeat(24, 1)
    write_image(path, squares[:height, :width] + random.integers(0, 64, (height, width, 3), np.uint8))
    return path


def test_labels_and_areas_are_those_of_fullconv(browser: Browser, address: str, tmp_path: Path) -> None:
    """A photo of one tile (no label differs) and one of four tiles, and the mask that is downloaded."""
    runner = load_runner(bundled("street"))
    with page_of(browser, address) as (view, faults):
        for height, width in ((97, 131), (610, 640)):
            name = f"photo {height}.png"
            path = photo(tmp_path / name, height, width)
            view.set_input_files("#files", path)
            article = view.locator("article.done", has_text=name)
            article.wait_for()
            with view.expect_download() as event:
                article.get_by_role("button", name="Download the mask").click()
            assert event.value.suggested_filename == name
            labels = read_label_map(Path(event.value.path()))
            logits = runner.logits(np.asarray(Image.open(path))[None])[0]
            expected, margin = logits.argmax(0), np.diff(np.sort(logits, 0)[-2:], axis=0)[0]
            wrong = labels != expected
            assert not wrong[margin > TIE].any()
            assert np.count_nonzero(wrong) <= wrong.size * 1e-5
            counts = np.bincount(labels.ravel(), minlength=11)
            rows = [row.inner_text().split("\t") for row in article.locator("tbody tr").all()]
            order = sorted(np.flatnonzero(counts), key=lambda index: -counts[index])
            names = runner.info.labels.class_names
            assert [(row[0], row[2]) for row in rows] == [(names[index], f"{counts[index]:,}") for index in order]
        palette = Image.open(io.BytesIO(Path(event.value.path()).read_bytes())).getpalette()
        assert palette is not None
        assert palette[:33] == [value for color in runner.info.labels.palette for value in color]
        assert faults == []


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1440, "light")])
def test_photos_become_overlays_and_areas(
    browser: Browser, address: str, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    good, bad = photo(tmp_path / f"{EVIL}.png", 60, 80), tmp_path / "bad.png"
    bad.write_text("no image")
    with page_of(browser, address, width, scheme) as (view, faults):
        assert view.get_by_role("status").inner_text() == "No photo yet. Results appear below."
        view.set_input_files("#files", [good, bad])
        view.locator("article.failed").wait_for()
        assert view.locator("article.failed p").first.inner_text() == (
            "bad.png: is not an image that this browser can read; save it as PNG or JPEG"
        )
        assert view.get_by_role("status").first.inner_text() == "1 photo labelled, 1 failed."
        assert view.locator("article.done h2").inner_text() == f"{EVIL}.png"
        top = view.locator(".layers canvas").last
        assert top.evaluate("canvas => getComputedStyle(canvas).opacity") == "0.55"
        view.get_by_label("Strength of the colours").fill("100")
        assert top.evaluate("canvas => getComputedStyle(canvas).opacity") == "1"
        assert view.evaluate("document.documentElement.scrollWidth") == width
        assert view.evaluate(DARKNESS) == (scheme == "dark")
        assert view.evaluate(FAINT) == []
        assert faults == []


def test_everything_works_by_keyboard(browser: Browser, address: str, tmp_path: Path) -> None:
    path = photo(tmp_path / "a photo.png", 60, 80)
    with page_of(browser, address) as (view, _):
        focused = "(document.activeElement.id || document.activeElement.textContent || document.activeElement.type)"
        view.on("filechooser", lambda chooser: None)  # Chromium needs a moment to report choosers
        view.keyboard.press("Tab")
        assert view.evaluate(focused) == "Skip to the results"
        view.keyboard.press("Tab")
        assert view.evaluate(focused) == "files"
        with view.expect_file_chooser() as chooser:
            view.keyboard.press("Space")
        chooser.value.set_files(path)
        view.locator("article.done").wait_for()
        seen = []
        while seen[-1:] != ["Download the mask"]:
            view.keyboard.press("Tab")
            seen.append(view.evaluate(focused))
            assert len(seen) < 6, seen
        assert seen[:2] == ["camera", "range"]
        with view.expect_download():
            view.keyboard.press("Enter")
        view.get_by_text("a photo.png is ready.").wait_for()


def test_neither_the_page_nor_its_thread_reaches_another_server(browser: Browser, address: str, folder: Path) -> None:
    """The other server allows every page; only the policy of this page stops the requests."""

    class Open(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            reached.append(self.path)

    reached: list[str] = []
    other = ThreadingHTTPServer(("127.0.0.1", 0), Open)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    ask = """address => {
      const code = `fetch("${address}/thread").then(() => "sent", () => "refused").then(text => postMessage(text))`;
      window.answers = [];
      window.thread = new Worker(URL.createObjectURL(new Blob([code], {type: "text/javascript"})), {type: "module"});
      window.thread.onmessage = event => window.answers.push(event.data);
      fetch(address + "/page").then(() => window.answers.push("sent"), () => window.answers.push("refused"));
    }"""
    with page_of(browser, address) as (view, _):
        view.evaluate(ask, f"http://127.0.0.1:{other.server_port}")
        answers: list[str] = []
        until = time.monotonic() + 60
        while len(answers) < 2 and time.monotonic() < until:
            view.wait_for_timeout(100)
            answers = view.evaluate("window.answers")
    other.shutdown()
    other.server_close()
    assert (answers, reached) == (["refused", "refused"], [])


def test_transparent_pixels_have_no_class(browser: Browser, address: str, tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[:, :20] = (90, 120, 150, 255)
    Image.fromarray(pixels).save(tmp_path / "cut out.png")
    with page_of(browser, address) as (view, _):
        view.set_input_files("#files", tmp_path / "cut out.png")
        view.locator("article.done").wait_for()
        counts = [int(row.inner_text().split("\t")[2]) for row in view.locator("tbody tr").all()]
        assert sum(counts) == 40 * 20


def test_decoded_photos_are_released(browser: Browser, folder: Path, tmp_path: Path) -> None:
    """Also one that is too large."""
    small = tmp_path / "page"
    small.mkdir()
    for path in folder.iterdir():
        (small / path.name).symlink_to(path)
    described = json.loads((folder / "model.json").read_text())
    (small / "model.json").unlink()
    (small / "model.json").write_text(json.dumps({**described, "max_pixels": 5000}))
    with served(small) as address, page_of(browser, address) as (view, _):
        view.evaluate(
            """() => {
              const make = createImageBitmap;
              window.made = [];
              window.createImageBitmap = async (...given) => {
                made.push(await make(...given));
                return made.at(-1);
              };
            }"""
        )
        photos = [photo(tmp_path / "good.png", 60, 80), photo(tmp_path / "large.png", 100, 80)]
        view.set_input_files("#files", photos)
        view.get_by_text("1 photo labelled, 1 failed.").wait_for()
        assert view.evaluate("made.map(picture => picture.width)") == [0, 0]


def test_a_page_that_is_incomplete_says_so(browser: Browser, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "page"
    broken.mkdir()
    for path in folder.iterdir():
        if path.name != "model.onnx":
            (broken / path.name).symlink_to(path)
    with served(broken) as address:
        view = new_view(browser)
        view.goto(address)
        text = "The model cannot be loaded: model.onnx cannot be read from the server (status 404)."
        view.get_by_text(text).wait_for()
        assert view.locator("#drop").is_hidden()
        view.close()


def test_tiles_in_the_browser_are_those_of_predict(browser: Browser, address: str) -> None:
    """The script that cuts an axis keeps each pixel once, on the grid, and all that it depends on."""
    cases = [(Window(5, 6, 4), size, 19 + size % 5) for size in range(1, 90)] + [(Window(276, 276, 32), 3000, 1536)]
    with page_of(browser, address) as (view, _):
        given = [[asdict(window), size, tile] for window, size, tile in cases]
        made = view.evaluate("cases => import('./tiles.js').then(tiles => cases.map(one => tiles.cut(...one)))", given)
        for (window, size, _), cuts in zip(cases, made, strict=True):
            assert [cut["from"] for cut in cuts[1:]] == [cut["to"] for cut in cuts[:-1]]
            assert (cuts[0]["from"], cuts[-1]["to"]) == (0, size)
            for one in cuts:
                end = one["start"] + one["length"]
                assert one["start"] % window.period == 0
                assert one["start"] == 0 or one["start"] <= one["from"] - window.before
                assert end == size or end >= one["to"] + window.after
                assert end <= size
                assert (size - end) % window.period == 0


def test_another_archive_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(b"another program")
    for path in (other, tmp_path / "absent.tgz"):
        with refuses("wrong-runtime-archive", path, "npm pack"):
            export_web("street", tmp_path / "page", onnxruntime_web=path)
    assert not (tmp_path / "page").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the program in npm's place is a shell script")
def test_npm_is_asked_once_and_what_it_brings_is_checked(tmp_path: Path) -> None:
    """No test asks a registry: a program in npm's place writes the archive, or another one, or fails."""
    cache = tmp_path / "cache" / "runtime.tgz"
    with refuses("npm-missing", RUNTIME):
        find_archive(cache=cache, npm=str(tmp_path / "absent"))
    npm = tmp_path / "npm"
    notice, other = "echo npm notice >&2", 'for last; do :; done; echo other > "$last/a.tgz"'
    for script, code, reason in (
        (f"{notice}; echo npm error no network >&2; exit 1", "npm-failed", "(npm error no network)"),
        ("exit 3", "npm-failed", "(exit code 3)"),
        (f"{notice}; {other}", "npm-fetched-another", "SHA-512"),
    ):
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
        with refuses(code, RUNTIME, reason):
            find_archive(cache=cache, npm=str(npm))
        assert not cache.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the program in npm's place is a shell script")
def test_npm_fetches_the_archive_into_the_cache(tmp_path: Path, archive: Path) -> None:
    cache, npm = tmp_path / "cache" / "runtime.tgz", tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\nfor last; do :; done; cp "{archive}" "$last/onnxruntime-web.tgz"\n')
    npm.chmod(0o755)
    assert find_archive(cache=cache, npm=str(npm)) == cache
    assert find_archive(cache=cache, npm=str(tmp_path / "absent")) == cache


def test_networks_for_other_images_have_no_page(tmp_path: Path) -> None:
    source, (model, metadata) = tmp_path / "bands.onnx", read_exported(bundled("street"))
    info = replace(metadata.info, input=replace(metadata.info.input, channels=5))
    write_exported(source, model, replace(metadata, info=info))
    with refuses("no-photos", source, "5 bands"):
        export_web(source, tmp_path / "page")


def test_a_folder_with_files_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with refuses("folder-not-empty", tmp_path):
        export_web("street", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

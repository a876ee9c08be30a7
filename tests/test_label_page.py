"""The page of `fullconv label` in a browser: what a person paints is exactly in the labels that the server holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

pytest.importorskip("onnx")

from fullconv.cli.pages.label import _open_browser
from fullconv.images import write_image
from fullconv.label.app import make_label_app, make_server
from fullconv.label.live.learner import Learner
from fullconv.label.store.session import open_session
from label_fake import TOKEN, draw_scene, serving
from label_tab import Server, Tab, opened, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

RED = (230, 20, 30)


def make_photos() -> dict[str, np.ndarray]:
    """Return a landscape, one with marks at known places, and one that fills less than a tile."""
    marks = np.full((1100, 1500, 3), 90, np.uint8)
    marks[528:544, 736:752] = RED
    return {"scene": draw_scene(900, 600, 1), "marks": marks, "small": draw_scene(300, 200, 2)}


@contextmanager
def session(folder: Path, learns: bool) -> Iterator[Server]:
    """A session of `fullconv label` on photos, without the command line; its model learns only if asked."""
    photos = {"scene": draw_scene(450, 300, 1)} if learns else make_photos()
    for name, pixels in photos.items():
        write_image(folder / "photos" / f"{name}.png", pixels)
    with open_session(folder / "photos", folder / "data", ["sky", "hill", "field"]) as store:
        server = make_server(store, Learner(None, folder / "taps", store.input))
        for photo in store.photos:
            store.size(photo)
        with closing(server):
            if learns:
                server.open()
            with serving(make_label_app(server, TOKEN)) as address:
                yield Server(address, TOKEN)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with session(tmp_path, learns=False) as server:
        yield server


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    with opened(browser, server) as tab:
        yield tab


@pytest.fixture
def learning(browser: Browser, tmp_path: Path) -> Iterator[Tab]:
    """A tab of a session whose model learns."""
    with session(tmp_path, learns=True) as server, opened(browser, server) as tab:
        yield tab


def painted(tab: Tab, name: str) -> dict[int, int]:
    """Return how many pixels of an image have each class."""
    tab.settle()
    keys, counts = np.unique(tab.server.labels(tab.server.find(name)), return_counts=True)
    return {int(key): int(number) for key, number in zip(keys, counts, strict=True) if key != 255}


def box_of(mask: np.ndarray, key: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask == key)
    assert len(rows), f"nothing is painted with the class {key}"
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_stroke_of_the_mouse_becomes_labels_of_the_chosen_class(tab: Tab) -> None:
    tab.open("scene")
    tab.press("2")
    tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
    counts = painted(tab, "scene")
    assert set(counts) == {1}
    assert counts[1] > 1000


def test_every_tool_has_a_key_and_changes_labels(tab: Tab) -> None:
    tab.open("scene")
    tab.press("1")
    tab.paint(tab.at(0.3, 0.25), tab.at(0.7, 0.25))
    tab.press("3")
    tab.paint(tab.at(0.3, 0.75), tab.at(0.7, 0.75))
    first = painted(tab, "scene")
    assert set(first) == {0, 2}
    tab.press("e")
    assert tab.checked("tool") == "eraser"
    tab.paint(tab.at(0.3, 0.25), tab.at(0.5, 0.25))
    assert 0 < painted(tab, "scene")[0] < first[0]
    tab.press("p", "2")
    for point in (tab.at(0.4, 0.5), tab.at(0.6, 0.5), tab.at(0.5, 0.62)):
        tab.page.mouse.click(*point)
    tab.press("Enter")
    assert painted(tab, "scene")[1] > 2000
    before = painted(tab, "scene")[0]
    tab.press("f", "1")
    tab.slide("tolerance", 60)
    tab.page.mouse.click(*tab.at(0.1, 0.25))
    assert painted(tab, "scene")[0] > before + 10_000


def test_the_right_button_erases_with_every_tool(tab: Tab) -> None:
    tab.open("scene")
    tab.press("1")
    tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
    before = painted(tab, "scene")[0]
    tab.press("f")
    tab.paint(tab.at(0.5, 0.45), tab.at(0.5, 0.55), button="right")
    assert 0 < painted(tab, "scene")[0] < before


def start_model(tab: Tab) -> Tab:
    """Paint two classes and wait for the first model."""
    tab.open("scene")
    tab.press("1")
    tab.paint(tab.at(0.3, 0.2), tab.at(0.7, 0.2))
    tab.press("3")
    tab.paint(tab.at(0.3, 0.75), tab.at(0.7, 0.75))
    wait_until(lambda: tab.server.json("/api/project")["version"] > 0, "the first model")
    tab.wait_for_text("model", "Model ")
    tab.settle()
    return tab


def test_the_prediction_is_accepted_by_region_class_and_image(learning: Tab) -> None:
    tab = start_model(learning)
    before = sum(painted(tab, "scene").values())
    tab.press("a")
    tab.page.mouse.click(*tab.at(0.5, 0.35))
    region = sum(painted(tab, "scene").values())
    assert region > before + 1000
    tab.press("a")
    assert tab.checked("scope") == "class"
    tab.page.mouse.click(*tab.at(0.5, 0.78))
    of_class = sum(painted(tab, "scene").values())
    assert of_class > region
    tab.press("Shift+A")
    wait_until(lambda: sum(painted(tab, "scene").values()) == 450 * 300, "the whole image")


def test_the_canvas_shows_the_prediction_and_the_views_hide_it(learning: Tab) -> None:
    tab = start_model(learning)
    tab.page.wait_for_timeout(500)
    tab.settle()
    shown = {}
    for view in ("both", "labels", "prediction", "none"):
        assert tab.checked("shown") == view
        tab.settle()
        shown[view] = tab.pixels().astype(int)
        tab.press("v")
    x, y = (round(value) for value in np.subtract(tab.at(0.5, 0.35), tab.corner))
    photo = shown["none"][y, x]
    assert np.abs(shown["labels"][y, x] - photo).max() == 0
    assert np.abs(shown["both"][y, x] - photo).max() > 3
    assert np.abs(shown["prediction"][y, x] - photo).max() > np.abs(shown["both"][y, x] - photo).max()


def test_undo_and_redo_go_back_and_forth_also_after_a_reload(tab: Tab) -> None:
    tab.open("small")
    tab.press("1")
    empty = painted(tab, "small")
    tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
    one = painted(tab, "small")
    tab.press("2")
    tab.paint(tab.at(0.4, 0.6), tab.at(0.6, 0.6))
    two = painted(tab, "small")
    assert len({str(counts) for counts in (empty, one, two)}) == 3
    tab.press("Control+z")
    assert painted(tab, "small") == one
    tab.press("Control+Shift+Z")
    assert painted(tab, "small") == two
    tab.page.reload()
    tab.wait_for_text("image-name", "small")
    tab.page.wait_for_selector("#message", state="hidden")
    tab.settle()
    tab.press("z")
    assert painted(tab, "small") == one
    tab.page.locator("#undo").click()
    assert painted(tab, "small") == empty
    tab.press("z")
    tab.wait_for_text("toast", "There is nothing to undo")
    tab.press("Control+y", "Shift+Z")
    assert painted(tab, "small") == two


def test_an_undo_whose_answer_is_lost_happens_once(tab: Tab) -> None:
    tab.expected.append("Failed to load resource")
    tab.open("small")
    tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
    one = painted(tab, "small")
    tab.paint(tab.at(0.4, 0.6), tab.at(0.6, 0.6))
    assert painted(tab, "small") != one
    answers: list[int] = []

    def lose_the_first(route: Route) -> None:
        answers.append(route.fetch().status)
        route.abort() if len(answers) == 1 else route.continue_()

    tab.page.route("**/undo", lose_the_first)
    tab.press("z")
    assert painted(tab, "small") == one
    assert answers == [200, 200]


@pytest.mark.parametrize(("key", "zoom", "within"), [("+", 8, 0), ("-", 0.25, 2)])
def test_the_painted_pixel_is_the_one_under_the_pointer(tab: Tab, key: str, zoom: float, within: int) -> None:
    """A mark of 16 x 16 pixels is found in what the canvas shows, and its centre is painted with a brush of a pixel."""
    tab.open("marks")
    tab.press("o")
    tab.wait_for_text("zoom", "100 %")
    for step in range(1, round(abs(np.log2(zoom))) + 1):
        tab.press(key)
        tab.wait_for_text("zoom", f"{100 * (2**step if zoom > 1 else 0.5**step):g} %")
    tab.settle()
    tab.slide("radius", -4)
    for drag in (False, True):
        if drag:
            tab.page.keyboard.down(" ")
            tab.paint(tab.at(0.5, 0.5), tab.at(0.61, 0.37))
            tab.page.keyboard.up(" ")
            tab.settle()
        x, y = tab.find_color(RED)
        # The pixel (744, 536) begins at the mark's centre; half a pixel further is its own centre.
        tab.press("2" if drag else "1")
        tab.page.mouse.click(x + zoom / 2, y + zoom / 2)
        tab.settle()
        left, top, right, bottom = box_of(tab.server.labels(tab.server.find("marks")), 1 if drag else 0)
        assert abs(left - 744) <= within
        assert abs(top - 536) <= within
        assert (right - left, bottom - top) == (1, 1) or within
        tab.press("z")
        assert painted(tab, "marks") == {}


def test_the_wheel_zooms_about_the_pointer(tab: Tab) -> None:
    tab.open("marks")
    x, y = tab.find_color(RED)
    tab.page.mouse.move(x, y)
    for _ in range(12):
        tab.page.mouse.wheel(0, -120)
    wait_until(lambda: float(tab.text("zoom").removesuffix(" %")) > 150, "the zoom")
    tab.settle()
    found = tab.find_color(RED)
    assert np.abs(np.subtract(found, (x, y))).max() <= 5 + 12


def test_what_is_drawn_at_once_is_what_the_server_returns(tab: Tab) -> None:
    """The canvas before the answer differs from the canvas after it only along the edge of the stroke."""
    tab.open("scene")
    tab.page.mouse.move(*tab.at(0.3, 0.3))
    tab.page.mouse.down()
    tab.page.mouse.move(*tab.at(0.6, 0.7), steps=8)
    tab.settle()
    before = tab.pixels().astype(int)
    tab.page.mouse.up()
    assert painted(tab, "scene")
    tab.page.wait_for_timeout(400)
    tab.settle()
    after = tab.pixels().astype(int)
    differs = (np.abs(after - before) > 24).any(-1).mean()
    plain = (np.abs(after - tab.pixels().astype(int)) > 0).any(-1).mean()
    assert plain == 0
    assert differs < 0.01


def test_classes_are_added_renamed_recoloured_merged_and_deleted(tab: Tab) -> None:
    tab.open("scene")
    tab.press("1")
    tab.paint(tab.at(0.4, 0.3), tab.at(0.6, 0.3))
    tab.press("2")
    tab.paint(tab.at(0.4, 0.6), tab.at(0.6, 0.6))
    before = painted(tab, "scene")
    tab.press("c")
    tab.page.keyboard.type("<b>road</b>")
    tab.press("Enter")
    wait_until(lambda: tab.page.locator("#class-list li").count() == 4, "the new class")
    added = tab.server.classes()["<b>road</b>"]
    assert tab.checked("class") == str(added["key"])
    assert tab.page.locator("#class-list .name").last.inner_text() == "<b>road</b>"
    tab.page.locator(f"#class-edit-{added['key']}").click()
    tab.page.fill("#class-name", "hill")
    tab.page.click("#class-save")
    tab.page.wait_for_selector("#class-error:not([hidden])")
    assert "hill" in tab.text("class-error")
    tab.expected.append("409")
    tab.page.fill("#class-name", "road")
    tab.page.fill("#class-color", "#123456")
    tab.page.click("#class-save")
    tab.page.wait_for_selector("#class-dialog", state="hidden")
    assert tab.server.classes()["road"] | {"color": "#123456"} == tab.server.classes()["road"]
    tab.page.locator("#class-edit-0").click()
    tab.page.select_option("#class-into", label="hill")
    tab.page.click("#class-merge")
    tab.page.wait_for_selector("#class-dialog", state="hidden")
    assert set(tab.server.classes()) == {"hill", "field", "road"}
    assert painted(tab, "scene") == {1: before[0] + before[1]}
    tab.page.locator("#class-edit-1").click()
    tab.page.click("#class-delete")
    assert "unlabelled" in tab.text("class-warning")
    tab.page.click("#class-delete")
    tab.page.wait_for_selector("#class-dialog", state="hidden")
    assert set(tab.server.classes()) == {"field", "road"}
    assert painted(tab, "scene") == {}


def test_the_file_that_opens_the_browser_leads_to_the_page(
    tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", tab.page.goto)
    assert _open_browser(f"{tab.server.address}/#token={TOKEN}", tmp_path / "open it.html")
    tab.page.wait_for_selector("#message", state="hidden")
    assert tab.page.url.startswith(tab.server.address)


def test_any_number_of_classes_is_added_with_the_proposed_colour(tab: Tab) -> None:
    tab.open("small")
    for number in range(3, 15):
        tab.press("c")
        tab.page.keyboard.type(f"class {number}")
        tab.press("Enter")
        tab.page.wait_for_selector("#class-dialog", state="hidden")
        assert len(tab.server.classes()) == number + 1
    assert len({one["color"] for one in tab.server.classes().values()}) == 15


def test_two_tabs_see_each_others_strokes_and_each_undoes_its_own(tab: Tab, server: Server) -> None:
    other = Tab(tab.page.context.new_page(), server)
    tab.open("scene")
    other.open("scene")
    other.press("v")
    other.settle()
    before = other.pixels()
    tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
    one = painted(tab, "scene")
    wait_until(lambda: bool((other.pixels() != before).any()), "the stroke in the other tab")
    other.press("2")
    other.paint(other.at(0.4, 0.7), other.at(0.6, 0.7))
    assert len(painted(other, "scene")) == 2
    other.press("z")
    assert painted(other, "scene") == one
    tab.press("z")
    assert painted(tab, "scene") == {}
    wait_until(lambda: bool((other.pixels() == before).all()), "the undo in the other tab")
    assert other.unexpected == []

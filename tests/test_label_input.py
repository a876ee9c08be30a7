"""The page of `fullconv label` with fingers, without a mouse, and on screens of all sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import time

from label_fake import Fake, draw_scenes
from label_tab import Tab, wait_until
from label_tab import open_fake as page
from test_pages import DARKNESS, FAINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser


def fingers(tab: Tab) -> Callable[..., None]:
    """Return what sends the touch event of a kind, with the positions of all fingers, 50 ms after the one before."""
    session, clock = tab.page.context.new_cdp_session(tab.page), [time.time()]

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        clock[0] += 0.05  # seconds: the page compares the times of events
        values = {"type": f"touch{kind}", "touchPoints": touches, "timestamp": clock[0]}
        session.send("Input.dispatchTouchEvent", values)

    return touch


def test_one_finger_paints_and_two_zoom_and_move(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake, width=400, height=800, has_touch=True) as tab:
        tab.open("scene")
        (x, y), zoom, touch = tab.at(0.5, 0.5), tab.text("zoom"), fingers(tab)
        touch("Start", (x - 60, y))
        for step in range(6):
            touch("Move", (x - 60 + 20 * step, y))
        touch("End")
        tab.settle()
        assert (fake.pictures["p0"].mask != 255).sum() > 1000
        touch("Start", (x - 20, y))
        touch("Start", (x - 20, y), (x + 20, y))
        for step in range(1, 9):
            touch("Move", (x - 20 - 5 * step, y), (x + 20 + 5 * step, y))
        touch("End")
        tab.settle()
        ratio = float(tab.text("zoom").removesuffix(" %")) / float(zoom.removesuffix(" %"))
        assert 2.7 < ratio < 3.3
        assert len(fake.requests) == 1, "the first finger of a pinch paints nothing"


def test_a_pinch_and_a_cancelled_touch_leave_a_polygon_as_it_was(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake, width=400, height=800, has_touch=True) as tab:
        tab.open("scene")
        tab.press("p")
        (x, y), touch = tab.at(0.5, 0.5), fingers(tab)
        for corner in ((x - 60, y), (x + 60, y)):
            touch("Start", corner)
            touch("End")
        for cancelled in (False, True):
            touch("Start", (x - 60, y + 60))
            touch("Move", (x - 30, y + 60))
            touch("Move", (x, y + 60))
            if cancelled:
                touch("Cancel")
            else:
                touch("Start", (x, y + 60), (x + 60, y + 60))
                touch("End")
        touch("Start", (x, y + 80))
        touch("End")
        tab.press("Enter")
        tab.settle()
        assert [len(stroke["points"]) for _, stroke in fake.requests] == [3]


def test_the_undo_button_takes_back_a_corner_first(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.open("scene")
        tab.paint(tab.at(0.3, 0.3), tab.at(0.4, 0.3))
        tab.press("p")
        for point in ((0.4, 0.5), (0.6, 0.5), (0.5, 0.6), (0.7, 0.7)):
            tab.page.mouse.click(*tab.at(*point))
        tab.page.click("#undo")
        tab.page.click("#close-polygon")
        tab.settle()
        assert [(stroke["tool"], len(stroke["points"])) for _, stroke in fake.requests[1:]] == [("polygon", 3)]
        assert len(fake.pictures["p0"].strokes) == 2, "no stroke was taken back"


def test_keys_of_other_scripts_are_those_at_their_place(browser: Browser) -> None:
    with page(browser, Fake(draw_scenes(1))) as tab:
        tab.open("scene")
        for key, code, group, value in (
            ("\N{CYRILLIC SMALL LETTER ZE}", "KeyP", "tool", "polygon"),
            ("\N{GREEK SMALL LETTER EPSILON}", "KeyE", "tool", "eraser"),
            ("\N{ARABIC-INDIC DIGIT TWO}", "Digit2", "class", "1"),
            ("b", "KeyN", "tool", "brush"),  # Latin letters are what is printed on the key, on every layout
        ):
            tab.page.evaluate(PRESS, {"key": key, "code": code, "bubbles": True})
            assert tab.checked(group) == value


def test_everything_is_reached_and_painted_without_a_mouse(browser: Browser) -> None:
    fake = Fake(draw_scenes(3))
    with page(browser, fake) as tab:
        tab.open("scene")
        focusable = tab.page.evaluate(FOCUSABLE)
        reached = set()
        for _ in range(len(focusable) + 2):
            tab.press("Tab")
            name, outline = tab.page.evaluate(FOCUSED)
            assert outline != "none", name
            reached.add(name)
        assert set(focusable) <= reached
        tab.page.focus("#canvas")
        tab.press("2", "ArrowLeft", "ArrowLeft")
        tab.page.keyboard.down("Shift")
        tab.press("ArrowRight", "ArrowRight", "ArrowRight")
        tab.page.keyboard.up("Shift")
        tab.settle()
        assert [stroke["tool"] for _, stroke in fake.requests] == ["brush"]
        assert (fake.pictures["p0"].mask == 1).sum() > 500
        tab.press(
            "p", "Enter", "ArrowDown", "ArrowDown", "ArrowDown", "Enter", "ArrowRight", "ArrowRight", "Enter", "Enter"
        )
        tab.settle()
        assert fake.requests[-1][1]["tool"] == "polygon"
        assert len(fake.requests[-1][1]["points"]) == 3
        tab.press("?")
        assert tab.page.locator("#help kbd").count() > 40
        tab.press("Escape", "c")
        tab.page.keyboard.type("tree")
        tab.press("Enter")
        wait_until(lambda: len(fake.classes) == 4, "the new class")
        tab.page.wait_for_selector("#class-dialog", state="hidden")
        assert tab.page.evaluate("document.activeElement.id") == "canvas"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1440])
def test_the_layout_fits_and_texts_stand_out(browser: Browser, width: int, scheme: Literal["light", "dark"]) -> None:
    fake = Fake(
        draw_scenes(9), ("sky", "a class with a long name and no end", *(f"class {number}" for number in range(14)))
    )
    with page(browser, fake, width=width, height=800, color_scheme=scheme) as tab:
        tab.open("scene")
        tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
        tab.settle()
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        assert tab.page.evaluate("document.documentElement.scrollHeight") == 800
        assert tab.page.evaluate(DARKNESS) == (scheme == "dark")
        if width == 400:
            tab.page.click("#panel-toggle")
            tab.page.click("#images-toggle")
            tab.page.wait_for_timeout(300)
        assert tab.page.evaluate(FAINT) == []
        assert tab.page.evaluate(OUTSIDE) == []


PRESS = "values => void document.body.dispatchEvent(new KeyboardEvent('keydown', values))"

FOCUSABLE = """[...document.querySelectorAll('button, input, select, canvas[tabindex]')]
  .filter(e => e.checkVisibility() && e.tabIndex >= 0 && (e.type !== 'radio' || e.checked))
  .map(e => e.id || e.outerHTML.slice(0, 60))"""

FOCUSED = """(() => {
  const e = document.activeElement, box = e.type === 'radio' ? e.parentElement : e;
  if (e === document.body) return ['', ''];
  return [e.id || e.outerHTML.slice(0, 60), getComputedStyle(box).outlineStyle];
})()"""
"""The focused element, and the outline that shows the focus; the outline of a radio button is that of its label."""

OUTSIDE = """[...document.querySelectorAll('header *, #settings *, .tools *, .corner *, footer *')].filter(e => {
  const box = e.getBoundingClientRect();
  return e.checkVisibility() && !e.closest('.sr') && box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map(e => e.outerHTML.slice(0, 80))"""
"""The elements that are cut off at the sides of the window."""

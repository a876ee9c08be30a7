"""A tab of a browser with the page of `fullconv label`, as a person uses it, and what its server holds."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from label_fake import TOKEN, Fake, serving
from waiting import LIMIT, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ["Server", "Tab", "open_fake", "opened"]

TILE = 512
TILES = re.compile("/(photo|labels|prediction)/")

Position = tuple[float, float]


class Server:
    """A running server, asked as any client may ask."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token

    def read(self, path: str) -> tuple[bytes, dict[str, str]]:
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            body = answer.read()
        return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body, headers

    def json(self, path: str) -> Any:
        return json.loads(self.read(path)[0])

    def images(self) -> list[dict[str, Any]]:
        return self.json("/api/images")["images"]

    def find(self, name: str) -> dict[str, Any]:
        return next(row for row in self.images() if row["name"].startswith(name))

    def classes(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.json("/api/project")["classes"]}

    def labels(self, row: dict[str, Any]) -> np.ndarray:
        """Return the labels of an image, height x width uint8, from its tiles."""
        mask = np.zeros((row["height"], row["width"]), np.uint8)
        for top in range(0, row["height"], TILE):
            for left in range(0, row["width"], TILE):
                path = f"/api/images/{row['id']}/labels/0/{left // TILE}/{top // TILE}"
                body, headers = self.read(path)
                width, height = (int(value) for value in headers["x-tile"].split("x"))
                mask[top : top + height, left : left + width] = np.frombuffer(body, np.uint8).reshape(height, width)
        return mask


class Tab:
    """One tab. Every message on its console is an error, unless the test expects it."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.messages: list[str] = []
        self.expected: list[str] = []
        page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.messages.append(f"exception: {error}"))
        self.loading: set[Any] = set()
        page.on("request", lambda request: self.loading.add(request) if TILES.search(request.url) else None)
        page.on("requestfinished", lambda request: self.loading.discard(request))
        page.on("requestfailed", lambda request: self.loading.discard(request))

    def open(self, image: str = "", token: str | None = None) -> Tab:
        token = self.server.token if token is None else token
        chosen = f"&image={self.server.find(image)['id']}" if image else ""
        self.page.goto(f"{self.server.address}/#token={token}{chosen}")
        if image:
            wait_until(lambda: self.text("image-name").startswith(image), f"the image {image}")
            self.page.wait_for_selector("#message", state="hidden")
            self.settle()
        return self

    @property
    def unexpected(self) -> list[str]:
        return [text for text in self.messages if not any(part in text for part in self.expected)]

    def settle(self) -> None:
        """Wait until the canvas shows everything that was asked for."""
        for _ in range(100):
            wait_until(lambda: self.text("saved") == "Saved", "everything saved")
            self.page.wait_for_timeout(200)
            wait_until(self._is_loaded, "the tiles")
            self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            if not self.loading and self.text("saved") == "Saved":
                return
        raise AssertionError("the canvas does not settle")

    def _is_loaded(self) -> bool:
        self.page.wait_for_timeout(20)  # events of requests arrive while the page is waited for
        return not self.loading

    @property
    def corner(self) -> Position:
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        return box["x"], box["y"]

    def pixels(self) -> np.ndarray:
        """Return what the canvas shows, height x width x 3 uint8."""
        url = self.page.evaluate("document.getElementById('canvas').toDataURL('image/png')")
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        return np.asarray(picture.convert("RGB"))

    def find_color(self, color: Sequence[int], near: int = 60) -> Position:
        """Return the centre of all pixels of a colour on the canvas, as a position in the window."""

        def find() -> tuple[np.ndarray, np.ndarray]:
            rows, columns = np.nonzero((np.abs(self.pixels().astype(int) - list(color)) <= near).all(-1))
            return rows, columns

        wait_until(lambda: len(find()[0]) > 0, f"the colour {color} on the canvas")
        self.page.wait_for_timeout(300)
        rows, columns = find()
        x, y = self.corner
        return x + (columns.min() + columns.max() + 1) / 2, y + (rows.min() + rows.max() + 1) / 2

    def paint(self, *points: Position, steps: int = 5, button: Any = "left") -> None:
        """Paint along positions in the window."""
        self.page.mouse.move(*points[0])
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*point, steps=steps)
        self.page.mouse.up(button=button)

    def at(self, x: float, y: float) -> Position:
        """Return a position in the window; `x` and `y` are shares of the canvas."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        return round(box["x"] + box["width"] * x), round(box["y"] + box["height"] * y)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def slide(self, name: str, value: float) -> None:
        """Set a slider to a position."""
        self.page.locator(f"#{name}").evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})) }", value
        )

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").text_content() or ""

    def wait_for_text(self, name: str, start: str) -> None:
        """Wait until the text of an element starts with `start`. The page's policy does not allow wait_for_function."""
        wait_until(lambda: self.text(name).startswith(start), f"{start!r} in #{name}")

    def checked(self, group: str) -> str:
        return str(self.page.locator(f"input[name={group}]:checked").input_value())


@contextmanager
def opened(browser: Browser, server: Server, width: int = 1280, height: int = 800, **options: Any) -> Iterator[Tab]:
    """Give a tab in a context of its own; at the end its console must be empty."""
    context: BrowserContext = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(1000 * LIMIT)
    tab = Tab(context.new_page(), server)
    try:
        yield tab
        assert tab.unexpected == []
    finally:
        context.close()


@contextmanager
def open_fake(browser: Browser, fake: Fake, **options: Any) -> Iterator[Tab]:
    """Serve a fake, and give a tab that is not at its address yet."""
    with serving(fake.app) as address, opened(browser, Server(address, TOKEN), **options) as tab:
        yield tab

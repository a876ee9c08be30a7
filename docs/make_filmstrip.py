"""Draw docs/images/label.jpg and label-strip.jpg: a session of `fullconv label`, from ten strokes to a trained model.

A browser is driven through the whole session, as a person would use it. The photos are the quarters of
`skimage.data.immunohistochemistry`: colonic glands, taken at the Center for Microscopy and Molecular Imaging, with "no
known copyright restrictions". Needs the extras serve and train, scikit-image, playwright, Chromium and some minutes:

    python docs/make_filmstrip.py
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright
from skimage import data

IMAGES = Path(__file__).parent / "images"
MOST_BYTES = 400_000
WINDOW = {"width": 1240, "height": 800}
SIDE = 256
PANEL = 380

Point = tuple[float, float]

EMPTY, TISSUE, GLAND = "1", "2", "3"
"""The keys of the classes."""

STROKES: Sequence[tuple[str, Sequence[Point]]] = (
    (GLAND, [(185, 90), (200, 250)]),
    (GLAND, [(170, 420), (280, 450)]),
    (GLAND, [(130, 60), (230, 130)]),
    (GLAND, [(285, 300), (295, 480)]),
    (TISSUE, [(350, 150), (430, 330)]),
    (TISSUE, [(300, 60), (420, 80)]),
    (TISSUE, [(350, 480), (480, 440)]),
    (EMPTY, [(15, 120), (65, 220)]),
    (EMPTY, [(15, 300), (50, 330)]),
    (EMPTY, [(12, 385), (45, 420)]),
)
"""What is painted on the third photo: a class, and points in 512ths of the photo."""

CORRECTIONS: Sequence[tuple[str, Sequence[Point]]] = (
    (EMPTY, [(80, 105), (140, 215), (180, 290), (235, 375)]),
    (GLAND, [(50, 140), (110, 260), (190, 400)]),
    (GLAND, [(140, 110), (210, 230), (290, 400)]),
    (GLAND, [(300, 60), (370, 330)]),
    (TISSUE, [(395, 60), (470, 250), (440, 450)]),
    (TISSUE, [(40, 370), (80, 450)]),
)
"""What is corrected on the second photo."""

OTHERS: Sequence[tuple[int, Sequence[tuple[str, Sequence[Point]]]]] = (
    (4, [(GLAND, [(60, 180), (180, 320)]), (TISSUE, [(300, 60), (420, 200)]), (EMPTY, [(370, 310), (410, 330)])]),
)
"""Strokes on another photo, before the training."""


def write_photos(folder: Path) -> None:
    """Write the four quarters of the picture, SIDE x SIDE pixels each."""
    picture = Image.fromarray(data.immunohistochemistry())
    half = SIDE
    folder.mkdir()
    for number, (left, top) in enumerate([(0, 0), (half, 0), (0, half), (half, half)], 1):
        part = picture.crop((left, top, left + half, top + half))
        part.save(folder / f"glands-{number}.png")


@contextmanager
def label(photos: Path, out: Path) -> Iterator[str]:
    """Run `fullconv label`, and give the address of its page."""
    command = [sys.executable, "-m", "fullconv", "label", str(photos), "--out", str(out), "--no-browser"]
    command += ["--classes", "empty,tissue,gland"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class Session:
    """The page in a browser."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def text(self, name: str) -> str:
        """Return the text of an element."""
        return self.page.locator(f"#{name}").text_content() or ""

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a condition is true. Raises TimeoutError if it does not become true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the page did not get there")
            time.sleep(0.1)

    def settle(self) -> None:
        """Wait until the model and the canvas stay as they are."""
        before: object = None
        while before != (before := (self.text("model"), self.text("saved"), self.canvas().tobytes())):
            time.sleep(2)

    def open(self, number: int) -> None:
        """Open a photo."""
        name = f"glands-{number}.png"
        self.page.locator("#image-list button", has_text=name).click()
        self.wait(lambda: self.text("image-name") == name)
        self.page.mouse.move(5, 5)
        self.settle()

    def paint(self, strokes: Sequence[tuple[str, Sequence[Point]]]) -> None:
        """Paint strokes with the mouse, and wait for the prediction."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        side = self.shown(box["width"], box["height"])
        left, top, unit = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2, side / 512
        for key, points in strokes:
            self.page.keyboard.press(key)
            places = [(left + x * unit, top + y * unit) for x, y in points]
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place, steps=12)
            self.page.mouse.up()
            time.sleep(0.3)
        self.page.mouse.move(5, 5)
        self.settle()

    @staticmethod
    def shown(width: float, height: float) -> float:
        """Return the side of a photo that the page fits into its canvas."""
        return min(width, height) * 0.96

    def canvas(self) -> Image.Image:
        """Return the photo as the canvas shows it."""
        url = self.page.evaluate("document.getElementById('canvas').toDataURL('image/png')")
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        side = self.shown(*picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        return picture.crop((round(left), round(top), round(left + side), round(top + side)))

    def train(self) -> None:
        """Train on the labels, and wait for the new model."""
        self.page.click("#train-start")
        self.wait(lambda: self.page.locator("#train-cancel").is_visible())
        self.wait(lambda: self.page.locator("#train-start").is_visible(), 3600)
        print(self.text("train-message"), self.text("train-scores"))
        self.settle()


def show(session: Session) -> tuple[list[tuple[str, Image.Image]], bytes]:
    """Go through the session; return the panels with their captions, and a picture of the window."""
    panels = []
    session.open(3)
    panels.append(("Photos", session.canvas()))
    session.page.keyboard.press("s")
    session.paint(STROKES[:-1])
    session.page.keyboard.press("v")
    session.paint(STROKES[-1:])
    panels.append(("Ten strokes", session.canvas()))
    session.page.keyboard.press("v")
    session.page.keyboard.press("v")
    session.page.keyboard.press("v")
    session.settle()
    panels.append(("Prediction, at once", session.canvas()))
    window = session.page.screenshot(type="png")
    session.open(2)
    session.paint(CORRECTIONS)
    panels.append(("Next photo, corrected", session.canvas()))
    for number, strokes in OTHERS:
        session.open(number)
        session.paint(strokes)
    session.train()
    session.open(2)
    session.page.locator("input[name=shown][value=prediction]").check()
    session.settle()
    panels.append(("Trained on all labels", session.canvas()))
    return panels, window


def draw_strip(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return the panels in a row, with their numbers and captions below."""
    gap, foot = 12, 48
    strip = Image.new("RGB", (len(panels) * (PANEL + gap) - gap, PANEL + foot), "white")
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 22)
    draw = ImageDraw.Draw(strip)
    for number, (caption, panel) in enumerate(panels):
        left = number * (PANEL + gap)
        strip.paste(panel.resize((PANEL, PANEL), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left + 2, PANEL + 10), f"{number + 1}  {caption}", "#1b1d22", font)
    return strip


def save(picture: Image.Image, path: Path) -> None:
    """Save a picture as JPEG with the best quality below MOST_BYTES."""
    for quality in range(90, 40, -5):
        file = io.BytesIO()
        picture.convert("RGB").save(file, "JPEG", quality=quality, optimize=True, progressive=True)
        if file.tell() < MOST_BYTES * 0.6:
            break
    path.write_bytes(file.getvalue())
    print(path, file.tell())


def main() -> None:
    """Draw both pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_photos(Path(folder) / "glands")
        with label(Path(folder) / "glands", Path(folder) / "labels") as address:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
            page.goto(address)
            page.wait_for_selector("#image-list button")
            panels, window = show(Session(page))
            browser.close()
    save(draw_strip(panels), IMAGES / "label-strip.jpg")
    save(Image.open(io.BytesIO(window)), IMAGES / "label.jpg")


if __name__ == "__main__":
    main()

"""Draw docs/images/label.jpg and label-strip.jpg: a session of `fullconv label`, from ten strokes to a trained model.

A browser is driven through the whole session, as a person would use it. The photos are the quarters of
`skimage.data.immunohistochemistry`: colonic glands, taken at the Center for Microscopy and Molecular Imaging, "no known
copyright restrictions". Needs the extras serve and train, scikit-image, playwright and Chromium; takes some minutes on a
CPU:

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
SIDE = 512
PANEL = 380

Point = tuple[float, float]

STROKES: Sequence[tuple[str, Sequence[Point]]] = (
    ("1", [(185, 90), (200, 250)]),
    ("1", [(170, 420), (280, 450)]),
    ("1", [(130, 60), (230, 130)]),
    ("1", [(285, 300), (295, 480)]),
    ("2", [(350, 150), (430, 330)]),
    ("2", [(300, 60), (420, 80)]),
    ("2", [(350, 480), (480, 440)]),
    ("3", [(15, 120), (65, 220)]),
    ("3", [(15, 300), (50, 330)]),
    ("3", [(10, 80), (30, 100)]),
)
"""The key of a class, and points in the pixels of the third photo: gland, tissue, empty."""

CORRECTIONS: Sequence[tuple[str, Sequence[Point]]] = (
    ("3", [(90, 130), (140, 215), (180, 290), (235, 375)]),
    ("2", [(395, 60), (470, 250)]),
)
"""What is corrected on the second photo."""


def write_photos(folder: Path) -> None:
    """Write the four quarters of the picture, enlarged to SIDE x SIDE pixels."""
    picture = Image.fromarray(data.immunohistochemistry())
    half = picture.width // 2
    folder.mkdir()
    for number, (left, top) in enumerate([(0, 0), (half, 0), (0, half), (half, half)], 1):
        part = picture.crop((left, top, left + half, top + half)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        part.save(folder / f"glands-{number}.png")


@contextmanager
def label(photos: Path, out: Path) -> Iterator[str]:
    """Run `fullconv label`, and give the address of its page."""
    command = [sys.executable, "-m", "fullconv", "label", str(photos), "--out", str(out), "--no-browser"]
    command += ["--classes", "gland,tissue,empty"]
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
        return self.page.locator(f"#{name}").text_content() or ""

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
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
        name = f"glands-{number}.png"
        self.page.locator("#image-list button", has_text=name).click()
        self.wait(lambda: self.text("image-name") == name)
        self.page.mouse.move(5, 5)
        self.settle()

    def paint(self, strokes: Sequence[tuple[str, Sequence[Point]]]) -> None:
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        scale = float(self.page.evaluate("innerWidth") and self.scale(box["width"], box["height"]))
        left, top = box["x"] + box["width"] / 2 - SIDE / 2 * scale, box["y"] + box["height"] / 2 - SIDE / 2 * scale
        for key, points in strokes:
            self.page.keyboard.press(key)
            places = [(left + x * scale, top + y * scale) for x, y in points]
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place, steps=12)
            self.page.mouse.up()
            time.sleep(0.3)
        self.page.mouse.move(5, 5)
        self.settle()

    @staticmethod
    def scale(width: float, height: float) -> float:
        """Return the scale at which the page fits a photo into its canvas."""
        return min(width, height) * 0.96 / SIDE

    def canvas(self) -> Image.Image:
        """Return the photo as the canvas shows it."""
        url = self.page.evaluate("document.getElementById('canvas').toDataURL('image/png')")
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        side = self.scale(*picture.size) * SIDE
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        return picture.crop((round(left), round(top), round(left + side), round(top + side)))

    def train(self) -> None:
        """Train on the labels, and wait for the new model."""
        self.page.click("#train-start")
        self.wait(lambda: self.page.locator("#train-start").is_visible(), 900)
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
    for number in (2, 3, 1, 4):
        session.open(number)
        session.page.keyboard.press("Shift+A")
        session.settle()
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

"""Scenes of real handwritten digits: a data set without download, for training in minutes.

The digits are the 1,797 images of 8 x 8 pixels in scikit-learn (Alpaydin and Kaynak, "Optical Recognition of
Handwritten Digits", UCI, 1998). They are enlarged, coloured and painted on a textured background. All random numbers
are integers of a numpy Generator, so a seed gives the same pixels on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.classes import write_description
from fullconv.errors import MissingExtra, UsageError
from fullconv.files import atomic_folder, check_new_folder
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet

__all__ = ["DIGIT_LABELS", "make_digit_patches", "make_digit_scenes", "read_digit_samples", "write_digit_dataset"]

_COLORS = {
    "background": (0, 0, 0),
    "zero": (230, 25, 75),
    "one": (60, 180, 75),
    "two": (255, 225, 25),
    "three": (0, 130, 200),
    "four": (245, 130, 48),
    "five": (145, 30, 180),
    "six": (70, 240, 240),
    "seven": (240, 50, 230),
    "eight": (210, 245, 60),
    "nine": (250, 190, 212),
}

DIGIT_LABELS = LabelSet(tuple(_COLORS), tuple(_COLORS.values()))
"""Class 0 is the background, class d + 1 the digit d."""

SPLITS = ("train", "val")
HELD_OUT = 360
"""The last fifth of the digits is for val. There is no shuffle: neighbours in the file often have the same writer."""

MIN_SIDE = 48
SIDES = (40, 53)
"""Bounds of the height in pixels of an enlarged digit with its margin, which has 10 x 10 pixels before."""

INK = 130
"""Least value of enlarged ink, 0..240, that belongs to a stroke. Strokes are then thickened by one pixel."""

AREA_PER_DIGIT = 3600
CLEAR_OF_MIDDLE = 12
KINDS = ("scene", "patch")


@cache
def _load() -> tuple[UInt8, UInt8]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("scikit-learn", "train") from None
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.uint8)


def read_digit_samples(split: str) -> tuple[UInt8, UInt8]:
    """Read the digits of a split: images, N x 8 x 8 uint8 ink of 0..16, and digits, N uint8 of 0..9.

    Raises UsageError for a split other than train and val, MissingExtra without scikit-learn.
    """
    if split not in SPLITS:
        raise UsageError(f"the digits have the splits train and val, not {split!r}", code="unknown-digit-split")
    images, digits = _load()
    part = slice(None, -HELD_OUT) if split == "train" else slice(-HELD_OUT, None)
    return images[part].copy(), digits[part].copy()


def make_digit_scenes(
    count: int, size: tuple[int, int] = (128, 160), seed: int = 0, split: str = "train"
) -> tuple[UInt8, UInt8]:
    """Make scenes with several digits: count x H x W x 3 uint8 RGB, and targets, count x H x W uint8 of 0..10.

    Targets label the strokes, not the boxes. Digits are completely inside the scene and hardly overlap.
    Scene i depends only on size, seed, split and i.
    Raises UsageError for sides under 48 and for a split other than train and val.
    """
    samples = _read_samples(min(size), split)
    images, targets = np.empty((count, *size, 3), np.uint8), np.empty((count, *size), np.uint8)
    for index in range(count):
        scene = _Scene(_make_generator(seed, split, "scene", index), size)
        most = max(2, size[0] * size[1] // AREA_PER_DIGIT)
        for _ in range(int(scene.rng.integers(most // 2, most + 1))):
            scene.add(_Glyph.draw(scene.rng, samples))
        images[index], targets[index] = scene.finish()
    return images, targets


def make_digit_patches(
    count: int, size: int = 48, seed: int = 0, split: str = "train", jitter: int = 4
) -> tuple[UInt8, Int64]:
    """Make patches to train a classifier: count x size x size x 3 uint8 RGB, and labels, count int64 of 0..10.

    Patches look like windows of scenes. Three in four have a digit within `jitter` pixels of the middle, which is
    their class. The others have label 0, and no digit has its centre within 12 pixels of their middle. Parts of other
    digits are visible in both. Patch i depends only on the arguments except `count`, and on i.
    Raises UsageError as `make_digit_scenes` does.
    """
    samples = _read_samples(size, split)
    patches, labels = np.empty((count, size, size, 3), np.uint8), np.zeros(count, np.int64)
    for index in range(count):
        scene = _Scene(_make_generator(seed, split, "patch", index), (size, size))
        rng = scene.rng
        if rng.integers(4) > 0:
            glyph = _Glyph.draw(rng, samples)
            dy, dx = rng.integers(-jitter, jitter + 1, 2).tolist()
            scene.paint(glyph, size // 2 + dy, size // 2 + dx)
            labels[index] = glyph.label
        for _ in range(int(rng.integers(1, 5))):
            y, x = rng.integers(-12, size + 13, 2).tolist()
            if max(abs(y - size // 2), abs(x - size // 2)) > CLEAR_OF_MIDDLE:
                scene.paint(_Glyph.draw(rng, samples), y, x)
        patches[index], _ = scene.finish()
    return patches, labels


def write_digit_dataset(
    root: Path | str, train: int = 200, val: int = 50, size: tuple[int, int] = (128, 160), seed: int = 0
) -> Path:
    """Write digit scenes to the folder `root` in the folder layout, with `DIGIT_LABELS` in dataset.yaml.

    Returns the absolute path of the folder, which is written atomically.
    Raises UsageError as `check_new_folder` does.
    """
    root = Path(root).absolute()
    check_new_folder(root)
    with atomic_folder(root) as partial:
        for split, count in (("train", train), ("val", val)):
            _write_split(partial, split, *make_digit_scenes(count, size, seed, split))
        names = {"names": [*DIGIT_LABELS.class_names], "palette": [list(c) for c in DIGIT_LABELS.palette]}
        write_description(partial, names)
    return root


def _write_split(root: Path, split: str, images: UInt8, targets: UInt8) -> None:
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        write_image(root / "images" / split / f"{index:04d}.png", image)
        write_label_map(root / "masks" / split / f"{index:04d}.png", target, DIGIT_LABELS)


def _read_samples(side: int, split: str) -> tuple[UInt8, UInt8]:
    if side < MIN_SIDE:
        message = f"scenes of digits need at least {MIN_SIDE} pixels on each side, not {side}"
        raise UsageError(message, code="scene-too-small")
    return read_digit_samples(split)


def _make_generator(seed: int, split: str, kind: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), KINDS.index(kind), index])


@dataclass(frozen=True)
class _Glyph:
    """An enlarged digit: its opacity, h x w int64 of 0..256, its strokes, h x w bool, and its class."""

    opacity: Int64
    stroke: Mask
    label: int

    @classmethod
    def draw(cls, rng: np.random.Generator, samples: tuple[UInt8, UInt8]) -> _Glyph:
        """Draw one of the samples at random, enlarge it, and crop it to its strokes."""
        index = int(rng.integers(len(samples[0])))
        height = int(rng.integers(*SIDES))
        width = height + int(rng.integers(-3, 4))
        ink = Image.fromarray(np.pad(samples[0][index], 1) * np.uint8(15))
        ink = ink.resize((width, height), Image.Resampling.BICUBIC)
        values = np.asarray(ink).astype(np.int64)
        stroke = np.asarray(Image.fromarray(values >= INK).filter(ImageFilter.MaxFilter(3))) > 0
        rows, columns = np.flatnonzero(stroke.any(1)), np.flatnonzero(stroke.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        opacity = np.clip((values - INK + 44) * 4, 0, 256) * stroke
        return cls(opacity[box], stroke[box], int(samples[1][index]) + 1)


class _Scene:
    """A canvas, H x W x 3 int64 of about 0..255, and its target, H x W uint8, on which digits are painted."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.canvas = _make_ground(rng, size)
        self.target = np.zeros(size, np.uint8)

    def add(self, glyph: _Glyph) -> None:
        """Paint the glyph at a random free position. Do nothing if 20 random positions are not free."""
        height, width = glyph.stroke.shape
        for _ in range(20):
            top = int(self.rng.integers(self.target.shape[0] - height + 1))
            left = int(self.rng.integers(self.target.shape[1] - width + 1))
            if self.paint(glyph, top + height // 2, left + width // 2):
                return

    def paint(self, glyph: _Glyph, y: int, x: int) -> bool:
        """Paint the glyph with its centre at (y, x), cropped at the border.

        Return False if it would be outside or would cover the strokes of another.
        """
        height, width = glyph.stroke.shape
        top, left = y - height // 2, x - width // 2
        rows = slice(max(top, 0), min(top + height, self.target.shape[0]))
        columns = slice(max(left, 0), min(left + width, self.target.shape[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return False
        part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        stroke, opacity = glyph.stroke[part], glyph.opacity[part][..., None]
        if np.count_nonzero(stroke & (self.target[rows, columns] > 0)) * 25 > np.count_nonzero(stroke):
            return False
        ground = self.canvas[rows, columns]
        opacity = opacity * int(self.rng.integers(200, 257)) >> 8
        color = _pick_contrasting_color(self.rng, ground)
        self.canvas[rows, columns] = (ground * (256 - opacity) + color * opacity) >> 8
        self.target[rows, columns][stroke] = glyph.label
        return True

    def finish(self) -> tuple[UInt8, UInt8]:
        """Return the image with sensor noise, and its target."""
        grain = self.rng.integers(-7, 8, self.canvas.shape) + self.rng.integers(-7, 8, self.canvas.shape)
        return np.clip(self.canvas + grain, 0, 255).astype(np.uint8), self.target


def _make_ground(rng: np.random.Generator, size: tuple[int, int]) -> Int64:
    """Return a background: a muted colour with soft spots of three sizes, mostly lighter or darker."""
    base = rng.integers(24, 232, 3)
    ground = np.tile((base + 3 * int(base.sum()) // 3) // 4, (*size, 1))
    for cell, strength in ((40, 44), (14, 26), (5, 20)):
        shape = (size[0] // cell + 3, size[1] // cell + 3)
        noise = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
        noise = noise.resize((shape[1] * cell, shape[0] * cell), Image.Resampling.BICUBIC)
        y, x = rng.integers(cell, 2 * cell, 2).tolist()
        blotches = np.asarray(noise).astype(np.int64)[y : y + size[0], x : x + size[1]] - 128
        ground += (3 * blotches[..., :1] + blotches) * strength >> 9
    return ground


def _pick_contrasting_color(rng: np.random.Generator, ground: Int64) -> Int64:
    """Return a vivid colour whose luma differs from that of the ground, h x w x 3, by at least 80 of 255."""
    luma = np.array([77, 150, 29])
    ground_luma = int(ground.sum((0, 1)) @ luma) // (ground.shape[0] * ground.shape[1]) >> 8
    while True:
        color = rng.integers(0, 256, 3)
        color = np.clip(color * 2 - int(color.sum()) // 3, 0, 255)
        if abs((int(color @ luma) >> 8) - ground_luma) >= 80:
            return color

"""Folders of photos for the tests of label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.label.store.canvas import Canvas
from fullconv.label.store.store import Store
from fullconv.label.store.strokes import Stroke, brush

__all__ = ["draw_line", "ids", "keys_of", "line", "make_photo", "make_photos"]


def make_photo(path: Path, size: tuple[int, int] = (60, 80), seed: int = 0) -> UInt8:
    """Write a photo with a bright right half; `size` is (height, width)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    pixels[:, size[1] // 2 :] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def make_photos(folder: Path, names: Sequence[str] = ("a.png", "b.png", "c.png")) -> Path:
    for number, name in enumerate(names):
        make_photo(folder / name, seed=number)
    return folder


def draw_line(canvas: Canvas, client: str, key: int, points: Sequence[Sequence[float]], radius: float = 2.0) -> Stroke:
    return brush(canvas.size, client, key, np.array(points, np.float64), radius)


def line(points: list[list[float]], key: int = 0, radius: float = 3, client: str = "a") -> Callable[[Canvas], Stroke]:
    """Return what `Store.paint` takes."""
    return lambda canvas: draw_line(canvas, client, key, points, radius)


def ids(store: Store) -> dict[str, str]:
    return {photo.name: photo.id for photo in store.source.photos}


def keys_of(store: Store, id: str) -> UInt8:
    height, width = store.size(id)
    return store.read(id, range(height), range(width))

"""What every decoder gives: an image that is read in windows, and where it lies on Earth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fullconv.images.decoders.values import Mask, UInt8, wrong_bands

__all__ = ["GeoTags", "ImageReader", "RowCache", "bands_read"]

STEP = 128
"""Rows that are decoded and converted at once."""


@dataclass(frozen=True)
class GeoTags:
    """Where on Earth an image is: rasterio's CRS and affine transform or ground control points, or tifffile's tags."""

    crs: Any = None
    transform: Any = None
    gcps: Any = None
    tags: tuple[tuple[int, int, int, Any, bool], ...] = ()


class ImageReader(Protocol):
    """An image of `size` (height, width) to be read in windows; `by_rows` where its blocks are as wide as itself.

    A block, which is decoded at once, holds `block_bytes` of pixels; 0 where nothing is gained by smaller ones.
    `geo` is None where the file does not say where the image lies, `note` says which bands are read, if not all,
    and `masked` whether some pixels may hold no data.
    """

    size: tuple[int, int]
    block_bytes: int
    by_rows: bool
    geo: GeoTags | None
    note: str
    masked: bool

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window: h x w x C uint8, RGB where C is 3, and which pixels hold no data, h x w; None where all do.

        Pixels without data are 0. Raises DataError for damage, and for values that 8 bits cannot stand for.
        """
        ...


def bands_read(path: Path, count: int, alpha: bool, channels: int) -> tuple[int, str]:
    """Return how many of a file's `count` bands are read for `channels`, and a note where more than alpha is left out.

    Raises DataError where a file has not the bands of a model that does not take RGB.
    """
    if channels == 3:
        read = 3 if count >= 3 else 1
        first = "the first 3 are" if read == 3 else "the first is"
        return read, "" if count - alpha in (1, 3) else f"{count} bands, of which {first} read"
    if channels not in (count, count - alpha):
        raise wrong_bands(path, count, channels)
    return channels, ""


class RowCache:
    """A reader of a file that is stored by rows, read from the top to the bottom once.

    Decoders of PNG and JPEG start from the top again for a window above the last one. So rows are read in their whole
    width, and those that the next window shares with the last one are kept: rows of one tile are in memory.
    """

    by_rows = True

    def __init__(self, reader: ImageReader, channels: int = 3) -> None:
        self._channels = channels
        self.size, self.geo, self.note, self.masked = reader.size, reader.geo, reader.note, reader.masked
        self.block_bytes, self._reader = reader.block_bytes, reader
        self._rows = range(0)
        self._pixels: UInt8 = np.empty((0, self.size[1], channels), np.uint8)
        self._empty: Mask | None = None

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """As `ImageReader.read`."""
        if rows.start < self._rows.start or rows.stop > self._rows.stop:
            self._move(rows)
        top = rows.start - self._rows.start
        window = slice(top, top + len(rows)), slice(columns.start, columns.stop)
        return self._pixels[window], None if self._empty is None else self._empty[window]

    def _move(self, rows: range) -> None:
        """Hold `rows`: shared ones from before, the others from the file."""
        shared = range(rows.start, self._rows.stop) if rows.start in self._rows else range(rows.start, rows.start)
        pixels = np.empty((len(rows), self.size[1], self._channels), np.uint8)
        empty = np.zeros(pixels.shape[:2], np.bool_)
        if shared:
            kept = slice(rows.start - self._rows.start, None)
            pixels[: len(shared)] = self._pixels[kept]
            empty[: len(shared)] = False if self._empty is None else self._empty[kept]
        self._pixels, self._empty = pixels[:0], None  # what was is free before more is read
        for top in range(shared.stop, rows.stop, STEP):
            part = range(top, min(top + STEP, rows.stop))
            here = slice(top - rows.start, part.stop - rows.start)
            pixels[here], missing = self._reader.read(part, range(self.size[1]))
            empty[here] = False if missing is None else missing
        self._rows, self._pixels, self._empty = rows, pixels, empty if empty.any() else None

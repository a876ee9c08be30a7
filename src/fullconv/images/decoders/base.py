"""The interface of all decoders: an image that is read in windows, and its georeference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Mask, UInt8
from fullconv.images.decoders.values import band_count_error
from fullconv.images.input_format import InputFormat

__all__ = [
    "BLOCK",
    "GeoTags",
    "ImageReader",
    "NumberReader",
    "PageReader",
    "ReducingReader",
    "RowCache",
    "select_bands",
]

STEP = 128
"""Rows that are decoded and converted at once."""

BLOCK = 512
"""Side of the tiles of a written TIFF. Bands of rows that are written must have this height."""


@dataclass(frozen=True)
class GeoTags:
    """The georeference of an image file, to be written to its label map.

    rasterio gives a CRS and an affine transform or ground control points, tifffile the raw GeoTIFF tags.
    """

    crs: Any = None
    transform: Any = None
    gcps: Any = None
    tags: tuple[tuple[int, int, int, Any, bool], ...] = ()


class ImageReader(Protocol):
    """An image that is read in windows.

    Attributes:
        size: (height, width) in pixels.
        block_bytes: Size of the pixels of one block, which is decoded at once; 0 if smaller blocks save no memory.
        by_rows: Whether the blocks are as wide as the image.
        geo: The georeference; None if the file has none.
        note: A sentence about bands that are not read; empty if all are.
        masked: Whether some pixels may hold no data.
    """

    size: tuple[int, int]
    block_bytes: int
    by_rows: bool
    geo: GeoTags | None
    note: str
    masked: bool

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window: h x w x C uint8 (RGB if C is 3), and an h x w mask of the pixels without data.

        The mask is None if all pixels hold data. Pixels without data are 0. Raises DataError for damaged files, and for
        values that have no rule for 8 bits.
        """
        ...


@runtime_checkable
class ReducingReader(ImageReader, Protocol):
    """An `ImageReader` of a file that may hold smaller copies of itself."""

    def overview_steps(self) -> list[int]:
        """Return the reductions at which the file holds smaller copies of itself."""
        ...

    def read_reduced(self, rows: range, columns: range, step: int) -> UInt8:
        """Read about every `step`-th pixel of a window from the copies in the file; without copies, this is slow."""
        ...

    def read_sparse(self, rows: range, columns: range, step: int) -> UInt8:
        """Read every `step`-th pixel of every `step`-th row of a window; only these are converted to 8 bits."""
        ...


@runtime_checkable
class NumberReader(ImageReader, Protocol):
    """An `ImageReader` that also gives the stored numbers."""

    def numbers(self, rows: range, columns: range) -> tuple[npt.NDArray[Any], Mask | None]:
        """Read the stored numbers of a window, h x w x bands, and the mask of the pixels without data."""
        ...


class PageReader(NumberReader, Protocol):
    """A page of a TIFF."""

    @property
    def bits(self) -> int:
        """Bits of each number."""
        ...

    @property
    def inverted(self) -> bool:
        """Whether 0 is white."""
        ...


def select_bands(path: Path, count: int, alpha: bool, input: InputFormat) -> tuple[int, str]:
    """Return how many of a file's `count` bands are read, and a note if a band other than alpha is not read.

    Raises DataError unless `input` has 3 channels (RGB) or as many as the file has bands.
    """
    if input.channels == 3:
        read = 3 if count >= 3 else 1
        first = "the first 3 are" if read == 3 else "the first is"
        return read, "" if count - alpha in (1, 3) else f"{count} bands, of which {first} read"
    if input.channels not in (count, count - alpha):
        raise band_count_error(path, count, input)
    return input.channels, ""


class RowCache:
    """An `ImageReader` that reads a file stored by rows once, from top to bottom.

    Decoders of PNG and JPEG start again at the top for a window above the previous one. The cache therefore reads whole
    rows and holds those that the next window shares with the previous one: the rows of one tile are in memory.
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
        """Read a window as `ImageReader.read` does."""
        if rows.start < self._rows.start or rows.stop > self._rows.stop:
            self._move(rows)
        top = rows.start - self._rows.start
        window = slice(top, top + len(rows)), slice(columns.start, columns.stop)
        return self._pixels[window], None if self._empty is None else self._empty[window]

    def _move(self, rows: range) -> None:
        """Fill the cache with `rows`: copy those that it holds already, and read the others from the file."""
        shared = range(rows.start, self._rows.stop) if rows.start in self._rows else range(rows.start, rows.start)
        pixels = np.empty((len(rows), self.size[1], self._channels), np.uint8)
        empty = np.zeros(pixels.shape[:2], np.bool_)
        if shared:
            held = slice(rows.start - self._rows.start, None)
            pixels[: len(shared)] = self._pixels[held]
            empty[: len(shared)] = False if self._empty is None else self._empty[held]
        self._pixels, self._empty = pixels[:0], None  # frees the old rows before more are read
        for top in range(shared.stop, rows.stop, STEP):
            part = range(top, min(top + STEP, rows.stop))
            here = slice(top - rows.start, part.stop - rows.start)
            pixels[here], missing = self._reader.read(part, range(self.size[1]))
            empty[here] = False if missing is None else missing
        self._rows, self._pixels, self._empty = rows, pixels, empty if empty.any() else None

"""Images read window by window: GeoTIFF and BigTIFF, PNG and JPEG through GDAL, TIFF through tifffile, others whole.

Pixels follow the rules of bit depths of `bands.read_bands`. Where RGB is wanted, of more than three bands the first
three are read, of two the first one, and `note` says so. A TIFF's nodata value, mask or alpha tells
which pixels hold no data; they come out black. Arrays in .npy files are read where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH

from fullconv.data.bands import (
    TIFF_STARTS,
    ValueRange,
    band_size,
    is_array,
    is_tiff,
    open_array,
    read_bands,
    tiff_tags,
    to_bytes,
    wrong_bands,
)
from fullconv.errors import DataError
from fullconv.image import eight_bits, image_header

__all__ = [
    "GEO_KEYS",
    "PLACE_LOST",
    "ArrayRaster",
    "Bands",
    "Coding",
    "Mask",
    "Origin",
    "Raster",
    "WholeRaster",
    "bands_read",
    "header",
    "open_raster",
]

LARGEST_BLOCK = 2**28
"""Bytes of the largest block, a tile or a strip of rows, that is decoded at once."""

MOST_PIXELS = 2**40
"""More are no image's: a damaged header can claim them."""

PLACE_LOST = (
    "GeoTIFFs are read without their georeference and nodata value, which the labels lose; "
    "to keep them, run: pip install 'fullconv[geo]'"
)

GEO_KEYS = 34735
"""The tag of a TIFF's coordinate reference system."""

UInt8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Origin:
    """Where on Earth an image is: rasterio's CRS and affine transform or ground control points, or tifffile's tags."""

    crs: Any = None
    transform: Any = None
    gcps: Any = None
    tags: tuple[tuple[int, int, int, Any, bool], ...] = ()


class Raster(Protocol):
    """An image of `size` (height, width) to be read in windows; `by_rows` where its blocks are as wide as itself.

    A block, which is decoded at once, holds `block_bytes` of pixels; 0 where nothing is gained by smaller ones.
    """

    size: tuple[int, int]
    block_bytes: int
    by_rows: bool
    origin: Origin | None
    note: str

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """A window as h x w x C uint8, RGB where C is 3, and which pixels hold no data, h x w; None where all do.

        Raises DataError for damage, and for values that 8 bits cannot stand for.
        """
        ...


@dataclass(frozen=True)
class Coding:
    """What a file's numbers mean: entries of a palette (n x 3 uint8), grey of 1, 2 or 4 `bits`, or white at 0.

    `channels` are those that are wanted, and `value_range` the numbers that become 0 and 255.
    """

    path: Path
    palette: UInt8 | None = None
    bits: int = 8
    inverted: bool = False
    channels: int = 3
    value_range: ValueRange | None = None

    def bytes_of(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """h x w x bands of any numbers to h x w x `channels` uint8, black where `empty`; one band stands for RGB."""
        if self.palette is not None or (self.channels == 3 and self.value_range is None):
            return self._rgb(stored, empty)
        if self.channels == 1 and self.value_range is None:
            return self._rgb(stored, empty)[..., :1]
        if empty is not None:
            stored = np.where(empty[..., None], stored.dtype.type(0), stored)
        found = to_bytes(stored, self.value_range, self.path)
        return self._black(found if found.shape[2] == self.channels else np.repeat(found, self.channels, axis=2), empty)

    def _rgb(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """h x w x 1 or 3 numbers of any type to h x w x 3 uint8 RGB, black where `empty`."""
        if stored.dtype.kind not in "buif" or stored.dtype == np.int8:
            raise DataError(
                f"{self.path}: pixels of type {stored.dtype}; save 8 or 16 bits without sign", code="unsupported-format"
            )
        if empty is not None:
            stored = np.where(empty[..., None], stored.dtype.type(0), stored)
        if self.palette is not None:
            return self._black(self.palette[stored[..., 0]], empty)
        if stored.dtype == np.bool_ or (stored.dtype == np.uint8 and self.bits in (1, 2, 4)):
            bits = 1 if stored.dtype == np.bool_ else self.bits
            stored = stored.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
        elif stored.dtype == np.uint16 and stored.shape[2] == 3:
            stored = (stored >> 8).astype(np.uint8)
        elif stored.dtype != np.uint8:
            stored = eight_bits(stored, self.path)
        rgb = np.repeat(stored, 3, axis=2) if stored.shape[2] == 1 else stored
        return self._black(255 - rgb, empty) if self.inverted else rgb

    @staticmethod
    def _black(rgb: UInt8, empty: Mask | None) -> UInt8:
        if empty is not None:
            rgb[empty] = 0
        return rgb


def bands_read(path: Path, count: int, alpha: bool, channels: int) -> tuple[int, str]:
    """How many of a file's `count` bands are read for `channels`, and a note where more than alpha is left out.

    Raises DataError where a file has not the bands of a model that does not take RGB.
    """
    if channels == 3:
        read = 3 if count >= 3 else 1
        first = "the first 3 are" if read == 3 else "the first is"
        return read, "" if count - alpha in (1, 3) else f"{count} bands, of which {first} read"
    if channels not in (count, count - alpha):
        raise wrong_bands(path, count, channels)
    return channels, ""


def _check_block(path: Path, size: int) -> None:
    if size > LARGEST_BLOCK:
        raise DataError(
            f"{path}: one block holds {size / 2**20:,.0f} MiB of pixels; "
            "write the file in tiles (gdal_translate -co TILED=YES)",
            code="too-large",
        )


@contextmanager
def open_raster(
    path: Path, channels: int = 3, value_range: ValueRange | None = None, whole: bool = False
) -> Iterator[Raster]:
    """The image as it is best read in windows, of `channels` and with `value_range` as in `bands.read_bands`.

    Through rasterio where it is installed, else TIFF through tifffile where that is; whole where neither can, or where
    its orientation says that the pixels lie turned. Raises DataError for files that are damaged or not images, and
    unless it is to be read `whole`, for blocks of more than `LARGEST_BLOCK`.
    """
    if is_array(path):
        yield ArrayRaster(path, channels, value_range)
        return
    (height, width), orientation = header(path)
    if height * width > MOST_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels, which no image has; copy or export it again", code="too-large"
        )
    upright = orientation == 1
    with ExitStack() as stack:
        found: Raster
        driver = next((name for name, starts in _DRIVERS.items() if _starts(path, starts)), None)
        if upright and driver and find_spec("rasterio"):
            from fullconv.run.gdal import gdal_raster

            found = stack.enter_context(gdal_raster(path, driver, channels, value_range))
        elif upright and is_tiff(path) and find_spec("tifffile") and _through_tifffile(path):
            from fullconv.run.tiff import tiff_raster

            found = stack.enter_context(tiff_raster(path, channels, value_range))
        else:
            found = WholeRaster(path, channels, value_range)
        if not whole:
            _check_block(path, found.block_bytes)
        yield Bands(found, channels) if found.by_rows else found


_DRIVERS = {"GTiff": TIFF_STARTS, "PNG": (b"\x89PNG",), "JPEG": (b"\xff\xd8\xff",)}
"""GDAL's drivers that are used, by a file's first bytes; others may follow links to other files or to the network."""


def header(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) as stored and the EXIF orientation, as `image.image_header`; also of arrays and any TIFF.

    Pillow does not know what cameras do not write: several bands of floats, five bands of 16 bits. Raises DataError.
    """
    if is_array(path):
        return band_size(path), 1
    try:
        return image_header(path)
    except DataError:
        if not path.is_file() or not is_tiff(path):
            raise
        tags = tiff_tags(path)
        return (int(tags[IMAGELENGTH]), int(tags[IMAGEWIDTH])), int(tags.get(ExifTags.Base.Orientation, 1))


def _through_tifffile(path: Path) -> bool:
    """Whether tifffile decodes it, or only tifffile could tell where it lies."""
    from fullconv.run.tiff import NODATA_TAG, decodes

    tags = tiff_tags(path)
    return GEO_KEYS in tags or NODATA_TAG in tags or decodes(path)


def _starts(path: Path, starts: tuple[bytes, ...]) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(starts)


class WholeRaster:
    """An image that is decoded at once, up to `image.MAX_PIXELS`."""

    block_bytes = 0
    by_rows = False
    origin: Origin | None = None

    def __init__(self, path: Path, channels: int = 3, value_range: ValueRange | None = None) -> None:
        self.size = band_size(path)
        placeless = find_spec("rasterio") is None and find_spec("tifffile") is None
        self.note = PLACE_LOST if placeless and is_tiff(path) and GEO_KEYS in tiff_tags(path) else ""
        self._path, self._channels, self._range = path, channels, value_range

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """As `Raster.read`."""
        return self._pixels[rows.start : rows.stop, columns.start : columns.stop], None

    @cached_property
    def _pixels(self) -> UInt8:
        return read_bands(self._path, self._channels, self._range)


class ArrayRaster:
    """A .npy file, of which a window's numbers are read."""

    block_bytes = 0
    by_rows = False
    origin: Origin | None = None
    note = ""

    def __init__(self, path: Path, channels: int, value_range: ValueRange | None) -> None:
        self._array = open_array(path)
        bands = self._array.shape[2]
        if bands != channels and (bands, channels) != (1, 3):
            raise wrong_bands(path, bands, channels)
        self.size = (self._array.shape[0], self._array.shape[1])
        self._coding = Coding(path, channels=channels, value_range=value_range)

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """As `Raster.read`."""
        window = np.array(self._array[rows.start : rows.stop, columns.start : columns.stop])
        return self._coding.bytes_of(window, None), None


class Bands:
    """A raster stored by rows, read from the top to the bottom once.

    Decoders of PNG and JPEG start from the top again for a window above the last one. So rows are read in their whole
    width, and those that the next window shares with the last one are kept: rows of one tile are in memory.
    """

    by_rows = True

    def __init__(self, raster: Raster, channels: int = 3) -> None:
        self._channels = channels
        self.size, self.origin, self.note, self._raster = raster.size, raster.origin, raster.note, raster
        self.block_bytes = raster.block_bytes
        self._rows = range(0)
        self._pixels: UInt8 = np.empty((0, self.size[1], channels), np.uint8)
        self._empty: Mask | None = None

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """As `Raster.read`."""
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
            pixels[here], missing = self._raster.read(part, range(self.size[1]))
            empty[here] = False if missing is None else missing
        self._rows, self._pixels, self._empty = rows, pixels, empty if empty.any() else None


STEP = 128
"""Rows that are decoded and converted at once."""

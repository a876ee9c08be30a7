"""One way from a file to pixels, for training, scoring, `check` and prediction.

Which library decodes depends on the file and on what is installed, never on the command. rasterio reads upright TIFFs,
and PNG and JPEG of more than `MAX_IN_MEMORY_PIXELS`, which it gives in windows. Where it is not installed, tifffile
reads the TIFFs that it can. Pillow reads all others, and NumPy reads arrays in .npy files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags, ImageReader, RowCache
from fullconv.images.decoders.headers import ImageHeader, needs_tiff_library, pillow_header, read_header
from fullconv.images.decoders.npy import ArrayReader, is_array
from fullconv.images.decoders.open_pillow import check_pixels, opened_image
from fullconv.images.decoders.pillow import PillowReader, pixels_of
from fullconv.images.decoders.tiff_tags import TIFF_STARTS, is_tiff
from fullconv.images.decoders.values import Mask, UInt8, wrong_bands
from fullconv.images.input_format import RGB, InputFormat

__all__ = [
    "MAX_IN_MEMORY_PIXELS",
    "Decoder",
    "Picture",
    "decoder_of",
    "gdal_driver",
    "open_image",
    "read_empty",
    "read_image",
]

MAX_IN_MEMORY_PIXELS = 64_000_000
"""Pixels above which PNG and JPEG are decoded in windows."""

LARGEST_BLOCK = 2**28
"""Bytes of the largest block, a tile or a strip of rows, that is decoded at once."""

MOST_PIXELS = 2**40
"""No image has more: a damaged header can claim them."""

STRIP = 2048
"""Rows that are read at once: what lies between the file and the pixels takes no more memory than they do."""

Decoder = Literal["rasterio", "tifffile", "Pillow", "NumPy"]

_DRIVERS = {"GTiff": TIFF_STARTS, "PNG": (b"\x89PNG",), "JPEG": (b"\xff\xd8\xff",)}
"""GDAL's drivers that are used, by a file's first bytes; others may follow links to other files or to the network."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that was read: H x W x C uint8, which pixels hold no data (None: all do), and its place on Earth.

    `note` says which bands were read, if not all.
    """

    pixels: UInt8
    empty: Mask | None = None
    geo: GeoTags | None = None
    note: str = ""


def read_image(path: StrPath, input: InputFormat = RGB) -> Picture:
    """Read an image file of up to `MAX_PIXELS`: H x W x C uint8, upright (its EXIF orientation is applied).

    Three channels are RGB: palettes, grey, 1-bit, YCbCr and CMYK are converted. Other numbers of channels are the bands
    that are stored, without alpha where that makes the number right. Alpha is dropped, not composited: the colours are
    those stored. Bytes stay. Other numbers become bytes so that the ends of the input's `value_range` become 0 and 255
    and what lies outside is clipped; without one, 0..65535 of 16-bit grey becomes 0..255 (divided by 257, rounded),
    of 16-bit colour the high byte is read, 32-bit integers are read as 16-bit, and floats as 0..1; values outside of
    these are refused. Of more bands than three, RGB takes the first three of a TIFF, of two the first, and `note` says
    so. Of several frames or pages the first is read.

    A TIFF's nodata value, mask or alpha says which pixels hold no data; they are 0.

    Raises DataError for files that are missing, empty, damaged, not images or larger than `MAX_PIXELS`, for other
    numbers of bands, and for NaN; MissingExtra for TIFFs that only rasterio or tifffile reads.
    """
    path = Path(path)
    if not is_array(path) and not (path.is_file() and is_tiff(path)):
        with opened_image(path) as image:
            if _decoder(path, pillow_header(image)) == "Pillow":
                return Picture(pixels_of(image, input, path))
    with open_image(path, input, whole=True) as reader:
        check_pixels(reader.size, path)
        return Picture(*_whole(reader, input.channels), reader.geo, reader.note)


def read_empty(path: StrPath, input: InputFormat = RGB) -> Mask | None:
    """Return which pixels `read_image` finds without data, H x W; None where all hold some.

    Only files that name such pixels are decoded. Raises DataError as `read_image`.
    """
    path = Path(path)
    if is_array(path) or not path.is_file() or not is_tiff(path):
        return None
    with open_image(path, input, whole=True) as reader:
        is_masked = reader.masked
    return read_image(path, input).empty if is_masked else None


@contextmanager
def open_image(path: StrPath, input: InputFormat = RGB, whole: bool = False) -> Iterator[ImageReader]:
    """Open an image to read it in windows, which hold what `read_image` gives.

    Raises DataError for files that are damaged or not images, and unless the image is to be read `whole`, for blocks
    of more than `LARGEST_BLOCK`.
    """
    path = Path(path)
    if is_array(path):
        yield ArrayReader(path, input)
        return
    header = read_header(path, None)
    if header.pixels > MOST_PIXELS:
        height, width = header.stored
        problem = f"{width} x {height} pixels, which no image has"
        raise DataError.of(Fault("too-large", path, problem, "copy or export it again"))
    if not header.gives(input.channels):
        raise wrong_bands(path, header.bands, input.channels)
    with _opened(path, header, input) as reader:
        if not whole:
            _check_block(path, reader.block_bytes)
        yield RowCache(reader, input.channels) if reader.by_rows else reader


def decoder_of(path: StrPath) -> Decoder:
    """Return the library that decodes an image file. Raises DataError as `read_header`."""
    path = Path(path)
    return "NumPy" if is_array(path) else _decoder(path, read_header(path, None))


def gdal_driver(path: Path) -> str | None:
    """Return GDAL's driver for the file, by its first bytes; None for files that GDAL does not read here."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((driver for driver, starts in _DRIVERS.items() if start.startswith(starts)), None)


def _decoder(path: Path, header: ImageHeader) -> Decoder:
    if header.orientation != 1 or (header.format != "TIFF" and header.pixels <= MAX_IN_MEMORY_PIXELS):
        return "Pillow"
    driver = gdal_driver(path)
    if driver is not None and is_installed("rasterio"):
        return "rasterio"
    return "tifffile" if driver == "GTiff" and is_installed("tifffile") and _suits_tifffile(path) else "Pillow"


def _suits_tifffile(path: Path) -> bool:
    from fullconv.images.decoders.tiff import takes_tiff

    return takes_tiff(path) or needs_tiff_library(path, as_rgb=False)


@contextmanager
def _opened(path: Path, header: ImageHeader, input: InputFormat) -> Iterator[ImageReader]:
    decoder = _decoder(path, header)
    if decoder == "rasterio":
        from fullconv.images.decoders.gdal import open_gdal

        with open_gdal(path, gdal_driver(path) or "", input) as reader:
            yield reader
    elif decoder == "tifffile":
        from fullconv.images.decoders.tiff import open_tiff

        with open_tiff(path, input) as tiff:
            yield tiff
    else:
        yield PillowReader(path, header, input)


def _check_block(path: Path, size: int) -> None:
    if size > LARGEST_BLOCK:
        problem = f"one block holds {size / 2**20:,.0f} MiB of pixels"
        raise DataError.of(Fault("too-large", path, problem, "write the file in tiles (gdal_translate -co TILED=YES)"))


def _whole(reader: ImageReader, channels: int) -> tuple[UInt8, Mask | None]:
    height, width = reader.size
    pixels, empty = np.empty((height, width, channels), np.uint8), np.zeros((height, width), np.bool_)
    for top in range(0, height, STRIP):
        rows = range(top, min(top + STRIP, height))
        pixels[top : rows.stop], missing = reader.read(rows, range(width))
        empty[top : rows.stop] = False if missing is None else missing
    return pixels, empty if empty.any() else None

"""The reader of image files, used by training, scoring, `check` and prediction alike.

The file and the installed libraries determine which library decodes a file, never the command. rasterio reads upright
TIFFs, and PNG and JPEG of more than `MAX_IN_MEMORY_PIXELS`, which it reads in windows. If rasterio is not installed,
tifffile reads the TIFFs that it can decode. NumPy reads arrays in .npy files, and Pillow reads all other files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.forks import native_call
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags, ImageReader, PageReader, RowCache
from fullconv.images.decoders.headers import ImageHeader, needs_tiff_library, pillow_header, read_header
from fullconv.images.decoders.npy import ArrayReader, is_array
from fullconv.images.decoders.open_pillow import check_pixels, open_with_pillow
from fullconv.images.decoders.pages import PagedReader, count_tiff_pages
from fullconv.images.decoders.pillow import PillowReader, decode_image
from fullconv.images.decoders.tiff_tags import TIFF_STARTS, is_tiff
from fullconv.images.decoders.values import band_count_error
from fullconv.images.input_format import RGB, InputFormat

__all__ = [
    "MAX_IN_MEMORY_PIXELS",
    "Decoder",
    "Picture",
    "decoder_of",
    "gdal_driver",
    "open_decoder",
    "open_image",
    "read_empty",
    "read_image",
]

MAX_IN_MEMORY_PIXELS = 64_000_000
"""PNG and JPEG with more pixels are decoded in windows."""

LARGEST_BLOCK = 2**28
"""Maximum bytes of a block (a tile or a strip of rows), which is decoded at once."""

MOST_PIXELS = 2**40
"""Headers that claim more pixels are damaged."""

STRIP = 2048
"""Rows that are read at once, which bounds the memory for intermediate arrays."""

Decoder = Literal["rasterio", "tifffile", "Pillow", "NumPy"]

_DRIVERS = {"GTiff": TIFF_STARTS, "PNG": (b"\x89PNG",), "JPEG": (b"\xff\xd8\xff",)}
"""The GDAL drivers in use, with the first bytes of their files. Others may open linked files or network addresses."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image in memory.

    Attributes:
        pixels: H x W x C uint8.
        empty: H x W mask of the pixels without data; None if all pixels hold data.
        geo: The georeference; None if the file has none.
        note: A sentence about bands that were not read; empty if all were.
    """

    pixels: UInt8
    empty: Mask | None = None
    geo: GeoTags | None = None
    note: str = ""


def read_image(path: StrPath, input: InputFormat = RGB) -> Picture:
    """Read an image file of at most `MAX_PIXELS` as H x W x C uint8, upright (the EXIF orientation is applied).

    Channels: three channels are RGB; palettes, grey, 1-bit, YCbCr and CMYK are converted. Any other number of channels
    gives the stored bands, without alpha if the number requires it. Alpha is dropped, not composited: the colours are
    the stored ones. For RGB, the first three bands of a TIFF with more bands are read, or the first of two, and `note`
    says so. Of several frames or pages the first one is read.

    Values: 8-bit values are not changed. With a `value_range`, its ends become 0 and 255, and values outside it are
    clipped. Without, 16-bit grey is divided by 257 and rounded, the high byte of 16-bit colour is read, 32-bit integers
    are read as 16-bit, and floats from 0 to 1 become 0 to 255; values outside these ranges raise an error.

    Pixels without data, by a TIFF's nodata value, mask or alpha, are 0.

    Raises DataError for files that are missing, empty, damaged, not images or larger than `MAX_PIXELS`, for another
    number of bands, and for NaN. Raises MissingExtra for TIFFs that only rasterio or tifffile can read.
    """
    path = Path(path)
    if not is_array(path) and not (os.path.isfile(path) and is_tiff(path)):
        with open_with_pillow(path) as image:
            if _decoder(path, pillow_header(image)) == "Pillow":
                return Picture(decode_image(image, input, path))
    with open_image(path, input, whole=True) as reader:
        check_pixels(reader.size, path)
        return Picture(*_read_whole(reader, input.channels), reader.geo, reader.note)


def read_empty(path: StrPath, input: InputFormat = RGB) -> Mask | None:
    """Return the H x W mask of the pixels without data, as `read_image` does; None if all pixels hold data.

    Only files that may have such pixels are decoded. Raises DataError as `read_image`.
    """
    path = Path(path)
    if is_array(path) or not os.path.isfile(path) or not is_tiff(path):
        return None
    with open_image(path, input, whole=True) as reader:
        is_masked = reader.masked
    return read_image(path, input).empty if is_masked else None


@contextmanager
def open_image(
    path: StrPath, input: InputFormat = RGB, whole: bool = False, max_block_bytes: int = LARGEST_BLOCK
) -> Iterator[ImageReader]:
    """Open an image to read it in windows, with the same pixels as `read_image`.

    Raises DataError for files that are damaged or not images. Raises it also for blocks of more than `max_block_bytes`,
    unless the caller reads the image `whole`.
    """
    path = Path(path)
    if is_array(path):
        yield ArrayReader(path, input)
        return
    header = read_header(path, None)
    if header.pixels > MOST_PIXELS:
        height, width = header.stored
        problem = f"its header claims {width} x {height} pixels"
        raise DataError.of(Fault("too-large", path, problem, "copy or export it again"))
    if not header.gives(input.channels):
        raise band_count_error(path, header.bands, input)
    with open_decoder(path, header, input) as reader:
        if header.format == "TIFF" and not header.pages and (pages := count_tiff_pages(path)) > 1:
            reader.note = "; ".join(filter(None, (reader.note, f"only the first of its {pages} pages is read")))
        if not whole:
            _check_block(path, reader.block_bytes, max_block_bytes)
        yield RowCache(reader, input.channels) if reader.by_rows else reader


def decoder_of(path: StrPath) -> Decoder:
    """Return the name of the library that decodes an image file. Raises DataError as `read_header`."""
    path = Path(path)
    return "NumPy" if is_array(path) else _decoder(path, read_header(path, None))


def gdal_driver(path: Path) -> str | None:
    """Return the GDAL driver for the file, by its first bytes; None for files that are not read with GDAL."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((driver for driver, starts in _DRIVERS.items() if start.startswith(starts)), None)


def _decoder(path: Path, header: ImageHeader) -> Decoder:
    if header.orientation != 1 or (header.format != "TIFF" and header.pixels <= MAX_IN_MEMORY_PIXELS):
        return "Pillow"
    driver = gdal_driver(path)
    if driver is not None and is_installed("rasterio"):
        return "rasterio"
    return "tifffile" if driver == "GTiff" and is_installed("tifffile") and _prefers_tifffile(path) else "Pillow"


def _prefers_tifffile(path: Path) -> bool:
    from fullconv.images.decoders.tiff import suits_tifffile

    return suits_tifffile(path) or needs_tiff_library(path, as_rgb=False)


@contextmanager
def open_decoder(path: Path, header: ImageHeader, input: InputFormat) -> Iterator[ImageReader]:
    """Open an image file that is not an array with its decoder. Raises DataError as `open_image`."""
    decoder = _decoder(path, header)
    with ExitStack() as stack:
        if decoder == "Pillow":
            yield PillowReader(path, header, input)
        elif header.pages:
            yield PagedReader(
                [_open_page(stack, decoder, path, InputFormat(1), page) for page in header.pages], path, input
            )
        else:
            yield _open_page(stack, decoder, path, input)


def _open_page(
    stack: ExitStack, decoder: Decoder, path: Path, input: InputFormat, page: int | None = None
) -> PageReader:
    """Open a page of a TIFF, or any other image of GDAL, until `stack` closes."""
    if decoder == "rasterio":
        with native_call():
            from fullconv.images.decoders.gdal import open_gdal
        return stack.enter_context(open_gdal(path, gdal_driver(path) or "", input, page))
    with native_call():
        from fullconv.images.decoders.tiff import open_tiff
    return stack.enter_context(open_tiff(path, input, page or 0))


def _check_block(path: Path, size: int, max_block_bytes: int) -> None:
    if size > max_block_bytes:
        problem = f"one block has {size / 2**20:,.0f} MiB of pixels"
        raise DataError.of(Fault("too-large", path, problem, "write the file in tiles (gdal_translate -co TILED=YES)"))


def _read_whole(reader: ImageReader, channels: int) -> tuple[UInt8, Mask | None]:
    height, width = reader.size
    pixels, empty = np.empty((height, width, channels), np.uint8), np.zeros((height, width), np.bool_)
    for top in range(0, height, STRIP):
        rows = range(top, min(top + STRIP, height))
        pixels[top : rows.stop], missing = reader.read(rows, range(width))
        empty[top : rows.stop] = False if missing is None else missing
    return pixels, empty if empty.any() else None

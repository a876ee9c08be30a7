"""Reading and writing of TIFF through tifffile, without GDAL: windows of the first page, and tiled files.

On its own, tifffile decodes uncompressed and deflated files; with imagecodecs it also decodes LZW, JPEG and others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import BLOCK, GeoTags, select_bands
from fullconv.images.decoders.open_pillow import decoding_errors
from fullconv.images.decoders.tiff_tags import GEO_KEYS, GEO_TAGS, NODATA, tiff_tags
from fullconv.images.decoders.values import PixelDecoder
from fullconv.images.input_format import RGB, InputFormat
from fullconv.installation import pip_command

__all__ = ["TiffReader", "open_tiff", "suits_tifffile", "write_tiff"]

PLAIN = (1, 8, 32946)
"""Compressions that tifffile decodes without imagecodecs: none and deflate."""

# Without a handler, tifffile's log messages about a file would be printed.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffReader:
    """A page of an open TIFF as an `ImageReader`."""

    by_rows = False

    def __init__(self, file: tifffile.TiffFile, path: Path, input: InputFormat, number: int = 0) -> None:
        page: Any = file.pages[number] if number else file.pages.first
        self._file, self._page, self._path = file.filehandle, page, path
        self.size = (page.imagelength, page.imagewidth)
        count = page.samplesperpixel
        if page.imagedepth != 1 or page.dtype is None or not _in_rgb(page):
            problem = f"has pixels of an unusual kind (photometric {page.photometric})"
            raise DataError.of(Fault("unsupported-format", path, problem, "convert it to RGB"))
        rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.size[0])
        self._block = (rows, page.tilewidth if page.is_tiled else self.size[1])
        self.by_rows = self._block[1] >= self.size[1]
        self.block_bytes = self._block[0] * self._block[1] * page.dtype.itemsize * count
        self._separate = count > 1 and page.planarconfig == 2
        palette = None
        alpha = any(int(role) in (1, 2) for role in page.extrasamples)
        bands = 3 if page.photometric == 3 else count
        self._count, self.note = select_bands(path, bands, alpha, input)
        self._count = min(self._count, count)
        if page.photometric == 3 and page.colormap is not None:
            palette = (page.colormap.T >> 8).astype(np.uint8)
        self.bits, self.inverted = int(np.max(page.bitspersample)), page.photometric == 0
        self._decoder = PixelDecoder(path, input, palette, self.bits, self.inverted)
        self.nodata: float | None = page.nodata if NODATA in page.tags else None
        self.masked = self.nodata is not None
        tags = tuple(_copy_tag(page.tags[code]) for code in GEO_TAGS if code in page.tags)
        self.geo = GeoTags(tags=tags) if tags else None

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        stored, empty = self.numbers(rows, columns)
        return self._decoder.bytes_of(stored, empty), empty

    def numbers(self, rows: range, columns: range) -> tuple[npt.NDArray[Any], Mask | None]:
        """Read the stored numbers of a window, h x w x bands, and the mask of the pixels without data."""
        stored = self.stored(rows, columns)
        if self.nodata is None:
            return stored, None
        missing = np.isnan(stored) if np.isnan(self.nodata) else stored == self.nodata
        return stored, missing.all(axis=2)

    def stored(self, rows: range, columns: range) -> npt.NDArray[Any]:
        """Read the stored numbers of a window, h x w x bands."""
        fill = self.nodata if self.nodata is not None else 0
        stored = np.full((len(rows), len(columns), self._count), fill, self._page.dtype)
        for plane in range(self._count if self._separate else 1):
            samples = slice(plane, plane + 1) if self._separate else slice(0, self._count)
            for block in self._blocks(rows, columns):
                self._copy(stored[..., samples], (rows, columns), block, plane)
        return stored

    def _blocks(self, rows: range, columns: range) -> Iterator[tuple[int, int]]:
        """Return the (row, column) of each block that overlaps a window."""
        high, wide = self._block
        down = range(rows.start // high, -(-rows.stop // high))
        return product(down, range(columns.start // wide, -(-columns.stop // wide)))

    def _copy(self, into: npt.NDArray[Any], window: tuple[range, range], block: tuple[int, int], plane: int) -> None:
        """Copy the part of the window that one block holds; a block without bytes changes nothing."""
        grid = [-(-n // side) for n, side in zip(self.size, self._block, strict=True)]
        index = (plane * grid[0] + block[0]) * grid[1] + block[1]
        try:
            if not self._page.databytecounts[index]:
                return
            self._file.seek(self._page.dataoffsets[index])
            packed = self._file.read(self._page.databytecounts[index])
            pixels: Any = self._page.decode(packed, index, jpegtables=self._page.jpegtables)[0]
        except Exception as error:  # for damaged files, decoders raise almost any type
            reason = " ".join(str(error).split())
            problem, remedy = f"cannot be decoded ({reason})", f"run: {pip_command('geo')}"
            raise DataError.of(Fault("unsupported-format", self._path, problem, remedy)) from error
        starts = [number * side for number, side in zip(block, self._block, strict=True)]
        extent = [range(start, start + n) for start, n in zip(starts, pixels.shape[1:3], strict=True)]
        common = [range(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(extent, window, strict=True)]
        inner, outer = (
            tuple(slice(c.start - span.start, c.stop - span.start) for c, span in zip(common, spans, strict=True))
            for spans in (extent, window)
        )
        into[outer] = pixels[0][inner][..., : into.shape[2]]


def suits_tifffile(path: Path) -> bool:
    """Return whether tifffile should read the file: it decodes it, or Pillow would lose its georeference or nodata."""
    tags = tiff_tags(path)
    if GEO_KEYS in tags or NODATA in tags:
        return True
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return _in_rgb(page) and (page.compression in PLAIN or is_installed("imagecodecs"))
    except Exception:  # for damaged files, decoders raise almost any type
        return False


def _in_rgb(page: Any) -> bool:
    """Return whether decoded pixels are grey, indices of a palette or RGB; of YCbCr files, only JPEGs decode to RGB."""
    return page.photometric in (0, 1, 2, 3) or (page.photometric == 6 and page.compression == 7)


def _copy_tag(tag: Any) -> tuple[int, int, int, Any, bool]:
    return tag.code, int(tag.dtype), tag.count, tag.value, True


@contextmanager
def open_tiff(path: Path, input: InputFormat = RGB, page: int = 0) -> Iterator[TiffReader]:
    """Open a page of a TIFF with tifffile. Raises DataError if the file cannot be opened."""
    with decoding_errors(path):
        file = tifffile.TiffFile(path)
    with file:
        with decoding_errors(path):
            reader = TiffReader(file, path, input, page)
        yield reader


def write_tiff(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[UInt8],
    palette: UInt8 | None,
    geo: GeoTags | None,
    nodata: int | None = None,
) -> None:
    """Write bands of `BLOCK` rows, h x W or h x W x 3 uint8, as a tiled and deflated TIFF of `size` (height, width).

    With `palette`, 256 x 3 uint8 RGB, the bands hold its indices; without, they hold RGB.
    """
    shape = size if palette is not None else (*size, 3)
    tags: list[tuple[int, int, int, Any, bool]] = list(geo.tags if geo else ())
    if nodata is not None:
        tags.append((NODATA, 2, 0, str(nodata), True))
    tifffile.imwrite(
        path,
        (band[:, left : left + BLOCK] for band in bands for left in range(0, size[1], BLOCK)),
        shape=shape,
        dtype=np.uint8,
        tile=(BLOCK, BLOCK),
        compression="zlib",
        photometric="palette" if palette is not None else "rgb",
        colormap=None if palette is None else palette.T.astype(np.uint16) * 257,
        extratags=tags,
        metadata=None,
        bigtiff=size[0] * size[1] * (1 if palette is not None else 3) > 2**31,
    )

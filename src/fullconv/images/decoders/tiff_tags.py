"""Reading of TIFF tags, and the numbers of the tags that fullconv uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    IMAGELENGTH,
    IMAGEWIDTH,
    PLANAR_CONFIGURATION,
    SAMPLESPERPIXEL,
    TILEOFFSETS,
    ImageFileDirectory_v2,
)

from fullconv.errors import DataError
from fullconv.images.decoders.open_pillow import damage_error, without_warnings

__all__ = [
    "GEO_KEYS",
    "GEO_TAGS",
    "NODATA",
    "TIFF_STARTS",
    "check_tiles",
    "is_tiff",
    "read_directories",
    "read_nodata",
    "tiff_tags",
]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF and of a BigTIFF."""

GEO_KEYS = 34735
"""The tag of a TIFF's coordinate reference system."""

GEO_TAGS = (33550, 33922, 34264, GEO_KEYS, 34736, 34737)
"""The tags of a georeference: scale, tie points, transformation, and the keys of the CRS with their values."""

TILE_BYTES = 325
"""The tag of the numbers of bytes of a TIFF's tiles."""

NODATA = 42113
"""GDAL's tag of the value of pixels without data, in ASCII."""


def is_tiff(path: Path) -> bool:
    """Return whether the file is a TIFF or a BigTIFF, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4).startswith(TIFF_STARTS)


def tiff_tags(path: Path) -> ImageFileDirectory_v2:
    """Read the tags of a TIFF's first page. Raises DataError if they are damaged."""
    try:
        with path.open("rb") as file, without_warnings():
            start = file.read(8)
            directory = ImageFileDirectory_v2(start + (file.read(8) if b"+" in start[:4] else b""))
            file.seek(directory.next)
            directory.load(file)
        _check_numbers(directory)
    except Exception as error:  # damaged tags raise almost any type
        raise damage_error(path, error) from error
    return directory


def read_directories(path: Path) -> Iterator[ImageFileDirectory_v2]:
    """Yield the tags of each page. Raises DataError if they are damaged."""
    try:
        with path.open("rb") as file, without_warnings():
            start = file.read(8)
            start += file.read(8) if b"+" in start[:4] else b""
            offset, visited = ImageFileDirectory_v2(start).next, set[int]()
            while offset and offset not in visited:
                visited.add(offset)
                directory = ImageFileDirectory_v2(start)
                file.seek(offset)
                directory.load(file)
                yield directory
                offset = directory.next
    except Exception as error:  # damaged tags raise almost any type
        raise damage_error(path, error) from error


def check_tiles(path: Path) -> None:
    """Raise OSError unless a tiled TIFF holds every tile of every page."""
    size = path.stat().st_size
    try:
        pages = [(np.ravel(tags[TILEOFFSETS]), np.ravel(tags[TILE_BYTES])) for tags in read_directories(path)]
    except (DataError, KeyError):
        pages = []
    if not pages or not all(counts.all() and (offsets + counts).max() <= size for offsets, counts in pages):
        raise OSError("only a part of the file was written")


def _check_numbers(tags: ImageFileDirectory_v2) -> None:
    """Raise ValueError or KeyError if the size is missing, or a number is stored as something else."""
    for tag in (IMAGELENGTH, IMAGEWIDTH):
        int(tags[tag])
    for tag in (SAMPLESPERPIXEL, BITSPERSAMPLE, PLANAR_CONFIGURATION, ExifTags.Base.Orientation):
        value = tags.get(tag, 1)
        if not all(isinstance(number, int) for number in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"its tag {int(tag)} is not a number")


def read_nodata(tags: ImageFileDirectory_v2) -> float | None:
    """Return the value of pixels without data (nodata) of a GeoTIFF; None if it has none."""
    try:
        return float(tags[NODATA])
    except (KeyError, TypeError, ValueError):
        return None

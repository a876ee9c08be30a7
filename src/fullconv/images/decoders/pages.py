"""TIFFs of several pages: the channels of one image, or a stack, by the metadata of OME, ImageJ or tifffile."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    IMAGEDESCRIPTION,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images.decoders.base import PageReader, select_bands
from fullconv.images.decoders.open_pillow import open_with_pillow
from fullconv.images.decoders.tiff_tags import is_tiff, read_directories
from fullconv.images.decoders.values import PixelDecoder
from fullconv.images.input_format import InputFormat

__all__ = ["PagedReader", "count_pages", "count_tiff_pages", "find_channel_pages"]

SUBFILE = 254
PREVIEW, TRANSPARENCY = 1, 4
"""Bits of the tag `SUBFILE`: the page shows another page in a smaller size, or is the mask of another page."""

GREY = (0, 1)
"""Photometric interpretations of a page that is one channel: white at 0, black at 0."""

ALIKE = (IMAGEWIDTH, IMAGELENGTH, SAMPLESPERPIXEL, BITSPERSAMPLE, SAMPLEFORMAT, PHOTOMETRIC_INTERPRETATION)
"""Tags that the pages of one image share."""

SPLIT = (
    "write one file for each plane, with its channels: `bfconvert FILE NAME_z%z_t%t.ome.tif` (Bio-Formats), or Image > "
    "Stacks > Stack to Images in ImageJ; if the planes are channels, set that in ImageJ, Image > Properties"
)


@dataclass(frozen=True)
class _Axes:
    """The lengths of the axes of a stack, and the pages of its channels, if the metadata list them."""

    channels: int = 1
    depth: int = 1
    time: int = 1
    pages: tuple[int, ...] = ()

    @property
    def planes(self) -> int:
        return self.channels * self.depth * self.time


def find_channel_pages(path: Path, tags: ImageFileDirectory_v2) -> tuple[int, ...]:
    """Return the pages of a TIFF that its metadata call the channels of one image, in the order of the channels.

    `tags` are those of the first page. Returns () for any other TIFF, of which the first page is read. Raises DataError
    for stacks of planes (depth or time), and for channels whose pages are missing or differ.
    """
    description = _text(tags.get(IMAGEDESCRIPTION, ""))
    axes = _read_ome(description) or _read_imagej(description) or _read_tifffile(description)
    samples = int(tags.get(SAMPLESPERPIXEL, 1))
    if axes is not None and axes.channels % samples == 0:
        axes = replace(axes, channels=axes.channels // samples)
    if axes is None or axes.planes == 1:
        return ()
    directories = [*read_directories(path)]
    if len(directories) == 1 and not _holds_hidden_pages(path, tags, axes.planes):
        return ()  # one plane of a set of files, whose metadata describe all of them
    if axes.depth > 1 or axes.time > 1:
        raise DataError.of(Fault("image-stack", path, f"is {_describe(axes)}, not one image", SPLIT))
    pages = axes.pages or tuple(range(axes.channels))
    if max(pages) >= len(directories):
        problem = f"has {axes.channels} channels by its metadata, but lists {len(directories)} pages"
        raise DataError.of(Fault("image-stack", path, problem, "export it again, with all channels in one file"))
    chosen = [directories[page] for page in pages]
    is_grey = samples == 1 and tags.get(PHOTOMETRIC_INTERPRETATION) in GREY
    if not is_grey or len({tuple(str(one.get(tag)) for tag in ALIKE) for one in chosen}) > 1:
        problem = (
            f"has {axes.channels} channels by its metadata, but its pages are not grey images of one size and type"
        )
        raise DataError.of(
            Fault("image-stack", path, problem, "export each channel as grey, all with one size and type")
        )
    return pages


def count_pages(path: Path, image: ImageFile | None = None) -> int:
    """Return the number of pictures in an image file: the pages of a TIFF, or the frames.

    `image` is the file as Pillow has opened it, if it has. Previews and masks of a TIFF's pages do not count, nor do
    pages of at most half the width and height of the first one, such as thumbnails. The further pictures of an MPO do
    not count either.
    """
    if isinstance(image, TiffImageFile):
        return count_tiff_pages(path) if image.tag_v2.next else 1
    if image is None:
        if is_tiff(path):
            return count_tiff_pages(path)
        with open_with_pillow(path, None) as opened:
            return count_pages(path, opened)
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def count_tiff_pages(path: Path) -> int:
    """Return `count_pages` of a TIFF."""
    sizes = []
    try:
        for tags in read_directories(path):
            if not int(tags.get(SUBFILE, 0)) & (PREVIEW | TRANSPARENCY):
                sizes.append((int(tags[IMAGEWIDTH]), int(tags[IMAGELENGTH])))
    except (DataError, KeyError, TypeError, ValueError):  # damage after the first page, which can be read
        pass
    return max(1, sum(any(2 * side > first for side, first in zip(size, sizes[0], strict=True)) for size in sizes))


class PagedReader:
    """An `ImageReader` of an image whose channels are pages; each page is an open reader of one band."""

    def __init__(self, pages: Sequence[PageReader], path: Path, input: InputFormat) -> None:
        count, self.note = select_bands(path, len(pages), False, input)
        self._pages, first = pages[:count], pages[0]
        self.size, self.by_rows, self.geo = first.size, first.by_rows, first.geo
        self.block_bytes = first.block_bytes * count
        self.masked = all(page.masked for page in self._pages)
        self._decoder = PixelDecoder(path, input, None, first.bits, first.inverted)

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        stored, empty = self.numbers(rows, columns)
        return self._decoder.bytes_of(stored, empty), empty

    def numbers(self, rows: range, columns: range) -> tuple[npt.NDArray[Any], Mask | None]:
        """Read the stored numbers of a window, h x w x bands, and the mask of the pixels without data in all pages."""
        parts = [page.numbers(rows, columns) for page in self._pages]
        stored = np.concatenate([numbers for numbers, _ in parts], axis=2)
        masks = [empty for _, empty in parts if empty is not None]
        return stored, np.logical_and.reduce(masks) if len(masks) == len(parts) else None


def _describe(axes: _Axes) -> str:
    parts = [f"{axes.depth} planes of depth (Z)"] * (axes.depth > 1) + [f"{axes.time} points in time (T)"] * (
        axes.time > 1
    )
    return "a stack of " + " and ".join(parts) + f" with {axes.channels} channels each" * (axes.channels > 1)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_ome(description: str) -> _Axes | None:
    """Read the first image of OME-XML."""
    if not description.rstrip("\0 \n").endswith("OME>") or "<!DOCTYPE" in description:
        return None
    try:
        root = ElementTree.fromstring(description.strip("\0 \n"))
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    channels, depth, time = (_whole(pixels.get(f"Size{axis}")) for axis in "CZT")
    places: dict[int, int] = {}
    for node in pixels:
        if node.tag.rpartition("}")[2] == "TiffData" and "IFD" in node.attrib:
            first, page = _whole(node.get("FirstC"), 0), _whole(node.get("IFD"), 0)
            places |= {first + step: page + step for step in range(_whole(node.get("PlaneCount")))}
    is_listed = places.keys() == set(range(channels)) and depth == time == 1
    return _Axes(channels, depth, time, tuple(places[channel] for channel in range(channels)) if is_listed else ())


def _read_imagej(description: str) -> _Axes | None:
    if not description.startswith("ImageJ="):
        return None
    values = dict(re.findall(r"^(\w+)=(\d+)\s*$", description, re.MULTILINE))
    channels, depth, time = (_whole(values.get(key)) for key in ("channels", "slices", "frames"))
    images = _whole(values.get("images"))
    if images > channels * depth * time == 1:  # ImageJ's default for a stack
        depth = images
    return _Axes(channels, depth, time)


def _read_tifffile(description: str) -> _Axes | None:
    """Read tifffile's description of an array, if it names the axes."""
    try:
        values = json.loads(description.strip("\0 \n")) if description.startswith("{") else {}
        shape, axes = [int(side) for side in values["shape"]], str(values["axes"])
    except (ValueError, KeyError, TypeError):
        return None
    before, plane, _ = axes.partition("YX")
    if len(shape) != len(axes) or not plane:
        return None
    sides = dict(zip(before, shape, strict=False))
    return _Axes(sides.get("C", 1), sides.get("Z", 1), sides.get("T", 1))


def _whole(text: str | None, default: int = 1) -> int:
    return int(text) if text is not None and text.isdecimal() else default


def _holds_hidden_pages(path: Path, tags: ImageFileDirectory_v2, planes: int) -> bool:
    """Return whether a file with one page has room for all planes, as ImageJ writes stacks of more than 4 GB."""
    bits = np.max(tags.get(BITSPERSAMPLE, 1)) * int(tags.get(SAMPLESPERPIXEL, 1))
    needed = planes * int(tags[IMAGELENGTH]) * int(tags[IMAGEWIDTH]) * int(bits) // 8
    return int(tags.get(COMPRESSION, 1)) == 1 and path.stat().st_size >= needed

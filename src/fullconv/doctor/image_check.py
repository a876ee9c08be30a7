"""Decode one image of a data set and find its faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import RGB, InputFormat, read_header, read_image, rgb_view
from fullconv.images.decoders.npy import is_array
from fullconv.images.decoders.pages import count_pages

__all__ = ["InspectedPicture", "inspect_picture"]


@dataclass(frozen=True)
class InspectedPicture:
    """An image: upright RGB (H x W x 3 uint8), the bands of the file, and the pixels without data (H x W)."""

    rgb: UInt8
    bands: int
    empty: Mask | None
    faults: tuple[Fault, ...]


def inspect_picture(path: Path, input: InputFormat = RGB) -> InspectedPicture:
    """Read an image as training does and convert it to RGB; the faults are ignored pages and alpha.

    If the file has other bands than `input` requires, all its bands are read. Raises DataError as `read_image` does.
    """
    header = read_header(path)
    if not header.gives(input.channels):
        input = InputFormat(header.channels, input.value_range)
    picture, faults = read_image(path, input), [] if header.pages else _page_faults(path)
    if input.channels == 3 and header.bands == 2 and header.alpha:
        faults.append(Fault("alpha", path, "is grey with alpha, and alpha is not read", "remove alpha, or continue"))
    return InspectedPicture(rgb_view(picture.pixels), header.bands, picture.empty, tuple(faults))


def _page_faults(path: Path) -> list[Fault]:
    try:
        if is_array(path):
            return []
        pages = count_pages(path)
    except DataError:  # found again where the image is decoded
        return []
    if pages <= 1:
        return []
    problem = f"has {pages} pages or frames, and only the first is read"
    remedy = "save the others as separate images, or continue; if they are channels, save them as bands of one page"
    return [Fault("several-pages", path, problem, remedy)]

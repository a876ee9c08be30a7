"""One image of a data set, decoded once, with what its file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.ImageFile import ImageFile

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import RGB, InputFormat, open_with_pillow, read_header, read_image, rgb_view
from fullconv.images.decoders.npy import is_array

__all__ = ["InspectedPicture", "inspect_picture"]


@dataclass(frozen=True)
class InspectedPicture:
    """`rgb`, H x W x 3 uint8, upright; `bands` in the file; `empty`, H x W, where the file says there is no data."""

    rgb: npt.NDArray[np.uint8]
    bands: int
    empty: npt.NDArray[np.bool_] | None
    faults: tuple[Fault, ...]


def inspect_picture(path: Path, input: InputFormat = RGB) -> InspectedPicture:
    """Read the image as training does, shown as RGB, with its faults: pages and alpha that are left out.

    Where the file has other bands than `input` asks for, it is read with its own. Raises DataError as `read_image`.
    """
    header = read_header(path)
    if not header.gives(input.channels):
        input = InputFormat(header.channels, input.value_range)
    picture, faults = read_image(path, input), _pages(path)
    if input.channels == 3 and header.bands == 2 and header.alpha:
        faults.append(Fault("alpha", path, "is grey with alpha, which is dropped", "flatten it, or go on"))
    return InspectedPicture(rgb_view(picture.pixels), header.bands, picture.empty, tuple(faults))


def _pages(path: Path) -> list[Fault]:
    try:
        if is_array(path):
            return []
        with open_with_pillow(path) as image:
            pages = _count(image)
    except DataError:  # a TIFF of a kind that only other libraries read
        return []
    if pages <= 1:
        return []
    problem = f"has {pages} pages or frames, of which the first is read"
    return [Fault("several-pages", path, problem, "save the others as images of their own, or go on")]


def _count(image: ImageFile) -> int:
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))

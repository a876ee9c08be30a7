"""One image of a data set, decoded once, with what its file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import SAMPLESPERPIXEL, TiffImageFile

from fullconv.data.bands import ValueRange, band_header, beyond_pillow, read_bands, rgb_view
from fullconv.faults import Fault
from fullconv.image import nodata_of, opened_image, rgb_of

__all__ = ["Picture", "read_picture"]


@dataclass(frozen=True)
class Picture:
    """`rgb`, H x W x 3 uint8, upright; `bands` in the file; `nodata`, H x W, where the file says there is no data."""

    rgb: npt.NDArray[np.uint8]
    bands: int
    nodata: npt.NDArray[np.bool_] | None
    faults: tuple[Fault, ...]


def read_picture(path: Path, channels: int = 3, value_range: ValueRange | None = None) -> Picture:
    """The image as training reads it, shown as RGB, with its faults: pages and alpha that are left out.

    Where the file has other bands than `channels`, it is read with its own. Raises DataError as `bands.read_bands`.
    """
    if channels == 3 and value_range is None and not beyond_pillow(path):
        return _read_rgb(path)
    header = band_header(path)
    image = read_bands(path, channels if header.gives(channels) else header.channels, value_range)
    nodata, faults = None, []
    if not beyond_pillow(path):
        with opened_image(path) as opened:
            faults, value = _pages(opened, path), nodata_of(opened)
            nodata = None if value is None else _equal(np.asarray(opened), value)
    return Picture(rgb_view(image), header.bands, nodata, tuple(faults))


def _read_rgb(path: Path) -> Picture:
    with opened_image(path) as image:
        bands, value = _bands(image), nodata_of(image)
        faults = _pages(image, path)
        if bands == 2:
            faults.append(Fault("alpha", path, "is grey with alpha, which is dropped", "flatten it, or go on"))
        rgb = rgb_of(image, path)
        nodata = None if value is None else _equal(np.asarray(image), value)
    return Picture(rgb, bands, nodata, tuple(faults))


def _pages(image: ImageFile, path: Path) -> list[Fault]:
    pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if pages <= 1:
        return []
    problem = f"has {pages} pages or frames, of which the first is read"
    return [Fault("several-pages", path, problem, "save the others as images of their own, or go on")]


def _bands(image: ImageFile) -> int:
    """1 grey, 2 grey with alpha, 3 colours, 4 and more colours and others; palettes and CMYK are colours."""
    if image.mode in ("CMYK", "P"):
        return 3
    if isinstance(image, TiffImageFile) and image.mode in ("RGB", "RGBA", "RGBX"):
        return int(image.tag_v2.get(SAMPLESPERPIXEL, 3))
    return len(image.getbands())


def _equal(stored: npt.NDArray[np.generic], value: float) -> npt.NDArray[np.bool_] | None:
    """H x W: where all bands hold the value; None where it is nowhere."""
    same = np.isnan(stored) if np.isnan(value) else stored == value
    found: npt.NDArray[np.bool_] = same.all(2) if same.ndim == 3 else same
    return found if found.any() else None

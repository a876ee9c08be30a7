"""Images as H x W x 3 uint8 RGB: read from what cameras and other programs write, written, tinted with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.errors import DataError, UsageError
from fullconv.faults import Fault
from fullconv.files import StrPath, atomic_write
from fullconv.image.opened import MAX_PIXELS, check_pixels, loaded_upright, opened_image, told_of
from fullconv.labels import LabelSet

__all__ = ["IMAGE_SUFFIXES", "eight_bits", "overlay", "read_image", "rgb_of", "write_image"]

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""Suffixes, in lower case, of the files that are taken for images when a folder is searched."""

UInt8 = npt.NDArray[np.uint8]

ROWS = 256
"""Rows that are tinted at a time: what they take meanwhile is five times their own size."""

_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".jfif": 65500, ".gif": 65535, ".webp": 16383}


def read_image(path: StrPath) -> UInt8:
    """An image file as H x W x 3 uint8 RGB, 0..255, upright (its EXIF orientation is applied).

    Palettes, grey, 1-bit, YCbCr and CMYK are converted to RGB. Alpha is dropped, not composited: the colours
    are those stored. Of 16-bit grey, 0..65535 becomes 0..255 (divided by 257, rounded); of 16-bit colour the
    high byte is read. 32-bit integer grey is read as 16-bit, and floating point as 0..1; values outside these
    are refused. Of several frames or pages the first is read.

    Raises DataError for files that are missing, empty, damaged, not images or larger than `MAX_PIXELS`.
    """
    with opened_image(Path(path)) as image:
        return rgb_of(image, path)


def rgb_of(image: Image.Image, path: StrPath = "the image") -> UInt8:
    """An opened Pillow image as `read_image` gives its file, with the same errors, which name `path`."""
    with told_of(path):
        check_pixels(image, path)
        upright = loaded_upright(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            return np.repeat(eight_bits(np.asarray(upright), path)[..., None], 3, axis=2)
        return np.array(upright.convert("RGB"))


def eight_bits(grey: npt.NDArray[Any], path: StrPath) -> UInt8:
    """Grey values, integers of 16 or 32 bits or floats, to uint8 of the same shape, by the rules of `read_image`.

    Raises DataError, in the name of `path`, for values outside of 0..65535 or 0..1.
    """
    top = 1 if grey.dtype.kind == "f" else 65535
    low, high = grey.min(), grey.max()
    if not np.isfinite([low, high]).all():
        problem = f"has pixels that are NaN or infinite, where 0 to {top} can be read"
        raise DataError.of(Fault("not-finite", Path(path), problem, "fill them in"))
    if not (low >= 0 and high <= top):
        problem = f"grey values from {low} to {high}, where 0 to {top} can be read"
        raise DataError.of(Fault("value-range", Path(path), problem, "save 8 bits"))
    if top == 1:
        return np.rint(grey * np.float32(255)).astype(np.uint8)
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def write_image(path: StrPath, rgb: UInt8) -> None:
    """Write H x W x 3 uint8 RGB in the format that the suffix names (JPEG at quality 95).

    Raises UsageError for a suffix outside `IMAGE_SUFFIXES` or a format that cannot hold the size, and
    FullconvError if it cannot be written; the file is replaced whole or not at all.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UsageError(f"{path}: images are not written as {suffix or 'files without suffix'}; use .png")
    if max(rgb.shape) > _LONGEST_SIDE.get(suffix, MAX_PIXELS):
        raise UsageError(f"{path}: {_size(rgb)} pixels are more than {suffix} can hold; use .png")
    with atomic_write(path) as temporary:
        Image.fromarray(rgb).save(temporary, quality=95, subsampling=0)


def overlay(image: UInt8, label_map: UInt8, labels: LabelSet, alpha: float = 0.5) -> UInt8:
    """An H x W x 3 uint8 RGB image tinted with the colours of its H x W label map, as a new array.

    `alpha` is the share of the class colour, 0..1. Pixels whose label is no class keep the image.

    Raises DataError if the sizes differ, UsageError if `alpha` is out of range.
    """
    if image.shape[:2] != label_map.shape:
        raise DataError(f"an image of {_size(image)} and a label map of {_size(label_map)} pixels do not match")
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}; it is a share, 0 to 1")
    weight = round(256 * alpha)
    ids = np.arange(256, dtype=np.uint8)
    colors = labels.colorize(ids).astype(np.uint16)
    is_class = (ids < labels.num_classes) & (ids != labels.ignore_index)
    shares = (colors * weight + 128).astype(np.uint16)
    result = np.empty_like(image)
    for top in range(0, len(image), ROWS):
        rows = slice(top, top + ROWS)
        tinted = image[rows].astype(np.uint16)  # 255 * 256 + 128 fits 16 bits: no floats are needed
        tinted *= 256 - weight
        tinted += shares[label_map[rows]]
        tinted >>= 8
        result[rows] = np.where(is_class[label_map[rows]][..., None], tinted.astype(np.uint8), image[rows])
    return result


def _size(array: UInt8) -> str:
    return " x ".join(str(length) for length in array.shape[:2])

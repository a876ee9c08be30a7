"""Writing of images and label maps, and overlays of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.errors import DataError, UsageError
from fullconv.files import StrPath, atomic_write
from fullconv.images.decoders.headers import IMAGE_SUFFIXES
from fullconv.images.decoders.open_pillow import MAX_PIXELS
from fullconv.labels import LabelSet

__all__ = ["fits_format", "overlay", "rgb_view", "write_image", "write_label_map"]

ROWS = 256
"""Rows that are tinted at once; temporary arrays are five times as large as the rows."""

_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".jfif": 65500, ".gif": 65535, ".webp": 16383}


def write_image(path: StrPath, rgb: UInt8) -> None:
    """Write H x W x 3 uint8 RGB in the format that the suffix names (JPEG at quality 95).

    Raises UsageError for a suffix outside `IMAGE_SUFFIXES` or a format that cannot hold the size, and
    FullconvError if it cannot be written; the file is written atomically.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UsageError(
            f"{path}: images cannot be written as {suffix or 'files without a suffix'}; use .png",
            code="unknown-image-suffix",
        )
    if not fits_format(path, rgb.shape):
        message = f"{path}: {_size(rgb)} pixels do not fit in a {suffix} file; use .png"
        raise UsageError(message, code="image-too-large-for-format")
    with atomic_write(path) as temporary:
        Image.fromarray(rgb).save(temporary, quality=95, subsampling=0)


def fits_format(path: StrPath, size: Sequence[int]) -> bool:
    """Return whether the format that the suffix names can hold an image of this size."""
    return max(size) <= _LONGEST_SIDE.get(Path(path).suffix.lower(), MAX_PIXELS)


def write_label_map(path: StrPath, label_map: UInt8, labels: LabelSet) -> None:
    """Write an H x W uint8 label map as an 8-bit palette PNG in the colours of `labels`; other labels are white.

    Raises FullconvError if it cannot be written; the file is written atomically.
    """
    image = Image.fromarray(label_map)
    image.putpalette(labels.colorize(np.arange(256, dtype=np.uint8)).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def rgb_view(image: UInt8) -> UInt8:
    """Return an H x W x C image as H x W x 3 RGB to show: its first three channels, or the first one as grey."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def overlay(image: UInt8, label_map: UInt8, labels: LabelSet, alpha: float = 0.5) -> UInt8:
    """Return an H x W x 3 uint8 RGB image tinted with the colours of its H x W label map, as a new array.

    `alpha` is the share of the class colour, 0 to 1. Pixels whose label is not a class are not tinted.

    Raises DataError if the sizes differ, UsageError if `alpha` is out of range.
    """
    if image.shape[:2] != label_map.shape:
        raise DataError(
            f"the image is {_size(image)} pixels, the label map {_size(label_map)}; both must have the same size",
            code="label-map-size-differs",
        )
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}; it must be a number from 0 to 1", code="alpha-out-of-range")
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
    return f"{array.shape[1]} x {array.shape[0]}"

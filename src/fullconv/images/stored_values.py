"""Samples of the numbers that are stored in image files of more than 8 bits, before they become bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from fullconv.arrays import Float64, Mask
from fullconv.images.decoders.base import NumberReader
from fullconv.images.decoders.headers import read_header
from fullconv.images.decoders.npy import is_array, open_array
from fullconv.images.decoders.open_pillow import open_with_pillow
from fullconv.images.decoders.pillow import read_stored
from fullconv.images.decoders.tiff_tags import is_tiff, tiff_tags
from fullconv.images.decoders.values import fit_bands
from fullconv.images.input_format import InputFormat, ValueRange
from fullconv.images.reader import open_decoder

__all__ = ["ValueSample", "clipped_share", "has_deep_values", "robust_range", "sample_values"]

VALUES = 30_000
"""About so many numbers of each image are kept."""

WHOLE_PIXELS = 4_000_000
"""Images with more pixels are read in `GRID` x `GRID` windows of `SIDE` pixels."""

GRID, SIDE = 4, 256

PERCENTILES = (0.1, 99.9)

_PALETTE = 3


@dataclass(frozen=True, eq=False)
class ValueSample:
    """Numbers of an image, without pixels without data: a sample, and the least and the most of all that were read.

    NaN and infinite values are not in the sample; `is_finite` says whether there are none.
    """

    values: Float64
    least: float
    most: float
    type: str
    is_finite: bool = True

    @property
    def top(self) -> int:
        """The number that becomes 255 if there is no range."""
        return 1 if self.type.startswith("float") else 65535


def has_deep_values(path: Path) -> bool:
    """Return whether the image stores other numbers than bytes, and a range can scale them. Only the header is read.

    Colours of 16 bits in a PNG do not count: Pillow reads only their high bytes. Raises DataError as `read_header`.
    """
    if is_array(path):
        return open_array(path).dtype != np.uint8
    if os.path.isfile(path) and is_tiff(path):
        tags = tiff_tags(path)
        return bool(np.max(tags.get(BITSPERSAMPLE, 1)) > 8) and tags.get(PHOTOMETRIC_INTERPRETATION) != _PALETTE
    with open_with_pillow(path, None) as image:
        return image.mode == "F" or image.mode.startswith("I")


def sample_values(path: Path, channels: int = 3) -> ValueSample | None:
    """Return a sample of the numbers in an image file; None for images of 8 bits, and if no pixel has data.

    Raises DataError and MissingExtra as `read_image`.
    """
    if not has_deep_values(path):
        return None
    kept: list[Float64] = []
    least, most, name, is_finite = math.inf, -math.inf, "", True
    for stored, empty in _read(path, channels):
        held = (stored if empty is None else stored[~empty]).ravel()
        if held.dtype.kind == "f" and not (finite := np.isfinite(held)).all():
            held, is_finite = held[finite], False
        if not held.size or held.dtype.kind not in "uif":
            continue
        least, most, name = min(least, float(held.min())), max(most, float(held.max())), held.dtype.name
        kept.append(held[:: max(1, stored.size // VALUES)].astype(np.float64))
    if not kept:
        return None
    values = np.concatenate(kept)
    return ValueSample(values[:: max(1, values.size // VALUES)], least, most, name, is_finite)


def robust_range(values: Float64) -> ValueRange | None:
    """Return the range of nearly all values, between round numbers; None if all are equal.

    The ends are percentiles, rounded outward to three digits of their distance. A low end near 0 becomes 0.
    """
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if low >= high:
        low, high = float(values.min()), float(values.max())
    if low >= high:
        return None
    step = 10.0 ** (math.floor(math.log10(high - low)) - 2)
    if bool((values == np.rint(values)).all()):
        step = max(1.0, step)
    if 0 < low <= high / 10:
        low = 0.0
    return _tidy(math.floor(low / step) * step), _tidy(math.ceil(high / step) * step)


def clipped_share(values: Iterable[Float64], bounds: ValueRange) -> float:
    """Return the share of the values that are outside a range."""
    all_values = np.concatenate([*values])
    return float(((all_values < bounds[0]) | (all_values > bounds[1])).mean()) if all_values.size else 0.0


def _tidy(value: float) -> float:
    """Remove the last digits of a float that come from binary arithmetic."""
    return float(f"{value:.10g}")


def _read(path: Path, channels: int) -> Iterator[tuple[npt.NDArray[Any], Mask | None]]:
    """Yield the numbers of an image in windows, h x w x bands, with the mask of pixels without data."""
    input = InputFormat(channels)
    if is_array(path):
        array = open_array(path)
        for rows, columns in _windows((array.shape[0], array.shape[1])):
            yield fit_bands(np.array(array[rows.start : rows.stop, columns.start : columns.stop]), channels), None
        return
    with open_decoder(path, read_header(path, None), input) as reader:
        if isinstance(reader, NumberReader):
            for rows, columns in _windows(reader.size):
                yield reader.numbers(rows, columns)
            return
    with open_with_pillow(path) as image:
        yield fit_bands(read_stored(image), channels), None


def _windows(size: tuple[int, int]) -> Iterator[tuple[range, range]]:
    """Yield the whole image as one window, or evenly spread windows of a large image."""
    height, width = size
    if height * width <= WHOLE_PIXELS:
        yield range(height), range(width)
        return
    tops, lefts = (
        sorted({round((side - min(SIDE, side)) * step / (GRID - 1)) for step in range(GRID)}) for side in size
    )
    for top, left in product(tops, lefts):
        yield range(top, min(top + SIDE, height)), range(left, min(left + SIDE, width))

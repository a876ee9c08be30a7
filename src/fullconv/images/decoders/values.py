"""Conversion of stored numbers of any type to 8 bits, by the same rules for all decoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.images.input_format import RGB, InputFormat, ValueRange

__all__ = [
    "PixelDecoder",
    "band_count_error",
    "bands_in_words",
    "fit_bands",
    "not_finite_fault",
    "scale_to_bytes",
    "to_bytes",
]


SLACK = 0.01
"""Floats that are at most so far outside of 0..1 are clipped, for example a reflectance of 1.0004."""


@dataclass(frozen=True)
class PixelDecoder:
    """The conversion of a TIFF's stored numbers to 8 bits.

    Attributes:
        path: The file, for error messages.
        input: The channels to give, and the range of numbers that becomes 0..255.
        palette: n x 3 uint8 RGB colours, if the numbers are indices of a palette.
        bits: Bits of each number; grey of 1, 2 or 4 bits is stretched to 8.
        inverted: Whether 0 is white.
    """

    path: Path
    input: InputFormat = RGB
    palette: UInt8 | None = None
    bits: int = 8
    inverted: bool = False

    def bytes_of(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """Convert h x w x bands numbers of any type to h x w x channels uint8, with 0 where `empty`.

        A single band is repeated to give RGB. Raises DataError for numbers that have no rule for 8 bits.
        """
        channels = self.input.channels
        has_rule = stored.dtype == np.bool_ or (stored.dtype == np.uint8 and channels in (1, 3))
        value_range = None if has_rule else self.input.value_range  # a range changes no numbers of up to 8 bits
        if self.palette is not None or (channels == 3 and value_range is None):
            return self._rgb(stored, empty)
        if channels == 1 and value_range is None:
            return self._rgb(stored, empty)[..., :1]
        if empty is not None:
            stored = np.where(empty[..., None], _fill(stored, empty), stored)
        pixels = to_bytes(stored, value_range, self.path)
        pixels = 255 - pixels if self.inverted else pixels
        return _blacken(pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2), empty)

    def _rgb(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """Convert h x w x 1 or 3 numbers of any type to h x w x 3 uint8 RGB, black where `empty`."""
        if stored.dtype.kind not in "buif" or stored.dtype == np.int8:
            problem = f"has pixels of type {stored.dtype}"
            raise DataError.of(Fault("unsupported-format", self.path, problem, "save it with 8 or 16 bits, unsigned"))
        if empty is not None:
            stored = np.where(empty[..., None], _fill(stored, empty), stored)
        if self.palette is not None:
            return _blacken(self.palette[stored[..., 0]], empty)
        if stored.dtype == np.bool_ or (stored.dtype == np.uint8 and self.bits in (1, 2, 4)):
            bits = 1 if stored.dtype == np.bool_ else self.bits
            stored = stored.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
        elif stored.dtype == np.uint16 and stored.shape[2] == 3:
            stored = (stored >> 8).astype(np.uint8)
        elif stored.dtype != np.uint8:
            stored = scale_to_bytes(stored, self.path)
        rgb = np.repeat(stored, 3, axis=2) if stored.shape[2] == 1 else stored
        return _blacken(255 - rgb if self.inverted else rgb, empty)


def to_bytes(stored: npt.NDArray[Any], value_range: ValueRange | None, path: StrPath) -> UInt8:
    """Convert numbers of any type and shape to uint8 by the rules of `read_image`.

    Raises DataError, whose message names `path`, for numbers that have no rule.
    """
    if stored.dtype == np.uint8:
        return np.array(stored, order="C")  # copies, because a memory-mapped file is read-only
    if stored.dtype.kind not in "uif":
        problem = f"has pixels of type {stored.dtype}"
        raise DataError.of(Fault("unsupported-format", Path(path), problem, "save it as integers or floats"))
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise DataError.of(not_finite_fault(path))
    if value_range is not None:
        low, high = value_range
        scaled = (stored.astype(np.promote_types(stored.dtype, np.float32)) - low) * (255 / (high - low))
        pixels: UInt8 = np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return pixels
    return scale_to_bytes(stored, path)


def scale_to_bytes(grey: npt.NDArray[Any], path: StrPath) -> UInt8:
    """Convert numbers, integers of 16 or 32 bits or floats, to uint8 of the same shape, as `read_image` does.

    Floats up to `SLACK` outside of 0..1 are clipped. Raises DataError, whose message names `path`, for values outside
    0..65535 (integers) or 0..1 (floats).
    """
    top, slack = (1, SLACK) if grey.dtype.kind == "f" else (65535, 0)
    low, high = grey.min(), grey.max()
    if not np.isfinite([low, high]).all():
        raise DataError.of(not_finite_fault(path))
    if not (low >= -slack and high <= top + slack):
        raise _range_error(path, float(low), float(high), top)
    if top == 1:
        scaled: UInt8 = np.rint((grey * np.float32(255)).clip(0, 255)).astype(np.uint8)
        return scaled
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def not_finite_fault(path: StrPath) -> Fault:
    """Return the fault of an image with NaN or infinite values that no nodata value declares."""
    remedy = "replace them by numbers, as np.nan_to_num does"
    if Path(path).suffix.lower() in (".tif", ".tiff"):
        remedy = f"if NaN means that there is no data, declare it (gdal_edit.py -a_nodata nan FILE), or {remedy}"
    return Fault("not-finite", Path(path), "holds NaN or infinite values", remedy)


def fit_bands(stored: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """Return the first `channels` bands of H x W x bands; if there are fewer bands, repeat the first one."""
    return stored[..., :channels] if stored.shape[2] >= channels else np.repeat(stored[..., :1], channels, axis=2)


def band_count_error(path: StrPath, bands: int, input: InputFormat) -> DataError:
    """Return the DataError for a file whose number of bands does not fit the model."""
    problem = f"has {bands_in_words(bands)}, but the model takes images of {input}"
    remedy = "use images with the bands that the model was trained on"
    return DataError.of(Fault("band-count", Path(path), problem, remedy))


def bands_in_words(bands: int) -> str:
    """Return "one band", "2 bands", ..."""
    return "one band" if bands == 1 else f"{bands} bands"


def _range_error(path: StrPath, low: float, high: float, top: int) -> DataError:
    """Return the DataError for numbers outside of 0..top, which have no rule without a range."""
    problem = f"has values from {low:.10g} to {high:.10g}, but only 0 to {top} can be read without a range"
    low, high = min(low, 0.0 if low == high else low), max(high, low + 1 if low == high else high)
    remedy = (
        f"set which values become 0 and 255, for training as `range: [{low:.10g}, {high:.10g}]` in dataset.yaml, and "
        f"for a trained model as `fullconv predict --range {low:.10g},{high:.10g}`"
    )
    return DataError.of(Fault("value-range", Path(path), problem, remedy))


def _fill(stored: npt.NDArray[Any], empty: Mask) -> Any:
    """Return a number that replaces those of pixels without data, so that they are in the range of the others."""
    held = stored[~empty]
    return held.flat[0] if held.size else stored.dtype.type(0)


def _blacken(pixels: UInt8, empty: Mask | None) -> UInt8:
    if empty is not None:
        pixels[empty] = 0
    return pixels

"""Numbers of any type become bytes here: the same rules for every decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.images.input_format import RGB, InputFormat, ValueRange

__all__ = ["Mask", "PixelDecoder", "UInt8", "counted_bands", "eight_bits", "fitted", "to_bytes", "wrong_bands"]

UInt8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PixelDecoder:
    """What a TIFF's numbers mean: entries of a palette (n x 3 uint8), grey of 1, 2 or 4 `bits`, or white at 0.

    `input` says which channels are wanted, and which numbers become 0 and 255.
    """

    path: Path
    input: InputFormat = RGB
    palette: UInt8 | None = None
    bits: int = 8
    inverted: bool = False

    def bytes_of(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """Turn h x w x bands of any numbers into h x w x channels uint8, black where `empty`.

        One band stands for all three of RGB. Raises DataError for numbers that 8 bits cannot stand for.
        """
        channels, value_range = self.input.channels, self.input.value_range
        if self.palette is not None or (channels == 3 and value_range is None):
            return self._rgb(stored, empty)
        if channels == 1 and value_range is None:
            return self._rgb(stored, empty)[..., :1]
        if empty is not None:
            stored = np.where(empty[..., None], stored.dtype.type(0), stored)
        pixels = to_bytes(stored, value_range, self.path)
        return _blackened(pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2), empty)

    def _rgb(self, stored: npt.NDArray[Any], empty: Mask | None) -> UInt8:
        """Turn h x w x 1 or 3 numbers of any type into h x w x 3 uint8 RGB, black where `empty`."""
        if stored.dtype.kind not in "buif" or stored.dtype == np.int8:
            problem = f"pixels of type {stored.dtype}"
            raise DataError.of(Fault("unsupported-format", self.path, problem, "save 8 or 16 bits without sign"))
        if empty is not None:
            stored = np.where(empty[..., None], stored.dtype.type(0), stored)
        if self.palette is not None:
            return _blackened(self.palette[stored[..., 0]], empty)
        if stored.dtype == np.bool_ or (stored.dtype == np.uint8 and self.bits in (1, 2, 4)):
            bits = 1 if stored.dtype == np.bool_ else self.bits
            stored = stored.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
        elif stored.dtype == np.uint16 and stored.shape[2] == 3:
            stored = (stored >> 8).astype(np.uint8)
        elif stored.dtype != np.uint8:
            stored = eight_bits(stored, self.path)
        rgb = np.repeat(stored, 3, axis=2) if stored.shape[2] == 1 else stored
        return _blackened(255 - rgb, empty) if self.inverted else rgb


def to_bytes(stored: npt.NDArray[Any], value_range: ValueRange | None, path: StrPath) -> UInt8:
    """Turn numbers of any type and shape into uint8, by the rules of `read_image`; errors name `path`."""
    if stored.dtype == np.uint8:
        return np.array(stored, order="C")  # a mapped file is read only
    if stored.dtype.kind not in "uif":
        problem = f"pixels of type {stored.dtype}"
        raise DataError.of(Fault("unsupported-format", Path(path), problem, "save integers or floats"))
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        remedy = "replace them by numbers, as np.nan_to_num does"
        raise DataError.of(Fault("not-finite", Path(path), "holds NaN or infinite values", remedy))
    if value_range is not None:
        low, high = value_range
        scaled = (stored.astype(np.promote_types(stored.dtype, np.float32)) - low) * (255 / (high - low))
        pixels: UInt8 = np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return pixels
    least, most = stored.min(), stored.max()
    top = 1 if stored.dtype.kind == "f" else 65535
    if least < 0 or most > top:
        problem = f"values from {least} to {most}, where 0 to {top} can be read"
        remedy = f"say in dataset.yaml what becomes 0 and 255, as `range: [{least}, {most}]`"
        raise DataError.of(Fault("value-range", Path(path), problem, remedy))
    return eight_bits(stored, path)


def eight_bits(grey: npt.NDArray[Any], path: StrPath) -> UInt8:
    """Turn grey values, integers of 16 or 32 bits or floats, into uint8 of the same shape, as `read_image` does.

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


def fitted(stored: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """Return the first `channels` of H x W x bands, or the first band as often where there are fewer."""
    return stored[..., :channels] if stored.shape[2] >= channels else np.repeat(stored[..., :1], channels, axis=2)


def wrong_bands(path: StrPath, bands: int, channels: int) -> DataError:
    """Return the error for a file whose number of bands does not fit the model."""
    problem = f"has {counted_bands(bands)}, the model takes {channels}"
    remedy = "give it images with the bands that it was trained on"
    return DataError.of(Fault("band-count", Path(path), problem, remedy))


def counted_bands(bands: int) -> str:
    """Return the number of bands in words."""
    return "one band" if bands == 1 else f"{bands} bands"


def _blackened(pixels: UInt8, empty: Mask | None) -> UInt8:
    if empty is not None:
        pixels[empty] = 0
    return pixels

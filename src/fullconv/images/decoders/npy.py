"""Reading of NumPy arrays from .npy files, in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images.decoders.base import GeoTags
from fullconv.images.decoders.open_pillow import MAX_PIXELS, check_file
from fullconv.images.decoders.values import band_count_error, bands_in_words, fit_bands, to_bytes
from fullconv.images.input_format import InputFormat

__all__ = ["ARRAY_SUFFIX", "ArrayReader", "is_array", "open_array"]

ARRAY_SUFFIX = ".npy"

MOST_BANDS_FIRST = 32
"""Arrays with at most so many rows, and more columns and bands, are refused: they are probably stored bands first."""


def is_array(path: Path) -> bool:
    """Return whether the file is a NumPy array, by its suffix."""
    return path.suffix.lower() == ARRAY_SUFFIX


def open_array(path: Path) -> npt.NDArray[Any]:
    """Memory-map an H x W or H x W x C array of integers or floats in a .npy file, as H x W x C.

    Raises DataError for files that are damaged or hold anything else.
    """
    check_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises many types for damaged files
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        problem = f"cannot be read as an array ({reason})"
        raise DataError.of(Fault("unreadable-file", path, problem, "write it with np.save")) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif" or array.ndim not in (2, 3):
        is_array_file = isinstance(array, np.ndarray)
        content = f"{' x '.join(map(str, array.shape))} {array.dtype}" if is_array_file else "an archive"
        remedy = "an image is height x width x bands of integers or floats"
        raise DataError.of(Fault("unsupported-format", path, f"is {content}", remedy))
    stored = array if array.ndim == 3 else array[..., None]
    height, width, bands = stored.shape
    if not 0 < height * width <= MAX_PIXELS or bands == 0:
        problem = f"{width} x {height} pixels of {bands_in_words(bands)}"
        raise DataError.of(Fault("too-large", path, problem, f"1 to {MAX_PIXELS} pixels can be read"))
    if height <= MOST_BANDS_FIRST < min(width, bands):
        remedy = "bands come last: save np.moveaxis(array, 0, -1)"
        raise DataError.of(Fault("unsupported-format", path, f"is {height} x {width} x {bands}", remedy))
    return stored


class ArrayReader:
    """A .npy file as an `ImageReader`. Only the numbers of the window are read."""

    block_bytes = 0
    by_rows = False
    geo: GeoTags | None = None
    note = ""
    masked = False

    def __init__(self, path: Path, input: InputFormat) -> None:
        self._array, self._path, self._input = open_array(path), path, input
        height, width, bands = self._array.shape
        if bands != input.channels and (bands, input.channels) != (1, 3):
            raise band_count_error(path, bands, input)
        self.size = (height, width)

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        window = self._array[rows.start : rows.stop, columns.start : columns.stop]
        return to_bytes(fit_bands(window, self._input.channels), self._input.value_range, self._path), None

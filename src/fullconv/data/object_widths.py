"""Measurement of object widths by the runs of equal labels through each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Int32, Int64, UInt8

__all__ = ["WIDEST", "count_widths", "measure_widths", "median_width"]

WIDEST = 64
"""Larger widths are counted as this one; no stride blurs objects of this width."""


def measure_widths(target: npt.NDArray[Any]) -> Int32:
    """Return the width of the object at each pixel of an H x W label map: H x W int32, in pixels.

    The width is the length of the shorter run of equal labels through the pixel, along its row or its column. In a pole
    it is the width of the pole. In a slanting strip it is up to 1.4 times the strip's true width.
    """
    return np.minimum(_runs(target), _runs(np.ascontiguousarray(target.T)).T)


def count_widths(target: UInt8) -> Int64:
    """Count the pixels of each label by their width, at most `WIDEST`: 256 x (WIDEST + 1) int64."""
    step = WIDEST + 1
    cells = np.minimum(measure_widths(target), WIDEST) + target.astype(np.int32) * step
    return np.bincount(cells.ravel(), minlength=256 * step).reshape(256, step)


def median_width(counts: Int64) -> int | None:
    """Return the median width of a label's pixels from its row of `count_widths`; None if it has no pixels."""
    total = int(counts.sum())
    return int(np.searchsorted(counts.cumsum(), (total + 1) // 2)) if total else None


def _runs(rows: npt.NDArray[Any]) -> Int32:
    """Return for each element the length of its run of equal values in its row."""
    begins = np.ones(rows.shape, bool)
    begins[:, 1:] = rows[:, 1:] != rows[:, :-1]
    lengths = np.diff(np.flatnonzero(begins), append=rows.size).astype(np.int32)
    return np.repeat(lengths, lengths).reshape(rows.shape)

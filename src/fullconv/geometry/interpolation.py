"""The cells of each tap that a pixel's logits are averages of, along one axis, with their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float32, Int64
from fullconv.geometry.fusion import Upsampling, bilinear_kernel

__all__ = ["Interpolation", "Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """What pixels read of one map: pixel n is the sum of `weights[n, t]` times cell `first[n] + t`, for all t.

    Cells that the map does not have get the weight 0; their numbers may lie outside of the map.
    """

    first: Int64
    weights: Float32


@dataclass(frozen=True)
class Interpolation:
    """The upsampling of a skip network along one axis: from each tap to the next, then to pixels.

    `upsamplings` are those of the score maps, coarse to fine, and the last one to pixels; `lead` is the padding before
    the image. Two maps are summed on the cells that both have. As all of it is linear, scoring a tap and upsampling the
    scores equals upsampling the tap and scoring each pixel, which `readings` is for.
    """

    upsamplings: tuple[Upsampling, ...]
    lead: int = 0

    @property
    def start(self) -> int:
        """The position of pixel 0 in the last transposed convolution."""
        return self.upsamplings[-1].crop + self.lead

    def skipped(self, tap: int) -> int:
        """Return how many cells of a tap lie before the first cell of the sum on it."""
        return max(0, -self.upsamplings[tap - 1].crop) if tap else 0

    def fused_sizes(self, cells: Sequence[int]) -> tuple[int, ...]:
        """Return the number of cells of the sum on each tap, for the number of cells of each tap."""
        sizes = [cells[0]]
        for up, fine in zip(self.upsamplings[:-1], cells[1:], strict=True):
            sizes.append(up.fused_size(sizes[-1], fine))
        return tuple(sizes)

    def ranges(self, pixels: range, cells: Sequence[int]) -> tuple[range, ...]:
        """Return the cells of the sum on each tap that these pixels depend on, for the number of cells of each tap."""
        sizes = self.fused_sizes(cells)
        final = self.upsamplings[-1]
        ranges = [final.sources(self.start + pixels.start, len(pixels), sizes[-1])]
        for up, size in zip(self.upsamplings[-2::-1], sizes[-2::-1], strict=True):
            fine = ranges[-1]
            ranges.append(up.sources(max(0, up.crop) + fine.start, len(fine), size))
        return tuple(reversed(ranges))

    def readings(self, pixels: Int64, cells: Sequence[int]) -> tuple[Reading, ...]:
        """Return what the pixels read of each tap, coarse to fine, for the number of cells of each tap."""
        sizes = self.fused_sizes(cells)
        first, weights = _descend(pixels, np.ones((len(pixels), 1), np.float32), self.upsamplings[-1], self.start)
        weights = _inside(first, weights, sizes[-1])
        readings = [Reading(first + self.skipped(len(cells) - 1), weights)]
        for tap in range(len(cells) - 2, -1, -1):
            up = self.upsamplings[tap]
            first, weights = _descend(first, weights, up, max(0, up.crop))
            weights = _inside(first, weights, sizes[tap])
            readings.append(Reading(first + self.skipped(tap), weights))
        return tuple(reversed(readings))


def _descend(first: Int64, weights: Float32, up: Upsampling, start: int) -> tuple[Int64, Float32]:
    """Return the coarse cells and weights for windows of fine cells, of which cell 0 is output `start` of `up`."""
    kernel = np.zeros(2 * up.factor, np.float32)
    kernel[: up.kernel] = bilinear_kernel(up)
    wide = weights.shape[1]
    begin = (first + start) // up.factor - 1
    coarse = np.zeros((len(first), (wide + up.factor - 2) // up.factor + 2), np.float32)
    rows = np.arange(len(first))
    for index in range(wide):
        cell, phase = np.divmod(first + start + index, up.factor)
        at = cell - begin - 1
        coarse[rows, at] += weights[:, index] * kernel[phase + up.factor]
        coarse[rows, at + 1] += weights[:, index] * kernel[phase]
    return begin, coarse


def _inside(first: Int64, weights: Float32, size: int) -> Float32:
    """Return the weights, 0 for cells that are not among `size`."""
    cells = first[:, None] + np.arange(weights.shape[1])
    return np.where((cells >= 0) & (cells < size), weights, np.float32(0))

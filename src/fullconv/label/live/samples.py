"""Painted pixels as samples: a bounded, stable choice of them, and their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fullconv.arrays import Float32, Int64, UInt8

__all__ = ["MAX_SAMPLES", "Painted", "choose", "weigh"]

MAX_SAMPLES = 3000
"""The samples of all images that are fitted. More take time, and change next to nothing."""

MIN_PER_CLASS = 20
"""The samples of a class in an image that are kept, however many images there are."""

MAX_BALANCE = 10.0
"""The largest factor between the weights of a sample of a rare class and of a frequent one."""


@dataclass(frozen=True, eq=False)
class Painted:
    """The painted pixels of an image: their rows, columns and class keys, N each."""

    rows: Int64
    columns: Int64
    keys: UInt8
    _order: list[Int64] = field(default_factory=list)

    @property
    def order(self) -> Int64:
        """A fixed random order that depends on the place alone: more paint leaves the order of the rest unchanged."""
        if not self._order:
            self._order.append(np.argsort(_scramble(self.rows, self.columns), kind="stable"))
        return self._order[0]


def choose(painted: Painted, images: int, max_samples: int = MAX_SAMPLES) -> Int64:
    """Return the indices of the pixels that are fitted, when `images` images share `max_samples`.

    The classes of an image share its pixels evenly, as far as they have so many.
    """
    share = max(1, max_samples // max(1, images))
    keys = painted.keys[painted.order]
    counts = np.bincount(keys, minlength=256)
    classes = np.flatnonzero(counts)
    quota = max(MIN_PER_CLASS, _fill(counts[classes], share))
    chosen = [painted.order[keys == key][:quota] for key in classes]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _fill(counts: Int64, total: int) -> int:
    """Return the largest quota for which at most `total` are taken."""
    quota, left = total // max(1, len(counts)), total
    for rank, count in enumerate(sorted(counts.tolist())):
        quota = left // (len(counts) - rank)
        if count > quota:
            break
        left -= count
    return quota


def weigh(targets: Int64) -> Float32:
    """Return the weights of samples with the sum 1: rare classes count more, up to a bound.

    The weight of a class is its count to the power of 1/2: half-way between equal samples and equal classes.
    """
    counts = np.bincount(targets)
    present = counts[counts > 0]
    factors = np.where(counts > 0, np.sqrt(present.max(initial=1) / np.maximum(counts, 1)), 0)
    weights = np.minimum(factors, MAX_BALANCE)[targets]
    result: Float32 = (weights / weights.sum()).astype(np.float32)
    return result


def _scramble(rows: Int64, columns: Int64) -> Int64:
    """Return a pseudo-random number for each place (the finaliser of SplitMix64, Steele and others, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + columns.astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return (x >> np.uint64(1)).astype(np.int64)

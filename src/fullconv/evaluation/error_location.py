"""Where pixels sit: at a boundary of the truth or inside, in small regions of it or in large ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fullconv.images.polygons import label_components

__all__ = ["LEAST", "RADIUS", "RegionSizes", "SizeGroup", "near_boundary"]

RADIUS = 3
"""Pixels, along rows and columns, within which another label makes a pixel one at a boundary."""

LEAST = 10
"""Pixels of the smallest regions that are counted: smaller ones are mostly noise of the masks."""

UInt8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def near_boundary(target: UInt8, radius: int = RADIUS) -> Mask:
    """H x W: whether the square of side 2 * radius + 1 around a pixel, cut at the border, holds a second label.

    The ignored label is one like any other.
    """
    near: Mask = _extreme(target, radius, np.maximum, 0) != _extreme(target, radius, np.minimum, 255)
    return near


def _extreme(target: UInt8, radius: int, better: np.ufunc, worst: int) -> UInt8:
    """The largest or smallest label in the square, by one axis after the other."""
    found = target
    for axis in (0, 1):
        room = [(radius, radius) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(found, room, constant_values=worst)
        length = target.shape[axis]
        parts = [padded.take(range(first, first + length), axis) for first in range(2 * radius + 1)]
        found = better.reduce(parts)
    return found


@dataclass(frozen=True)
class SizeGroup:
    """Regions of `least` to `most` pixels: how many, the mean of the share of each that is right, how many mostly are.

    `recall` counts every region alike, whatever its size; `found` are those of which at least half is right.
    """

    least: int
    most: int
    regions: int
    recall: float
    found: int


@dataclass
class RegionSizes:
    """How much of the truth's regions is right, by their size in pixels.

    A region is a largest set of pixels of one class that hang together by their sides. Regions of one size are summed
    up as (how many, pixels right, how many at least half right), so that memory follows the number of sizes. Those of
    fewer than `LEAST` pixels are only counted, in `tiny`.
    """

    by_size: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    tiny: int = 0

    def add(self, target: UInt8, right: Mask, ignore_index: int) -> None:
        """Count the regions of one image, H x W both."""
        component = label_components(target).ravel()
        sizes = np.bincount(component)
        hits = np.bincount(component, weights=right.ravel()).astype(np.int64)
        labelled = np.bincount(component, weights=(target != ignore_index).ravel()) > 0
        self.tiny += int((labelled & (sizes < LEAST)).sum())
        labelled &= sizes >= LEAST
        for size, hit in zip(sizes[labelled].tolist(), hits[labelled].tolist(), strict=True):
            count, pixels, found = self.by_size.get(size, (0, 0, 0))
            self.by_size[size] = (count + 1, pixels + hit, found + (2 * hit >= size))

    def thirds(self) -> list[SizeGroup]:
        """The regions in up to three groups of growing size, as near to thirds as equal sizes, kept together, allow."""
        total, before = sum(count for count, _, _ in self.by_size.values()), 0
        groups: list[list[int]] = [[], [], []]
        for size in sorted(self.by_size):
            count = self.by_size[size][0]
            middle = before + (count - 1) / 2
            groups[min(2, int(3 * middle / total))].append(size)
            before += count
        return [self._group(sizes) for sizes in groups if sizes]

    def _group(self, sizes: list[int]) -> SizeGroup:
        rows = [(size, *self.by_size[size]) for size in sizes]
        regions = sum(count for _, count, _, _ in rows)
        recall = sum(pixels / size for size, _, pixels, _ in rows) / regions
        return SizeGroup(sizes[0], sizes[-1], regions, recall, sum(found for *_, found in rows))

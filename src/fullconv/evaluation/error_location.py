"""Locate errors: near a boundary of the truth or inside, in small or in large regions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fullconv.arrays import Mask, UInt8
from fullconv.images.polygons import label_components

__all__ = ["LEAST", "RADIUS", "RegionSizes", "SizeGroup", "near_boundary"]

RADIUS = 3
"""The largest distance to another label, in rows and in columns, of a pixel near a boundary."""

LEAST = 10
"""The size in pixels of the smallest regions that are counted; smaller regions are mostly noise of the masks."""


def near_boundary(target: UInt8, radius: int = RADIUS) -> Mask:
    """Return the pixels near a boundary, an H x W mask, for an H x W label map.

    The square of side 2 * radius + 1 around such a pixel, cut at the border of the image, contains a second label. The
    ignored label counts like any other label.
    """
    near: Mask = _filter_square(target, radius, np.maximum, 0) != _filter_square(target, radius, np.minimum, 255)
    return near


def _filter_square(target: UInt8, radius: int, extreme: np.ufunc, padding: int) -> UInt8:
    """Return the largest or smallest label in the square around each pixel, one axis after the other."""
    result = target
    for axis in (0, 1):
        widths = [(radius, radius) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(result, widths, constant_values=padding)
        length = target.shape[axis]
        parts = [padded.take(range(first, first + length), axis) for first in range(2 * radius + 1)]
        result = extreme.reduce(parts)
    return result


@dataclass(frozen=True)
class SizeGroup:
    """The regions of `least` to `most` pixels: their number, their mean recall, and how many are mostly right.

    The recall of a region is the share of its pixels that are right; all regions have the same weight in the mean. A
    region is mostly right if at least half of its pixels are right.
    """

    least: int
    most: int
    regions: int
    recall: float
    mostly_right: int


@dataclass
class RegionSizes:
    """Counts of right pixels in the regions of the truth, by the size of the region in pixels.

    A region is a 4-connected component of the pixels of one class. `by_size` maps a size to (regions, right pixels,
    mostly right regions), so the memory depends on the number of sizes. `tiny` counts the regions of fewer than `LEAST`
    pixels.
    """

    by_size: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    tiny: int = 0

    def add(self, target: UInt8, right: Mask, ignore_index: int) -> None:
        """Count the regions of one image; both arrays are H x W."""
        component = label_components(target).ravel()
        sizes = np.bincount(component)
        hits = np.bincount(component, weights=right.ravel()).astype(np.int64)
        labelled = np.bincount(component, weights=(target != ignore_index).ravel()) > 0
        self.tiny += int((labelled & (sizes < LEAST)).sum())
        labelled &= sizes >= LEAST
        for size, hit in zip(sizes[labelled].tolist(), hits[labelled].tolist(), strict=True):
            count, pixels, mostly_right = self.by_size.get(size, (0, 0, 0))
            self.by_size[size] = (count + 1, pixels + hit, mostly_right + (2 * hit >= size))

    def thirds(self) -> list[SizeGroup]:
        """Return up to three groups of growing size, near to thirds; regions of one size are in one group."""
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
        return SizeGroup(sizes[0], sizes[-1], regions, recall, sum(mostly_right for *_, mostly_right in rows))

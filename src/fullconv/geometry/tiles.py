"""Tile plans: which pixels each label depends on, and how an image is cut into tiles. Integer arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product

from fullconv.errors import UsageError
from fullconv.geometry import Field

__all__ = ["MAX_TILES", "MAX_TILES_TRIED", "Cut", "Window", "choose_tile"]

MAX_TILES = 2**22
"""The largest number of tiles per image. A damaged file header can claim a size that would never finish."""

MAX_TILES_TRIED = 64
"""The largest number of tiles along an axis that `choose_tile` tries."""


@dataclass(frozen=True)
class Cut:
    """A tile along one axis: the pixels that are cut out of the image, and those whose labels are kept."""

    read: range
    keep: range

    @property
    def inner(self) -> slice:
        """The position of the kept pixels in the tile."""
        return slice(self.keep.start - self.read.start, self.keep.stop - self.read.start)

    @property
    def outer(self) -> slice:
        """The position of the kept pixels in the image."""
        return slice(self.keep.start, self.keep.stop)


@dataclass(frozen=True)
class Window:
    """The pixels that one label depends on, along one axis.

    A label needs `before` pixels before its own and `after` pixels after it: the halo. A cut starts at a multiple of
    `period`, so that the cells of a strided network have the same positions on the tile as on the whole image.

    A cut that ends at the end of the image must be padded there as the whole image is, and the padding depends on the
    size modulo `period`. Therefore every cut has the size of the image modulo `period`, and all tiles have one shape.
    """

    before: int
    after: int
    period: int = 1

    @classmethod
    def of(cls, field: Field) -> Window:
        """Return the window of one pixel of a dense network. Raises ModelError if `field` is not at stride 1."""
        return cls(*field.halo, field.advance)

    @classmethod
    def centred(cls, size: int) -> Window:
        """Return the window of a classifier with input size `size`, its pixel at index `size // 2`."""
        return cls(size // 2, size - 1 - size // 2)

    @property
    def size(self) -> int:
        """The number of pixels in a cut for one pixel. It is also the smallest tile."""
        return self.before + self.after + self.period

    def start(self, pixel: int) -> int:
        """Return the first pixel of the cut for `pixel`; it is negative if the cut starts before the image."""
        return (pixel - self.before) // self.period * self.period

    def with_halo(self, halo: int | None) -> Window:
        """Return the window with a halo of `halo` pixels on both sides, or the same window for None."""
        return self if halo is None else replace(self, before=halo, after=halo)

    def covers(self, other: Window) -> bool:
        """Return whether the halo is at least as large as that of `other`."""
        return self.before >= other.before and self.after >= other.after

    def cut(self, keep: range, size: int) -> Cut:
        """Return the smallest cut of an axis of `size` pixels that holds all that the pixels `keep` depend on."""
        start = max(0, self.start(keep.start))
        beyond = max(0, size - keep.stop - self.after)
        return Cut(range(start, size - beyond // self.period * self.period), keep)

    def cuts(self, size: int, tile: int) -> list[Cut]:
        """Cut an axis of `size` pixels into tiles of equal length that keep each pixel exactly once.

        The length is `tile` plus up to `period` - 1 pixels, or less if the same number of shorter tiles is enough. An
        axis that is not longer than one tile is not cut.

        Raises UsageError if `tile` is smaller than `size` of the window, or there would be more than `MAX_TILES` tiles.
        """
        if tile < self.size:
            message = (
                f"tiles of {tile} pixels are too small: their halo takes {self.before} pixels before and {self.after} "
                f"after; use at least {self.size}, or a smaller --halo, which changes labels near the seams"
            )
            raise UsageError(message, code="tile-too-small")
        length = tile + (size - tile) % self.period
        if size <= length:
            return [Cut(range(size), range(size))]
        count = self._count(size, length)
        if count > MAX_TILES:
            message = f"{size:,} pixels need {count:,} tiles of {tile}, more than {MAX_TILES:,}; use larger tiles"
            raise UsageError(message, code="too-many-tiles")
        while length - self.period >= self.size and self._count(size, length - self.period) == count:
            length -= self.period
        starts = [*(number * self._step(length) for number in range(count - 1)), size - length]
        edges = [0, *(start + self.before for start in starts[1:]), size]
        return [
            Cut(range(start, start + length), range(*pair)) for start, pair in zip(starts, pairwise(edges), strict=True)
        ]

    def side(self, size: int, count: int) -> int:
        """Return the tile length for which `cuts` makes at most `count` tiles of an axis of `size` pixels."""
        if count == 1:
            return max(self.size, size)
        step = -(-(size - self.before - self.after) // count)
        return max(self.size, self.before + self.after + -(-step // self.period) * self.period)

    def _step(self, length: int) -> int:
        """Return the largest distance between tiles of `length` pixels at which their kept pixels still meet."""
        return (length - self.before - self.after) // self.period * self.period

    def _count(self, size: int, length: int) -> int:
        """Return the number of tiles of `length` pixels that cover `size` pixels."""
        return 1 - (length - size) // self._step(length)


def choose_tile(windows: tuple[Window, Window], size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return the tile (height, width) of about `pixels` pixels at most that costs the least for an image of `size`."""
    down, across = (
        {window.side(length, count): count for count in range(MAX_TILES_TRIED, 0, -1)}
        for window, length in zip(windows, size, strict=True)
    )

    def cost(tile: tuple[int, int]) -> tuple[int, int, int]:
        height, width = tile
        computed = min(height, size[0]) * min(width, size[1])
        count = down[height] * across[width]
        return max(0, computed - pixels), computed * count, count

    return min(product(down, across), key=cost)

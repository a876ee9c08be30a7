"""What a pixel of a label map depends on, and how an image is cut accordingly. Plain ints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product

from fullconv.errors import UsageError
from fullconv.geometry import Field

__all__ = ["MOST_TILES", "TRIED", "Cut", "Window", "balanced"]

MOST_TILES = 2**22
"""More are not made of one image: a damaged header can claim a size that would never end."""

TRIED = 64
"""Tiles along an axis up to which the best number is sought."""


@dataclass(frozen=True)
class Cut:
    """A tile along one axis: the pixels that are cut out of the image, and those of them whose labels are kept."""

    read: range
    keep: range

    @property
    def inner(self) -> slice:
        """Where the kept pixels are in the tile."""
        return slice(self.keep.start - self.read.start, self.keep.stop - self.read.start)

    @property
    def outer(self) -> slice:
        """Where they are in the image."""
        return slice(self.keep.start, self.keep.stop)


@dataclass(frozen=True)
class Window:
    """Which pixels of the image the label of one depends on, along one axis.

    It needs `before` pixels before it and `after` pixels after it: the halo. What is cut out starts at a multiple of
    `period`, so that the cells of a strided network lie on it as they lie on the whole image.

    A cut that ends where the image does must also be padded there as the image is, and padding counts from the size
    modulo `period`. So every cut has the image's size modulo `period`, and then one shape serves all tiles.
    """

    before: int
    after: int
    period: int = 1

    @classmethod
    def of(cls, field: Field) -> Window:
        """What a pixel of a dense network depends on; ModelError where `field` is not one of pixels."""
        return cls(*field.halo, field.advance)

    @classmethod
    def centred(cls, size: int) -> Window:
        """The input of a classifier, with the pixel in its middle (for even sizes the first one behind it)."""
        return cls(size // 2, size - 1 - size // 2)

    @property
    def size(self) -> int:
        """Pixels of a cut for one pixel; all cuts have this size. Also the smallest tile."""
        return self.before + self.after + self.period

    def start(self, pixel: int) -> int:
        """The first pixel of the cut for `pixel`; below 0 outside of the image."""
        return (pixel - self.before) // self.period * self.period

    def with_halo(self, halo: int | None) -> Window:
        """The window that is cut with `halo` pixels on either side in place of its own; itself for None."""
        return self if halo is None else replace(self, before=halo, after=halo)

    def covers(self, other: Window) -> bool:
        """Whether all that `other` needs is in it."""
        return self.before >= other.before and self.after >= other.after

    def cut(self, keep: range, size: int) -> Cut:
        """The smallest cut of an axis of `size` pixels that has all that the pixels of `keep` depend on."""
        start = max(0, self.start(keep.start))
        beyond = max(0, size - keep.stop - self.after)
        return Cut(range(start, size - beyond // self.period * self.period), keep)

    def cuts(self, size: int, tile: int) -> list[Cut]:
        """An axis of `size` pixels in tiles of one length, each pixel kept once.

        The length is `tile`, or up to `period` - 1 more, unless as many shorter ones do. An axis that is no longer than
        this is not cut. Raises UsageError for tiles that have no pixel inside of their halo, and for too many of them.
        """
        if tile < self.size:
            raise UsageError(
                f"tiles of {tile} pixels are too small: {self.before} before and {self.after} after are halo; "
                f"take {self.size} at the least, or trade exactness for a smaller halo"
            )
        length = tile + (size - tile) % self.period
        if size <= length:
            return [Cut(range(size), range(size))]
        count = self._count(size, length)
        if count > MOST_TILES:
            raise UsageError(f"{size:,} pixels are {count:,} tiles of {tile}; take larger tiles, or a smaller image")
        while length - self.period >= self.size and self._count(size, length - self.period) == count:
            length -= self.period
        starts = [*(number * self._step(length) for number in range(count - 1)), size - length]
        edges = [0, *(start + self.before for start in starts[1:]), size]
        return [
            Cut(range(start, start + length), range(*pair)) for start, pair in zip(starts, pairwise(edges), strict=True)
        ]

    def side(self, size: int, count: int) -> int:
        """The length for `cuts` that makes at most `count` tiles of an axis of `size` pixels."""
        if count == 1:
            return max(self.size, size)
        kept = -(-(size - self.before - self.after) // count)
        return max(self.size, self.before + self.after + -(-kept // self.period) * self.period)

    def _step(self, length: int) -> int:
        """From tile to tile: as far as their kept pixels still meet."""
        return (length - self.before - self.after) // self.period * self.period

    def _count(self, size: int, length: int) -> int:
        """How many tiles of `length` an axis takes."""
        return 1 - (length - size) // self._step(length)


def balanced(windows: tuple[Window, Window], size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The tile (height, width) of about `pixels` at most with which an image of `size` takes the least computing."""
    down, across = (
        {window.side(length, count): count for count in range(TRIED, 0, -1)}
        for window, length in zip(windows, size, strict=True)
    )

    def cost(tile: tuple[int, int]) -> tuple[int, int]:
        height, width = tile
        computed = min(height, size[0]) * min(width, size[1])
        return max(0, computed - pixels), computed * down[height] * across[width]

    return min(product(down, across), key=cost)

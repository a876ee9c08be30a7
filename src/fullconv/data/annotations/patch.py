"""The pixels of one shape, as a mask of a part of the image or as runs of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Int64, Mask, UInt8

__all__ = ["Patch", "RowRuns", "unite"]


@dataclass(frozen=True)
class Patch:
    """The mask of a part of an image: h x w bool. Its first pixel is the image's pixel in row `top`, column `left`."""

    top: int
    left: int
    mask: Mask

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the rows and columns of the image that the patch covers."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def pixels(self) -> int:
        """Return the number of pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def bytes(self) -> int:
        """Return the memory that the patch takes."""
        return self.mask.size

    def paint(self, label_map: UInt8, label: int) -> None:
        """Give the pixels of a label map of the image, H x W uint8, this label."""
        label_map[self.slices][self.mask] = label


@dataclass(frozen=True, eq=False)
class RowRuns:
    """The pixels of a part of an image, `height` x `width`, as runs of its rows. Large shapes have few runs.

    A run covers the pixels `starts` to `stops`, exclusive, of one row. Pixels are numbered row by row, and each row has
    one number more than pixels, so that no run ends where the next row starts. Runs are in order and do not overlap.
    """

    top: int
    left: int
    height: int
    width: int
    starts: Int64
    stops: Int64

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the rows and columns of the image that the part covers."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @property
    def mask(self) -> Mask:
        """Return the pixels, height x width bool."""
        steps = np.zeros(self.height * (self.width + 1), np.int8)
        steps[self.starts] += 1
        steps[self.stops] -= 1
        inside: Mask = np.cumsum(steps, dtype=np.int8).view(bool)
        return inside.reshape(self.height, self.width + 1)[:, :-1]

    @property
    def pixels(self) -> int:
        """Return the number of pixels."""
        return int((self.stops - self.starts).sum())

    @property
    def bytes(self) -> int:
        """Return the memory that the runs take."""
        return self.starts.nbytes + self.stops.nbytes

    def paint(self, label_map: UInt8, label: int) -> None:
        """Give the pixels of a label map of the image, H x W uint8 in one piece of memory, this label."""
        across = label_map.shape[1]
        rows = self.starts // (self.width + 1)
        offset = (rows + self.top) * across + self.left - rows * (self.width + 1)
        pixels, row = label_map.data.cast("B"), memoryview(bytes([label]) * self.width)
        runs = zip((self.starts + offset).tolist(), (self.stops + offset).tolist(), strict=True)
        for start, stop in runs:  # a slice of a memoryview costs half of one of an array
            pixels[start:stop] = row[: stop - start]


Pixels = Patch | RowRuns
"""The pixels of one shape."""


def unite(parts: Sequence[Pixels]) -> Pixels:
    """Return the pixels that are in at least one of several parts of one image."""
    if len(parts) == 1:
        return parts[0]
    top, left = (min(part.slices[axis].start for part in parts) for axis in (0, 1))
    height, width = (max(part.slices[axis].stop for part in parts) - corner for axis, corner in ((0, top), (1, left)))
    runs = [_move(part, top, left, width) for part in parts if isinstance(part, RowRuns)]
    if len(runs) < len(parts):
        union = np.zeros((height, width), bool)
        for part in parts:
            rows, columns = part.slices
            union[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= part.mask
        return Patch(top, left, union)
    starts, stops = (np.concatenate(ends) for ends in zip(*runs, strict=True))
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    is_first = np.append(True, starts[1:] > reach[:-1])[: len(starts)]
    is_last = np.append(is_first[1:], True)[: len(starts)]
    return RowRuns(top, left, height, width, starts[is_first], reach[is_last])


def _move(part: RowRuns, top: int, left: int, width: int) -> tuple[Int64, Int64]:
    """Return starts and stops in a larger part of the image."""
    rows = part.starts // (part.width + 1)
    offset = (rows + part.top - top) * (width + 1) + part.left - left - rows * (part.width + 1)
    return part.starts + offset, part.stops + offset

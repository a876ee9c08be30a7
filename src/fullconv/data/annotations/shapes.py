"""Rasterize shapes by an exact rule, and draw them into label maps.

A pixel belongs to a polygon if its centre (x + 0.5, y + 0.5) is inside by the even-odd rule. (0, 0) is the top left
corner of the image, so a polygon along the borders of pixels covers exactly these pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Float64, Int64, Mask, UInt8

__all__ = [
    "Patch",
    "Rasterizer",
    "Size",
    "draw",
    "ellipse",
    "fill_each",
    "fill_rings",
    "fill_shares",
    "find_extent",
    "rectangle",
]

Size = tuple[int, int]
"""Height and width."""

CROSSINGS = 2**20
"""About how many crossings of rows and edges are computed at once."""

FARTHEST = 1e9
"""Coordinates are clipped to this absolute value, in pixels, so that no product overflows."""

CORNERS = 360
"""Corners of the polygon that approximates an ellipse; its sides are at most 0.00004 radii inside of the ellipse."""


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


Rasterizer = Callable[[Size], Patch]
"""Computes the pixels of one shape in an image of the given size. Raises DataError for damaged data."""


def draw(size: Size, shapes: Sequence[tuple[int, Rasterizer]], uncovered: int, by_area: bool) -> UInt8:
    """Return the H x W uint8 label map of shapes, each a label and its rasterizer.

    Pixels that no shape covers get the label `uncovered`. Later shapes are painted over earlier ones; with `by_area`,
    shapes of fewer pixels over those of more. Raises DataError for a damaged shape.
    """
    patches = [(label, rasterize(size)) for label, rasterize in shapes]
    if by_area:
        patches.sort(key=lambda pair: -int(np.count_nonzero(pair[1].mask)))
    label_map = np.full(size, uncovered, np.uint8)
    for label, patch in patches:
        label_map[patch.slices][patch.mask] = label
    return label_map


def fill_each(polygons: tuple[Float64, ...], size: Size) -> Patch:
    """Return the pixels that are in at least one of several polygons, each n x 2 (x, y)."""
    patches = [fill_rings((polygon,), size) for polygon in polygons]
    if len(patches) == 1:
        return patches[0]
    union = np.zeros(size, bool)
    for patch in patches:
        union[patch.slices] |= patch.mask
    return Patch(0, 0, union)


def fill_rings(rings: tuple[npt.NDArray[Any], ...], size: Size, crossings: int = CROSSINGS) -> Patch:
    """Return the pixels whose centres are inside of the rings by the even-odd rule; inner rings are holes.

    A ring is n x 2 (x, y); its last corner is connected to the first. Parts outside of the image are cut off. A centre
    on an edge is inside if the polygon lies on its right. Therefore polygons that share an edge share no pixel, and no
    pixel between them is left out. `crossings` limits the memory: about as many crossings of rows and edges are
    computed at once.
    """
    height, width = size
    edges = np.concatenate([np.hstack([ring, np.roll(ring, -1, axis=0)]) for ring in rings]).astype(np.float64)
    edges = edges.clip(-FARTHEST, FARTHEST)
    upwards = edges[:, 1] > edges[:, 3]
    edges[upwards] = edges[upwards][:, [2, 3, 0, 1]]  # rounding is equal for both directions of an edge
    first, end = (_cells(edges[:, column], 0, height) for column in (1, 3))
    crossed = end > first
    edges, first, end = edges[crossed], first[crossed], end[crossed]
    if not len(edges):
        return Patch(0, 0, np.zeros((0, 0), bool))
    top, bottom = int(first.min()), int(end.max())
    left, right = (int(cell) for cell in _cells(np.array([edges[:, ::2].min(), edges[:, ::2].max()]), 0, width))
    stride = right - left + 1
    odd = np.zeros((bottom - top) * stride, bool)
    block = np.cumsum(end - first) // crossings
    for part in np.split(np.arange(len(edges)), np.flatnonzero(np.diff(block)) + 1):
        lengths = end[part] - first[part]
        row = np.arange(lengths.sum()) + np.repeat(first[part] - (np.cumsum(lengths) - lengths), lengths)
        x0, y0, x1, y1 = np.repeat(edges[part], lengths, axis=0).T
        column = _cells(x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0), left, right)
        odd ^= np.bincount((row - top) * stride + column - left, minlength=len(odd)) % 2 == 1
    inside = np.logical_xor.accumulate(odd.reshape(-1, stride)[:, :-1], axis=1)
    return Patch(top, left, inside)


def fill_shares(ring: Float64, size: Size) -> Patch:
    """Return the pixels of a polygon whose corners are shares of the image's width and height."""
    height, width = size
    return fill_rings((ring * (width, height),), size)


def find_extent(rasterizer: Rasterizer) -> tuple[float, float] | None:
    """Return the largest y and x of the corners of a polygon; None for anything else, and for no corners."""
    if not isinstance(rasterizer, partial) or rasterizer.func not in (fill_rings, fill_each):
        return None
    corners = np.concatenate([*rasterizer.args[0], np.zeros((0, 2))])
    return (float(corners[:, 1].max()), float(corners[:, 0].max())) if len(corners) else None


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> Float64:
    """Return the corners (4 x 2) of a rectangle that is turned clockwise, as on a screen, around its corner (x, y)."""
    corners = np.array([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)])
    return _turn_and_move(corners, x, y, degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Float64:
    """Return an ellipse around (x, y), turned clockwise, as a polygon whose `CORNERS` corners lie on it."""
    angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    points = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], 1)
    return _turn_and_move(points, x, y, degrees)


def _turn_and_move(points: Float64, x: float, y: float, degrees: float) -> Float64:
    """Turn points around (0, 0) and add (x, y). Zero degrees change no digit."""
    if degrees:
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        points = points @ np.array([(cosine, sine), (-sine, cosine)])
    moved: Float64 = points + np.array([x, y])
    return moved


def _cells(positions: Float64, low: int, high: int) -> Int64:
    """Return the first cell whose centre is at or after each position, clipped to `low` and `high`."""
    return np.ceil(positions - 0.5).clip(low, high).astype(np.int64)

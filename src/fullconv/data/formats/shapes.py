"""Shapes on the grid of pixels: polygons by an exact rule, runs of pixels, and the label map that shapes make.

A pixel belongs to a polygon when its centre (x + 0.5, y + 0.5) is inside by the even-odd rule. (0, 0) is the top left
corner of the image, so a polygon along the borders of pixels covers just these pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Area", "Floats", "Patch", "Size", "draw", "ellipse", "fill_each", "fill_rings", "rectangle"]

Floats = npt.NDArray[np.float64]
Size = tuple[int, int]

CROSSINGS = 2**20
"""How many crossings of rows and edges are looked at at once, more or less."""

FARTHEST = 1e9
"""Corners farther away are moved to this distance, in pixels, so that no product overflows."""

CORNERS = 360
"""Corners of the polygon that stands for an ellipse: it leaves out at most 0.00004 of the radius."""


@dataclass(frozen=True)
class Patch:
    """Some pixels of an image: h x w bool, whose first row is the image's row `top` and first column its `left`."""

    top: int
    left: int
    mask: npt.NDArray[np.bool_]


Area = Callable[[Size], Patch]
"""Gives the pixels of a shape in an image of a size (height, width). Raises DataError for damaged data."""


def draw(size: Size, shapes: Sequence[tuple[int, Area]], uncovered: int, by_area: bool) -> npt.NDArray[np.uint8]:
    """The H x W uint8 label map of (label, area) pairs; pixels without a shape become `uncovered`.

    Shapes are painted in their order, or with `by_area` from the one of most pixels to the one of fewest. Raises
    DataError for a damaged one.
    """
    patches = [(label, area(size)) for label, area in shapes]
    if by_area:
        patches.sort(key=lambda pair: -int(np.count_nonzero(pair[1].mask)))
    label_map = np.full(size, uncovered, np.uint8)
    for label, patch in patches:
        height, width = patch.mask.shape
        label_map[patch.top : patch.top + height, patch.left : patch.left + width][patch.mask] = label
    return label_map


def fill_each(polygons: tuple[Floats, ...], size: Size) -> Patch:
    """The pixels that are in at least one of several polygons, each n x 2, (x, y)."""
    patches = [fill_rings((polygon,), size) for polygon in polygons]
    if len(patches) == 1:
        return patches[0]
    whole = np.zeros(size, bool)
    for patch in patches:
        height, width = patch.mask.shape
        whole[patch.top : patch.top + height, patch.left : patch.left + width] |= patch.mask
    return Patch(0, 0, whole)


def fill_rings(rings: tuple[npt.NDArray[Any], ...], size: Size) -> Patch:
    """The pixels whose centres are inside all the rings together by the even-odd rule, so that inner rings are holes.

    A ring is n x 2, (x, y), the last corner joined to the first. Parts outside of the image are cut off. A centre on
    an edge is inside where the polygon lies to its right, so polygons that share an edge share no pixel and leave none.
    """
    height, width = size
    edges = np.concatenate([np.hstack([ring, np.roll(ring, -1, axis=0)]) for ring in rings]).astype(np.float64)
    edges = edges.clip(-FARTHEST, FARTHEST)
    upwards = edges[:, 1] > edges[:, 3]
    edges[upwards] = edges[upwards][:, [2, 3, 0, 1]]  # an edge is crossed at the same places from both sides
    first, behind = (_cells(edges[:, column], 0, height) for column in (1, 3))
    crossed = behind > first
    edges, first, behind = edges[crossed], first[crossed], behind[crossed]
    if not len(edges):
        return Patch(0, 0, np.zeros((0, 0), bool))
    top, bottom = int(first.min()), int(behind.max())
    left, right = (int(cell) for cell in _cells(np.array([edges[:, ::2].min(), edges[:, ::2].max()]), 0, width))
    stride = right - left + 1
    odd = np.zeros((bottom - top) * stride, bool)
    block = np.cumsum(behind - first) // CROSSINGS
    for part in np.split(np.arange(len(edges)), np.flatnonzero(np.diff(block)) + 1):
        lengths = behind[part] - first[part]
        row = np.arange(lengths.sum()) + np.repeat(first[part] - (np.cumsum(lengths) - lengths), lengths)
        x0, y0, x1, y1 = np.repeat(edges[part], lengths, axis=0).T
        column = _cells(x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0), left, right)
        odd ^= np.bincount((row - top) * stride + column - left, minlength=len(odd)) % 2 == 1
    inside = np.logical_xor.accumulate(odd.reshape(-1, stride)[:, :-1], axis=1)
    return Patch(top, left, inside)


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> Floats:
    """The corners, 4 x 2, of a rectangle that is turned clockwise, as seen on a screen, around its corner (x, y)."""
    corners = np.array([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)])
    return _placed(corners, x, y, degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Floats:
    """An ellipse around (x, y), turned clockwise, as a polygon of `CORNERS` corners on it."""
    angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    points = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], 1)
    return _placed(points, x, y, degrees)


def _placed(points: Floats, x: float, y: float, degrees: float) -> Floats:
    """Points turned around (0, 0), then moved to (x, y); without a turn no digit is lost."""
    if degrees:
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        points = points @ np.array([(cosine, sine), (-sine, cosine)])
    placed: Floats = points + np.array([x, y])
    return placed


def _cells(positions: Floats, low: int, high: int) -> npt.NDArray[np.int64]:
    """The first cell whose centre is at a position or behind it, within bounds."""
    return np.ceil(positions - 0.5).clip(low, high).astype(np.int64)

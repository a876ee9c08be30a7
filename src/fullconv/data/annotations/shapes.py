"""Rasterize shapes by an exact rule, and draw them into label maps.

A pixel belongs to a polygon if its centre (x + 0.5, y + 0.5) is inside by the even-odd rule. (0, 0) is the top left
corner of the image, so a polygon along the borders of pixels covers exactly these pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Float64, Int64, Mask, UInt8
from fullconv.data.annotations.patch import Patch, Pixels, RowRuns, unite

__all__ = [
    "Patch",
    "Pixels",
    "Rasterizer",
    "Size",
    "draw",
    "ellipse",
    "fill_each",
    "fill_rings",
    "fill_shares",
    "find_extent",
    "has_corners",
    "rectangle",
]

Size = tuple[int, int]
"""Height and width."""

CROSSINGS = 2**20
"""About how many crossings of rows and edges are computed at once."""

KEPT = 2**27
"""Bytes of the pixels of shapes that are kept while their areas are compared."""

FARTHEST = 1e9
"""Coordinates are clipped to this absolute value, in pixels, so that no product overflows."""

CORNERS = 360
"""Corners of the polygon that approximates an ellipse; its sides are at most 0.00004 radii inside of the ellipse."""


Rasterizer = Callable[[Size], Pixels]
"""Computes the pixels of one shape in an image of the given size. Raises DataError for damaged data."""


def draw(size: Size, shapes: Sequence[tuple[int, Rasterizer]], uncovered: int, by_area: bool) -> UInt8:
    """Return the H x W uint8 label map of shapes, each a label and its rasterizer.

    Pixels that no shape covers get the label `uncovered`. Later shapes are painted over earlier ones; with `by_area`,
    shapes of fewer pixels over those of more. Raises DataError for a damaged shape.
    """
    label_map = np.full(size, uncovered, np.uint8)
    if by_area:
        painted = _from_large_to_small(size, shapes)
    else:
        painted = ((label, rasterize(size)) for label, rasterize in shapes)
    for label, patch in painted:
        patch.paint(label_map, label)
    return label_map


def _from_large_to_small(size: Size, shapes: Sequence[tuple[int, Rasterizer]]) -> Iterator[tuple[int, Pixels]]:
    """Yield label and pixels of each shape; of equal ones, the earlier first.

    Pixels are kept up to `KEPT` bytes; those of other shapes are computed twice, once for their area.
    """
    kept: dict[int, Pixels] = {}
    areas, held = [], 0
    for index, (_, rasterize) in enumerate(shapes):
        patch = rasterize(size)
        areas.append(patch.pixels)
        if held + patch.bytes <= KEPT:
            kept[index] = patch
            held += patch.bytes
    for index in sorted(range(len(shapes)), key=lambda index: -areas[index]):
        label, rasterize = shapes[index]
        patch = kept.pop(index, None) or rasterize(size)
        yield label, patch


def fill_each(polygons: tuple[Float64, ...], size: Size) -> Pixels:
    """Return the pixels that are in at least one of several polygons, each n x 2 (x, y)."""
    return unite([fill_rings((polygon,), size) for polygon in polygons])


def fill_rings(rings: tuple[npt.NDArray[Any], ...], size: Size, crossings: int = CROSSINGS) -> Pixels:
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
    if (end - first).sum() <= crossings:
        keys = np.sort(_cross(edges, first, end, range(top, bottom), (left, right)))
        filled = keys[::2] < keys[1::2]
        return RowRuns(top, left, bottom - top, right - left, keys[::2][filled], keys[1::2][filled])
    inside = np.zeros((bottom - top, right - left), bool)
    for rows in _bands(first, end, top, bottom, crossings):
        here = (first < rows.stop) & (end > rows.start)
        band = edges[here], first[here].clip(rows.start, rows.stop), end[here].clip(rows.start, rows.stop)
        inside[rows.start - top : rows.stop - top] = _fill_band(*band, rows, (left, right), crossings)
    return Patch(top, left, inside)


def _bands(first: Int64, end: Int64, top: int, bottom: int, crossings: int) -> Iterator[range]:
    """Yield ranges of rows from `top` to `bottom` that edges cross about `crossings` times, at least one row each."""
    steps = np.bincount(first - top, minlength=bottom - top + 1) - np.bincount(end - top, minlength=bottom - top + 1)
    total = np.cumsum(np.cumsum(steps)[:-1])
    cuts = np.flatnonzero(np.diff(total // crossings)) + 1
    for start, stop in pairwise([top, *(cuts + top).tolist(), bottom]):
        yield range(start, stop)


def _fill_band(edges: Float64, first: Int64, end: Int64, rows: range, columns: tuple[int, int], crossings: int) -> Mask:
    """Return the pixels of a band of rows that an odd number of edges is left of."""
    stride = columns[1] - columns[0] + 1
    odd = np.zeros(len(rows) * stride, bool)
    block = np.cumsum(end - first) // crossings
    for part in np.split(np.arange(len(edges)), np.flatnonzero(np.diff(block)) + 1):
        keys = _cross(edges[part], first[part], end[part], rows, columns)
        odd ^= np.bincount(keys, minlength=len(odd)) % 2 == 1
    inside: Mask = np.logical_xor.accumulate(odd.reshape(-1, stride)[:, :-1], axis=1)
    return inside


def _cross(edges: Float64, first: Int64, end: Int64, rows: range, columns: tuple[int, int]) -> Int64:
    """Return the number of the pixel in a band of rows, as `RowRuns` counts, at each crossing of a row and an edge.

    `first` and `end` are the rows that each edge crosses, in the band.
    """
    lengths = end - first
    row = np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
    x0, y0, x1, y1 = edges.T
    at = row + 0.5
    at -= np.repeat(y0, lengths)
    at *= np.repeat(x1 - x0, lengths)
    at /= np.repeat(y1 - y0, lengths)
    at += np.repeat(x0, lengths)
    column = _cells(at, *columns)
    keys: Int64 = (row - rows.start) * (columns[1] - columns[0] + 1) + column - columns[0]
    return keys


def fill_shares(ring: Float64, size: Size) -> Pixels:
    """Return the pixels of a polygon whose corners are shares of the image's width and height."""
    height, width = size
    return fill_rings((ring * (width, height),), size)


def find_extent(rasterizer: Rasterizer) -> tuple[float, float] | None:
    """Return the largest y and x of the corners of a polygon; None for anything else, and for no corners."""
    if not isinstance(rasterizer, partial) or rasterizer.func not in (fill_rings, fill_each):
        return None
    corners = np.concatenate([*rasterizer.args[0], np.zeros((0, 2))])
    return (float(corners[:, 1].max()), float(corners[:, 0].max())) if len(corners) else None


def has_corners(rasterizer: Rasterizer) -> bool:
    """Return whether a polygon, or one of several, has at least three corners; True for anything else."""
    if not isinstance(rasterizer, partial) or rasterizer.func not in (fill_rings, fill_each):
        return True
    rings = rasterizer.args[0]
    return any(len(ring) >= 3 for ring in (rings[:1] if rasterizer.func is fill_rings else rings))


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
    cells = positions - 0.5
    return np.ceil(cells, out=cells).clip(low, high, out=cells).astype(np.int64)

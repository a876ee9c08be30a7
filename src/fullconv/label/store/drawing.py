"""The pixels that a stroke covers: brush and polygon as spans of rows, computed in full-resolution coordinates.

A pixel is covered if its centre is. Coordinates are those of the image, x to the right and y down, and pixel (x, y)
reaches from x to x + 1. All computations are in these coordinates, so that the parts of a stroke in neighbouring tiles
fit together exactly.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fullconv.arrays import Float64, Int64, Mask

__all__ = ["MIN_RADIUS", "cover_brush", "cover_polygon", "drawing_cost"]

MIN_RADIUS = 0.75
"""A thinner pen might miss all centres of pixels; a pen of this radius covers at least one."""

ROWS_AT_ONCE = 1_000_000
"""Rows of segments whose spans are computed at once, which bounds the memory."""


def drawing_cost(points: Float64, radius: float, width: int) -> int:
    """Return about how many spans the tiles of a stroke need; `width` is that of what it covers."""
    steps = float(np.abs(np.diff(points[:, 1])).sum()) if len(points) > 1 else 0.0
    reach = width if radius == 0 else min(width, 2 * radius)
    return int((steps + len(points) * (2 * radius + 2)) * (reach / 256 + 1))


def cover_brush(points: Float64, radius: float, rows: range, columns: range) -> Mask:
    """Return the pixels of a window, h x w, that a round pen covers along N x 2 points (x, y).

    The pen covers a capsule for each segment. A row cuts it in one span, because it is convex: the ends of the span are
    on one of the two circles or on one of the two long sides.
    """
    radius = max(radius, MIN_RADIUS)
    starts, ends = (points, points) if len(points) == 1 else (points[:-1], points[1:])
    low, high = np.minimum(starts, ends) - radius, np.maximum(starts, ends) + radius
    near = (low[:, 0] < columns.stop) & (high[:, 0] > columns.start)
    near &= (low[:, 1] < rows.stop) & (high[:, 1] > rows.start)
    starts, ends, low, high = starts[near], ends[near], low[near, 1], high[near, 1]
    toggles = np.zeros((len(rows), len(columns) + 1), np.int32)
    first = np.maximum(np.ceil(low - 0.5).astype(np.int64), rows.start)
    last = np.minimum(np.floor(high - 0.5).astype(np.int64), rows.stop - 1)
    for part in _parts(last - first + 1):
        segment, row = _expand(first[part], last[part])
        left, right = _capsule_spans(starts[part][segment], ends[part][segment], radius, row)
        begin = np.ceil(left - 0.5).clip(columns.start, columns.stop).astype(np.int64) - columns.start
        stop = (np.floor(right - 0.5) + 1).clip(columns.start, columns.stop).astype(np.int64) - columns.start
        filled = begin < stop
        line = row[filled] - rows.start
        np.add.at(toggles, (line, begin[filled]), 1)
        np.add.at(toggles, (line, stop[filled]), -1)
    covered: Mask = np.cumsum(toggles[:, :-1], axis=1) > 0
    return covered


def cover_polygon(points: Float64, rows: range, columns: range) -> Mask:
    """Return the pixels of a window, h x w, that are inside of a closed polygon of N x 2 points (x, y), even-odd."""
    starts, ends = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    near = (low < rows.stop) & (high > rows.start) & (np.minimum(starts[:, 0], ends[:, 0]) < columns.stop)
    starts, ends, low, high = starts[near], ends[near], low[near], high[near]
    toggles = np.zeros((len(rows), len(columns)), np.int32)
    # A row belongs to an edge if low <= its centre < high, so that a corner counts once.
    first = np.maximum(np.ceil(low - 0.5).astype(np.int64), rows.start)
    last = np.minimum(np.ceil(high - 0.5).astype(np.int64) - 1, rows.stop - 1)
    for part in _parts(last - first + 1):
        edge, row = _expand(first[part], last[part])
        start, end = starts[part][edge], ends[part][edge]
        share = (row + 0.5 - start[:, 1]) / (end[:, 1] - start[:, 1])
        crossing = start[:, 0] + share * (end[:, 0] - start[:, 0])
        column = np.maximum(np.ceil(crossing.clip(-1e9, 1e9) - 0.5).astype(np.int64) - columns.start, 0)
        inside = column < len(columns)
        np.add.at(toggles, (row[inside] - rows.start, column[inside]), 1)
    covered: Mask = np.cumsum(toggles, axis=1) % 2 == 1
    return covered


def _capsule_spans(start: Float64, end: Float64, radius: float, row: Int64) -> tuple[Float64, Float64]:
    """Return the left and right ends of the spans in which the centres of rows cut capsules; left > right if none."""
    y = row.astype(np.float64) + 0.5
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for center in (start, end):
        under = radius**2 - (y - center[:, 1]) ** 2
        half = np.where(under >= 0, np.sqrt(np.maximum(under, 0)), -np.inf)
        left, right = np.minimum(left, center[:, 0] - half), np.maximum(right, center[:, 0] + half)
    along = end - start
    length = np.hypot(along[:, 0], along[:, 1])
    normal = np.stack([-along[:, 1], along[:, 0]], 1) * (radius / np.maximum(length, 1e-12))[:, None]
    tall = np.abs(along[:, 1]) > 1e-12
    for side in (normal, -normal):
        corner = start + side
        share = (y - corner[:, 1]) / np.where(tall, along[:, 1], 1.0)
        crosses = tall & (share >= 0) & (share <= 1)
        x = corner[:, 0] + share * along[:, 0]
        left = np.minimum(left, np.where(crosses, x, np.inf))
        right = np.maximum(right, np.where(crosses, x, -np.inf))
    return left, right


def _expand(first: Int64, last: Int64) -> tuple[Int64, Int64]:
    """Return the index of each segment and each row from its `first` to its `last`, as two arrays of equal length."""
    counts = np.maximum(last - first + 1, 0)
    index = np.repeat(np.arange(len(counts)), counts)
    return index, first[index] + np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)


def _parts(counts: Int64) -> list[slice]:
    """Return slices of the segments with about `ROWS_AT_ONCE` rows each."""
    total = np.cumsum(np.maximum(counts, 0))
    if not len(total):
        return []
    cuts = np.flatnonzero(np.diff(total // ROWS_AT_ONCE)) + 1
    edges = [0, *cuts.tolist(), len(total)]
    return [slice(low, high) for low, high in pairwise(edges)]

"""Exact polygons of the regions of a label map, along the borders of pixels, computed with numpy alone.

A region is a 4-connected component: a largest set of pixels of one label that are connected by their sides. Two pixels
that meet only at a corner belong to two regions. Therefore the polygons are valid: the inside is connected, no ring
crosses or touches itself, and the rings of one region meet in single points at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float64, Int32, Int64, UInt8

__all__ = ["Region", "find_regions", "label_components", "simplify_ring"]

EAST, SOUTH, WEST, NORTH = range(4)

# For a side that arrives at corner (x, y) in each direction: the pixel ahead on its left, relative to pixel (y, x).
_AHEAD_LEFT = np.array([(-1, 0), (0, 0), (0, -1), (-1, -1)])


@dataclass(frozen=True)
class Region:
    """One region: its label, its number of pixels and its rings.

    A ring is n x 2 int64, the (x, y) of its corners in order, without repeating the first. Corners lie between pixels;
    (0, 0) is the top left corner of the image. Straight lines along one axis connect neighbouring corners. The first
    ring goes around the region, the others around its holes. The region is on the right of each ring, as seen on a
    screen.
    """

    label: int
    pixels: int
    rings: tuple[Int64, ...]

    @property
    def filled_area(self) -> float:
        """The area of the region together with its holes, in pixels (shoelace formula)."""
        x, y = self.rings[0].T
        return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def find_regions(label_map: UInt8) -> list[Region]:
    """Return all regions of an H x W uint8 label map, ordered by their first pixels, row by row."""
    component = label_components(label_map)
    corners, direction, following = _sides(component)
    firsts, pixels = np.unique(component, return_index=True, return_counts=True)[1:]
    rings: list[list[Int64]] = [[] for _ in firsts]
    # Every ring has a side to the east. The first one of a region, from the top, is on its outer ring.
    eastward = np.flatnonzero(direction == EAST)
    y, x = corners[eastward, 1], corners[eastward, 0]
    owner = component[y, x].tolist()
    seen, successor = bytearray(len(corners)), following.tolist()
    for first, region in zip(eastward.tolist(), owner, strict=True):
        ring = []
        side = first
        while not seen[side]:
            seen[side] = True
            ring.append(side)
            side = successor[side]
        if ring:
            rings[region].append(corners[ring])
    labels = label_map.ravel()[firsts].tolist()
    return [Region(*parts) for parts in zip(labels, pixels.tolist(), map(tuple, rings), strict=True)]


def simplify_ring(ring: Int64, tolerance: float) -> Int64:
    """Remove corners from an n x 2 ring so that its line moves by at most `tolerance` pixels (Douglas-Peucker).

    The first corner and the corner farthest from it stay. If fewer than three corners would remain, the ring is
    returned unchanged.

    Source: Douglas and Peucker, Algorithms for the reduction of the number of points required to represent a
    digitized line, Cartographica 10(2), 1973.
    """
    closed = np.concatenate([ring, ring[:1]]).astype(np.float64)
    farthest = int(((closed - closed[0]) ** 2).sum(1).argmax())
    keep = np.zeros(len(closed), bool)
    keep[[0, farthest]] = True
    pending = [(0, farthest), (farthest, len(ring))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return ring[keep[:-1]] if keep[:-1].sum() > 2 else ring


def _distances(points: Float64, start: Float64, end: Float64) -> Float64:
    """Return the distance of each of n x 2 points from the line segment between two points."""
    along = end - start
    share = ((points - start) @ along / max(float(along @ along), 1e-12)).clip(0, 1)
    offsets = points - start - share[:, None] * along
    distances: Float64 = np.hypot(offsets[:, 0], offsets[:, 1])
    return distances


def label_components(label_map: UInt8) -> Int32:
    """Return the number of each pixel's region, H x W int32 from 0.

    Runs of equal labels in rows are the first components; those that touch vertically are united.
    """
    begins = np.ones(label_map.shape, bool)
    begins[:, 1:] = label_map[:, 1:] != label_map[:, :-1]
    run = (np.cumsum(begins, dtype=np.int32) - np.int32(1)).reshape(label_map.shape)
    touches = (label_map[1:] == label_map[:-1]) & (begins[1:] | begins[:-1])
    above, below = run[:-1][touches], run[1:][touches]
    parent = np.arange(run[-1, -1] + 1, dtype=np.int32)
    while True:
        above, below = parent[above], parent[below]
        apart = above != below
        if not apart.any():
            break
        above, below = above[apart], below[apart]
        np.minimum.at(parent, np.maximum(above, below), np.minimum(above, below))
        while not np.array_equal(grand := parent[parent], parent):
            parent = grand
    number = np.cumsum(parent == np.arange(len(parent)), dtype=np.int32) - np.int32(1)
    component: Int32 = number[parent][run]
    return component


def _sides(component: Int32) -> tuple[Int64, Int64, Int64]:
    """Return the straight sides of all regions: start (x, y), direction and index of the next side of each."""
    padded = np.pad(component, 1, constant_values=-1)
    inner = padded[1:-1, 1:-1]
    starts, ends, owners = [], [], []
    for direction, outer, turned in (
        (EAST, padded[:-2, 1:-1], False),
        (SOUTH, padded[1:-1, 2:], True),
        (WEST, padded[2:, 1:-1], False),
        (NORTH, padded[1:-1, :-2], True),
    ):
        line, low, high, owner = _straight(inner.T, outer.T) if turned else _straight(inner, outer)
        line = line + (direction in (SOUTH, WEST))
        start, end = (low, high) if direction in (EAST, SOUTH) else (high, low)
        starts.append(np.stack([line, start] if turned else [start, line], 1))
        ends.append(np.stack([line, end] if turned else [end, line], 1))
        owners.append(owner)
    corners, arrivals, owner = np.concatenate(starts), np.concatenate(ends), np.concatenate(owners)
    directions = np.repeat(np.arange(4), [len(part) for part in owners])
    row, column = arrivals.T[::-1] + _AHEAD_LEFT[directions].T + 1
    # Where two pixels of a region meet only at a corner, turn left: two rings touch there, and none touches itself.
    turn = np.where(padded[row, column] == owner, 3, 1)
    width = component.shape[1] + 1
    keys = (corners[:, 1] * width + corners[:, 0]) * 4 + directions
    wanted = (arrivals[:, 1] * width + arrivals[:, 0]) * 4 + (directions + turn) % 4
    order = keys.argsort()
    return corners, directions, order[keys[order].searchsorted(wanted)]


def _straight(inner: Int32, outer: Int32) -> tuple[Int64, Int64, Int64, Int64]:
    """Return row, first column, end column (exclusive) and region of each longest piece of border in the rows."""
    frame = np.full((inner.shape[0], 1), -1, np.int32)
    border = np.hstack([frame, np.where(inner != outer, inner, np.int32(-1)), frame])
    changes = border[:, 1:] != border[:, :-1]
    row, first = np.nonzero(changes & (border[:, 1:] >= 0))
    _, end = np.nonzero(changes & (border[:, :-1] >= 0))
    return row, first, end, border[row, first + 1]

"""The regions of a label map as polygons along the borders of its pixels, exact, with numpy alone.

A region is a largest set of pixels of one label that hang together by their sides (4-connected): two pixels that meet
at a corner only are two regions. So the inside of a polygon hangs together, its rings neither cross nor touch
themselves, and rings of one region meet in single points at most, as valid polygons must.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Region", "components", "regions", "simplified"]

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[Any]

EAST, SOUTH, WEST, NORTH = range(4)

# The pixel ahead on the left of who arrives at the corner (x, y) in each direction, from the pixel (y, x).
_AHEAD_LEFT = np.array([(-1, 0), (0, 0), (0, -1), (-1, -1)])


@dataclass(frozen=True)
class Region:
    """One region: its label, how many pixels it has, and its rings.

    A ring is n x 2 int64, (x, y) of the corners between pixels in turn, the first one not repeated; (0, 0) is the top
    left corner of the image. Neighbouring corners are joined by straight lines along one axis. The first ring goes
    around the region, the others around its holes; the region lies to the right of each as it is seen on a screen.
    """

    label: int
    pixels: int
    rings: tuple[Ints, ...]


def regions(label_map: npt.NDArray[np.uint8]) -> list[Region]:
    """Every region of an H x W uint8 label map, in the order of their first pixels, row by row."""
    component = components(label_map)
    corners, direction, following = _sides(component)
    firsts, pixels = np.unique(component, return_index=True, return_counts=True)[1:]
    rings: list[list[Ints]] = [[] for _ in firsts]
    # Every ring has a side to the east, and the topmost of a region is on the ring around it.
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


def simplified(ring: Ints, tolerance: float) -> Ints:
    """The corners of a ring without which it moves by no more than `tolerance`, by Douglas and Peucker.

    The first corner and the one that is farthest from it stay. A ring of which fewer than three corners would be left
    is given back as it is.

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


def _distances(points: Points, start: Points, end: Points) -> Points:
    """Of each of n x 2 points from the line between two."""
    along = end - start
    share = ((points - start) @ along / max(float(along @ along), 1e-12)).clip(0, 1)
    offsets = points - start - share[:, None] * along
    distances: Points = np.hypot(offsets[:, 0], offsets[:, 1])
    return distances


def components(label_map: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """The number of each pixel's region, H x W int32 from 0: runs in rows, united where they touch vertically."""
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
    found: npt.NDArray[np.int32] = number[parent][run]
    return found


def _sides(component: npt.NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
    """The straight sides of all regions: where each starts (n x 2), its direction, and the side that follows it."""
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
    # Where two pixels of a region meet at a corner, turning left keeps what surrounds them two rings, which touch.
    turn = np.where(padded[row, column] == owner, 3, 1)
    width = component.shape[1] + 1
    keys = (corners[:, 1] * width + corners[:, 0]) * 4 + directions
    wanted = (arrivals[:, 1] * width + arrivals[:, 0]) * 4 + (directions + turn) % 4
    order = keys.argsort()
    return corners, directions, order[keys[order].searchsorted(wanted)]


def _straight(inner: npt.NDArray[np.int32], outer: npt.NDArray[np.int32]) -> tuple[Ints, Ints, Ints, Ints]:
    """Row, first column, column behind the last, and region, of the longest pieces of border in each row."""
    frame = np.full((inner.shape[0], 1), -1, np.int32)
    border = np.hstack([frame, np.where(inner != outer, inner, np.int32(-1)), frame])
    changes = border[:, 1:] != border[:, :-1]
    row, first = np.nonzero(changes & (border[:, 1:] >= 0))
    _, behind = np.nonzero(changes & (border[:, :-1] >= 0))
    return row, first, behind, border[row, first + 1]

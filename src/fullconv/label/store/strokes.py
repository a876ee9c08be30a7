"""Strokes: what a person paints, checked when it arrives, and as a line of a journal."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fullconv.arrays import Float64, Mask, UInt8
from fullconv.errors import DataError, UsageError
from fullconv.images import MAX_PIXELS
from fullconv.label.store.drawing import MIN_RADIUS, cover_brush, cover_polygon, drawing_cost
from fullconv.labels import IGNORE_INDEX

__all__ = [
    "MOST_POINTS",
    "Box",
    "Stroke",
    "brush",
    "paint",
    "parse_operations",
    "parse_stroke",
    "pixels",
    "polygon",
    "read_points",
    "window_of",
]

Box = tuple[int, int, int, int]
"""A rectangle of pixels: left, top, right and bottom; right and bottom are outside."""

Tool = Literal["brush", "polygon", "pixels"]

MOST_POINTS = 20_000
"""Maximum number of points of a stroke."""

LARGEST_RADIUS = 4096.0

FARTHEST = 2.0**31
"""Coordinates outside of plus and minus this are refused."""

MOST_COST = 60_000_000
"""Maximum cost of a stroke (`drawing_cost`), which takes about two seconds."""


@dataclass(frozen=True, eq=False)
class Stroke:
    """What one gesture paints.

    `key` is the class, or 255 to erase. A brush has `points` (N x 2 float64, x and y) and a `radius`, a polygon
    `points`. For `pixels`, a filled region or an accepted prediction, `keys` holds the class of each pixel of the
    `box`, h x w uint8, and 255 where the stroke paints nothing.
    """

    id: int
    client: str
    tool: Tool
    key: int
    box: Box
    points: Float64 = field(default_factory=lambda: np.zeros((0, 2)))
    radius: float = 0.0
    keys: UInt8 | None = None

    def to_line(self) -> dict[str, Any]:
        """Return the stroke as a line of a journal."""
        line: dict[str, Any] = {"op": "stroke", "id": self.id, "client": self.client, "tool": self.tool}
        line |= {"key": self.key, "box": list(self.box)}
        if self.keys is not None:
            packed = zlib.compress(np.ascontiguousarray(self.keys).tobytes(), 1)
            return line | {"keys": base64.b64encode(packed).decode("ascii")}
        return line | {"points": self.points.tolist(), "radius": self.radius}


def parse_stroke(line: Mapping[str, Any]) -> Stroke:
    """Return the stroke of a line of a journal. Raises ValueError, KeyError or TypeError for anything else."""
    left, top, right, bottom = (int(value) for value in line["box"])
    box = left, top, right, bottom
    key = int(line["key"])
    if not (0 <= key <= IGNORE_INDEX and 0 <= left <= right and 0 <= top <= bottom):
        raise ValueError("its class or box is out of range")
    head = int(line["id"]), str(line["client"]), line["tool"], key, box
    if line["tool"] == "pixels":
        size = min((bottom - top) * (right - left), MAX_PIXELS)
        packed = zlib.decompressobj()
        held = packed.decompress(base64.b64decode(line["keys"], validate=True), size + 1)
        if len(held) != size:
            raise ValueError("the pixels do not fill their box")
        return Stroke(*head, keys=np.frombuffer(held, np.uint8).reshape(bottom - top, right - left))
    points = np.array(line["points"], np.float64).reshape(-1, 2)
    if line["tool"] not in ("brush", "polygon") or not len(points) or not np.isfinite(points).all():
        raise ValueError("it is not a stroke")
    return Stroke(*head, points=points, radius=float(line["radius"]))


def read_points(points: Sequence[Sequence[float]]) -> Float64:
    """Return points from a request as N x 2 float64. Raises UsageError unless they are finite and not too many."""
    if not 1 <= len(points) <= MOST_POINTS:
        message = f"a stroke has 1 to {MOST_POINTS} points, not {len(points)}"
        raise UsageError(message, code="stroke-points")
    if any(len(point) != 2 for point in points):
        raise UsageError("each point of a stroke has two coordinates, x and y", code="stroke-points")
    array = np.array(points, np.float64)
    if not (np.abs(array) <= FARTHEST).all():  # false for NaN, too
        raise UsageError("the coordinates of a stroke must be finite numbers", code="stroke-points")
    return array


def brush(size: tuple[int, int], client: str, key: int, points: Float64, radius: float) -> Stroke:
    """Return a stroke of a round pen, without its id, on an image of `size` (height, width).

    Raises UsageError for a radius that is not allowed.
    """
    if not (math.isfinite(radius) and 0 <= radius <= LARGEST_RADIUS):
        raise UsageError(f"the radius of the brush must be from 0 to {LARGEST_RADIUS:g}", code="stroke-radius")
    box = _bounds(points, max(radius, MIN_RADIUS), size)
    _check_cost(points, max(radius, MIN_RADIUS), box)
    return Stroke(0, client, "brush", key, box, points, radius)


def polygon(size: tuple[int, int], client: str, key: int, points: Float64) -> Stroke:
    """Return a filled polygon, without its id. Raises UsageError if it has fewer than three corners."""
    if len(points) < 3:
        raise UsageError("a polygon has at least three corners", code="stroke-points")
    box = _bounds(points, 0, size)
    _check_cost(points, 0, box)
    return Stroke(0, client, "polygon", key, box, points)


def pixels(client: str, key: int, left: int, top: int, keys: UInt8) -> Stroke:
    """Return a stroke that paints the `keys` of a box, h x w uint8, where they are not 255; without its id.

    If `key` is 255, it erases these pixels. The box shrinks to what is painted.
    """
    held = np.flatnonzero((keys != IGNORE_INDEX).any(1)), np.flatnonzero((keys != IGNORE_INDEX).any(0))
    if not len(held[0]):
        return Stroke(0, client, "pixels", key, (left, top, left, top), keys=keys[:0, :0])
    (y0, y1), (x0, x1) = ((int(axis[0]), int(axis[-1]) + 1) for axis in held)
    return Stroke(0, client, "pixels", key, (left + x0, top + y0, left + x1, top + y1), keys=keys[y0:y1, x0:x1].copy())


def paint(stroke: Stroke, tile: UInt8, top: int, left: int) -> int:
    """Paint a stroke on a tile of raw keys whose first pixel is (`left`, `top`); return how many pixels it covers."""
    window = window_of(stroke.box, (left, top, left + tile.shape[1], top + tile.shape[0]))
    if window is None:
        return 0
    x0, y0, x1, y1 = window
    part = tile[y0 - top : y1 - top, x0 - left : x1 - left]
    if stroke.keys is not None:
        held = stroke.keys[y0 - stroke.box[1] : y1 - stroke.box[1], x0 - stroke.box[0] : x1 - stroke.box[0]]
        covered: Mask = held != IGNORE_INDEX
        # A filled region that erases holds key 0 where it erases.
        np.copyto(part, held if stroke.key != IGNORE_INDEX else np.uint8(IGNORE_INDEX), where=covered)
        return int(covered.sum())
    if stroke.tool == "brush":
        covered = cover_brush(stroke.points, stroke.radius, range(y0, y1), range(x0, x1))
    else:
        covered = cover_polygon(stroke.points, range(y0, y1), range(x0, x1))
    np.copyto(part, np.uint8(stroke.key), where=covered)
    return int(covered.sum())


def window_of(box: Box, other: Box) -> Box | None:
    """Return the common part of two boxes; None if there is none."""
    left, top = max(box[0], other[0]), max(box[1], other[1])
    right, bottom = min(box[2], other[2]), min(box[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _bounds(points: Float64, reach: float, size: tuple[int, int]) -> Box:
    """Return the box of all pixels that a stroke may cover, inside of the image; an empty box if there is none."""
    low, high = np.floor(points.min(0) - reach), np.ceil(points.max(0) + reach)
    height, width = size
    left, top = (int(value) for value in low.clip(0, (width, height)))
    right, bottom = (int(value) for value in high.clip(0, (width, height)))
    return left, top, right, bottom


def _check_cost(points: Float64, radius: float, box: Box) -> None:
    if drawing_cost(points, radius, box[2] - box[0]) > MOST_COST:
        raise UsageError("the stroke is too long for its radius; paint it in parts", code="stroke-too-large")


def parse_operations(lines: Sequence[Mapping[str, Any]], path: str) -> list[tuple[str, Stroke | int, str]]:
    """Return the operations of a journal's lines: its name, a stroke or the id of one, and the client.

    Raises DataError for a line that is not an operation.
    """
    found: list[tuple[str, Stroke | int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            if line["op"] == "stroke":
                found.append(("stroke", parse_stroke(line), str(line["client"])))
            elif line["op"] in ("undo", "redo"):
                found.append((line["op"], int(line["id"]), str(line["client"])))
            else:
                raise ValueError(line["op"])
        except (ValueError, KeyError, TypeError, OverflowError, zlib.error) as error:
            message = f"{path}: line {number} is not a stroke ({error}); restore the file from a copy, or remove it"
            raise DataError(message, code="damaged-journal") from error
    return found

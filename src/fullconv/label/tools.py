"""Tools that look at the photo or at the prediction: fill a region of one colour, accept a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from fullconv.arrays import Float64, Mask, UInt8
from fullconv.errors import UsageError
from fullconv.images.polygons import label_components
from fullconv.label.store.canvas import Canvas
from fullconv.label.store.strokes import Stroke, pixels
from fullconv.labels import IGNORE_INDEX

__all__ = ["MOST_ACCEPTED", "Scope", "accept", "fill"]

Scope = Literal["region", "class", "image"]

Read = Callable[[range, range], UInt8]
"""Reads a window of the photo, h x w x 3, or of the prediction, h x w class keys."""

SIDES = (256, 512, 1024, 2000)
"""Windows in which a region is looked for, the smallest first; the last has 4 million pixels."""

MOST_ACCEPTED = 16_000_000
"""Images of more pixels are not accepted at once."""


def fill(size: tuple[int, int], read: Read, client: str, key: int, points: Float64, tolerance: int) -> Stroke:
    """Return the stroke that fills the 4-connected region of similar colour around the first point.

    No channel differs by more than `tolerance` from the pixel at the point. The region is cut at the edge of a window
    of 4 million pixels around it. Raises UsageError for a point outside of the image.
    """
    row, column = _pixel(points, size)

    def similar(rows: range, columns: range) -> Mask:
        window = read(rows, columns).astype(np.int16)
        seed = window[row - rows.start, column - columns.start]
        chosen: Mask = (np.abs(window - seed) <= tolerance).all(2)
        return chosen

    top, left, region = _grow(size, row, column, similar)
    return pixels(client, key, left, top, np.where(region, np.uint8(key % IGNORE_INDEX), np.uint8(IGNORE_INDEX)))


def accept(
    size: tuple[int, int], read: Read, resolve: UInt8, client: str, points: Float64, scope: Scope
) -> Callable[[Canvas], Stroke]:
    """Return what makes the stroke that paints the prediction where nothing is painted yet.

    `read` gives the predicted keys. The scope is the connected region at the first point, all pixels of its class, or
    the whole image. Raises UsageError for a point outside of the image, and for a scope of too many pixels.
    """
    row, column = _pixel(points, size)
    if scope == "region":
        predicted: UInt8 | None = None

        def same(rows: range, columns: range) -> Mask:
            nonlocal predicted
            predicted = read(rows, columns)
            chosen: Mask = predicted == predicted[row - rows.start, column - columns.start]
            return chosen

        top, left, region = _grow(size, row, column, same)
        assert predicted is not None
        keys = np.where(region, predicted, np.uint8(IGNORE_INDEX))
    else:
        if size[0] * size[1] > MOST_ACCEPTED:
            raise UsageError("the image is too large to be accepted at once; accept regions", code="accept-too-large")
        top = left = 0
        keys = read(range(size[0]), range(size[1]))
        if scope == "class":
            keys = np.where(keys == keys[row, column], keys, np.uint8(IGNORE_INDEX))

    def make(canvas: Canvas) -> Stroke:
        rows, columns = range(top, top + keys.shape[0]), range(left, left + keys.shape[1])
        is_free = resolve[canvas.read(rows, columns)] == IGNORE_INDEX
        return pixels(client, 0, left, top, np.where(is_free, keys, np.uint8(IGNORE_INDEX)))

    return make


def _pixel(points: Float64, size: tuple[int, int]) -> tuple[int, int]:
    """Return row and column of the pixel at the first point."""
    column, row = (int(value) for value in np.floor(points[0]))
    if not (0 <= row < size[0] and 0 <= column < size[1]):
        raise UsageError("the point is outside of the image", code="point-outside")
    return row, column


def _grow(
    size: tuple[int, int], row: int, column: int, choose: Callable[[range, range], Mask]
) -> tuple[int, int, Mask]:
    """Return top, left and mask of the connected region of a pixel, in the smallest window that holds it."""
    top = left = 0
    region: Mask = np.zeros((0, 0), np.bool_)
    for side in SIDES:
        rows, columns = _around(row, side, size[0]), _around(column, side, size[1])
        top, left = rows.start, columns.start
        component = label_components(choose(rows, columns).view(np.uint8))
        region = component == component[row - top, column - left]
        cut = (top > 0 and region[0].any()) or (rows.stop < size[0] and region[-1].any())
        cut = cut or (left > 0 and region[:, 0].any()) or (columns.stop < size[1] and region[:, -1].any())
        if not cut:
            break
    return top, left, region


def _around(position: int, side: int, length: int) -> range:
    """Return a range of at most `side` around a position, inside of 0 to `length`."""
    start = max(0, min(position - side // 2, length - side))
    return range(start, min(start + side, length))

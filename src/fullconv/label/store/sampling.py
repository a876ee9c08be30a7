"""A sample of the painted pixels of an image, from which the model learns."""

from __future__ import annotations

import numpy as np

from fullconv.arrays import Int64, UInt8
from fullconv.label.store.canvas import Canvas
from fullconv.labels import IGNORE_INDEX

__all__ = ["sample_pixels"]


def sample_pixels(canvas: Canvas, resolve: UInt8, most: int) -> tuple[Int64, Int64, UInt8]:
    """Return rows, columns and keys of at most about `most` painted pixels, the same for the same painting.

    Each class gets an equal share of `most`, evenly spread over its pixels in the order of the tiles; a class with
    fewer pixels gives all of them.
    """
    counts = np.zeros(256, np.int64)
    np.add.at(counts, resolve, canvas.count())
    counts[IGNORE_INDEX] = 0
    shown = np.flatnonzero(counts)
    wanted = np.minimum(counts, most // max(len(shown), 1))
    seen = np.zeros(256, np.int64)
    rows: list[Int64] = []
    columns: list[Int64] = []
    keys: list[UInt8] = []
    for top, left, tile, raw_counts in canvas.tiles() if len(shown) else ():
        raw = np.flatnonzero(raw_counts[:IGNORE_INDEX])
        for key in sorted({*resolve[raw].tolist()} - {IGNORE_INDEX}):
            painted_as = raw[resolve[raw] == key]
            is_key = tile == painted_as[0] if len(painted_as) == 1 else resolve[tile] == key
            inside = np.flatnonzero(is_key)
            first, stop = seen[key], seen[key] + len(inside)
            # The k-th sample of a class is its pixel number floor(k * count / wanted).
            low, high = (-(-number * wanted[key] // counts[key]) for number in (first, stop))
            chosen = inside[np.arange(low, high) * counts[key] // wanted[key] - first]
            seen[key] = stop
            rows.append(top + chosen // tile.shape[1])
            columns.append(left + chosen % tile.shape[1])
            keys.append(np.full(len(chosen), key, np.uint8))
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(keys)

"""The labels that an image has already, under all strokes: read once, and held as compressed tiles."""

from __future__ import annotations

import zlib

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.windows import open_mask
from fullconv.label.store.canvas import SIDE, Base
from fullconv.labels import IGNORE_INDEX

__all__ = ["open_base"]


def open_base(dataset: DataSet, sample: Sample) -> Base:
    """Return the reader of a sample's class ids, tile by tile. Raises DataError if its mask cannot be read.

    The keys of the classes that a data set brings are their ids.
    """
    tiles: dict[tuple[int, int], bytes] = {}
    with open_mask(dataset, sample) as mask:
        height, width = mask.size
        for top in range(0, height, SIDE):
            band = mask.read(range(top, min(top + SIDE, height)), range(width))
            for left in range(0, width, SIDE):
                tile = band[:, left : left + SIDE]
                if (tile != IGNORE_INDEX).any():
                    tiles[top, left] = zlib.compress(np.ascontiguousarray(tile).tobytes(), 1)

    def read(rows: range, columns: range) -> UInt8:
        packed = tiles.get((rows.start, columns.start))
        if packed is None:
            return np.full((len(rows), len(columns)), IGNORE_INDEX, np.uint8)
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(len(rows), len(columns))

    return read

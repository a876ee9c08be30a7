"""The labels that images have already, under all strokes: read once each, and held as compressed tiles."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.windows import open_mask
from fullconv.errors import DataError
from fullconv.label.store.canvas import SIDE, Base
from fullconv.label.store.classes import ClassTable
from fullconv.label.store.photos import Photo
from fullconv.label.store.sizes import stamp_of
from fullconv.labels import IGNORE_INDEX

__all__ = ["Bases"]


class Bases:
    """The labels of a data set in the keys of a session.

    Ids may depend on the files that a data set holds today, so keys are found by the names of the classes.
    """

    def __init__(self, dataset: DataSet | None, classes: ClassTable) -> None:
        self._dataset = dataset
        self._keys = np.full(256, IGNORE_INDEX, np.uint8)
        for index, name in enumerate(dataset.labels.class_names if dataset is not None else ()):
            key = classes.key_of(name)
            assert key is not None, name
            self._keys[index] = key
        facts = None if dataset is None else (dataset.labels, dataset.remap, dataset.options)
        self._meaning = hashlib.sha256(repr((facts, self._keys.tolist())).encode()).hexdigest()[:16]

    def open(self, photo: Photo, size: tuple[int, int]) -> Base | None:
        """Return the reader of an image's labels, tile by tile; None if it has none.

        Raises DataError if they cannot be read, or if they have another size than the image, (height, width).
        """
        if photo.base is None or self._dataset is None:
            return None
        tiles = self._read(self._dataset, photo.base, size)

        def read(rows: range, columns: range) -> UInt8:
            packed = tiles.get((rows.start, columns.start))
            if packed is None:
                return np.full((len(rows), len(columns)), IGNORE_INDEX, np.uint8)
            return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(len(rows), len(columns))

        return read

    def _read(self, dataset: DataSet, sample: Sample, size: tuple[int, int]) -> dict[tuple[int, int], bytes]:
        """Return the compressed tiles that hold labels, by top and left."""
        tiles: dict[tuple[int, int], bytes] = {}
        height, width = size
        with open_mask(dataset, sample) as mask:
            if mask.size != size:
                raise DataError.of(size_fault(sample, size, mask.size))
            for top in range(0, height, SIDE):
                band = self._keys[mask.read(range(top, min(top + SIDE, height)), range(width))]
                for left in range(0, width, SIDE):
                    tile = band[:, left : left + SIDE]
                    if (tile != IGNORE_INDEX).any():
                        tiles[top, left] = zlib.compress(np.ascontiguousarray(tile).tobytes(), 1)
        return tiles

    def made_of(self, photo: Photo) -> list[Any]:
        """Return all that the labels of an image follow from, for comparisons."""
        return [] if photo.base is None else [self._meaning, *stamp_of(photo.base.target)]

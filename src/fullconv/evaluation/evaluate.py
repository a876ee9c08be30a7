"""Score a model on labelled images, which are read whole or in windows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.windows import SampleReader, open_sample
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS, default_tile, goes_in_windows
from fullconv.runtime.runner import Runner, label_maps
from fullconv.runtime.tiles import Tile, TiledRunner, in_memory

__all__ = ["PIECE_PIXELS", "Piece", "evaluate", "predict_pieces"]

Extent = tuple[range, range]
"""Rows and columns of a part of an image."""

PIECE_PIXELS = 2**24
"""The number of pixels of an image in memory that are compared at a time; each takes about 30 bytes."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a labelled image of `size` (height, width): its rows, columns, target and prediction, h x w each.

    `wide` is the target with up to `margin` more pixels on every side, as far as the image extends, and `inner` is the
    position of the target in it. `seconds` is the time of the model.
    """

    size: tuple[int, int]
    rows: range
    columns: range
    wide: UInt8
    inner: tuple[slice, slice]
    prediction: UInt8
    seconds: float

    @property
    def target(self) -> UInt8:
        """The class ids and the ignored label, h x w uint8."""
        return self.wide[self.inner]

    @property
    def is_whole(self) -> bool:
        """Whether the piece is the complete image."""
        return (len(self.rows), len(self.columns)) == self.size


def evaluate(
    runner: Runner,
    dataset: DataSet,
    samples: Iterable[Sample],
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS,
) -> Scores:
    """Score a model on samples of a data set, each at its own resolution.

    Images are read in the format of the runner. One image or tile is in memory at a time. One confusion matrix counts
    the pixels of all images, as in the paper (Long et al., 2015, section 5).

    Raises DataError like `DataSet.read`, for targets that do not fit the classes, and if no pixel is labelled.
    """
    labels = runner.info.labels
    confusion = np.zeros((labels.num_classes, labels.num_classes), np.int64)
    for sample in samples:
        for piece in predict_pieces(runner, dataset, sample, max_in_memory_pixels=max_in_memory_pixels):
            confusion += confusion_matrix(piece.target, piece.prediction, labels.num_classes, labels.ignore_index)
    return Scores.from_confusion(confusion, labels.class_names)


def predict_pieces(
    runner: Runner,
    dataset: DataSet,
    sample: Sample,
    margin: int = 0,
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS,
    piece_pixels: int = PIECE_PIXELS,
) -> Iterator[Piece]:
    """Label an image as `predict` does and compare it with its target, in one piece or in several.

    Images of more than `max_in_memory_pixels` are read tile by tile. Images of more than `MAX_UNTILED_PIXELS` are
    computed in tiles if the labels are those of the whole image. Raises DataError like `DataSet.read`.
    """
    if goes_in_windows(runner, sample.image, max_in_memory_pixels):
        tiled = runner if isinstance(runner, TiledRunner) else TiledRunner(runner, default_tile(runner))
        with open_sample(dataset, sample) as reader:
            for tile in tiled.tiles(reader.size):
                yield _predict_tile(tiled.runner, reader, tile, margin)
        return
    image, target = dataset.read(sample)
    size = height, width = target.shape[0], target.shape[1]
    start = time.perf_counter()
    prediction = label_maps(in_memory(runner, size), image[None])[0]
    seconds = time.perf_counter() - start
    del image
    step = max(1, piece_pixels // width)
    for top in range(0, height, step):
        band = range(top, min(top + step, height)), range(width)
        wide = _add_margin(band, margin, size)
        part = prediction[top : band[0].stop]
        yield Piece(size, *band, target[wide[0].start : wide[0].stop], _locate(band, wide), part, seconds)
        seconds = 0.0


def _predict_tile(runner: Runner, reader: SampleReader, tile: Tile, margin: int) -> Piece:
    """Read and label a tile; a tile without data is not computed."""
    inner, outer = (tile[0].keep, tile[1].keep), (tile[0].read, tile[1].read)
    wide = _add_margin(inner, margin, reader.size)
    rows, columns = (
        range(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(outer, wide, strict=True)
    )  # one read serves both
    image, target, empty = reader.read(rows, columns)
    start = time.perf_counter()
    if empty is not None and empty[_locate(inner, (rows, columns))].all():
        prediction = np.full((len(inner[0]), len(inner[1])), np.uint8(runner.info.labels.ignore_index))
    else:
        batch = np.ascontiguousarray(image[_locate(outer, (rows, columns))])[None]
        prediction = label_maps(runner, batch)[0][tile[0].inner, tile[1].inner]
    seconds = time.perf_counter() - start
    target = target[_locate(wide, (rows, columns))]
    return Piece(reader.size, *inner, target, _locate(inner, wide), prediction, seconds)


def _add_margin(window: Extent, margin: int, size: tuple[int, int]) -> Extent:
    """Return a window with up to `margin` more pixels on every side, as far as the image extends."""
    rows, columns = (
        range(max(0, span.start - margin), min(length, span.stop + margin))
        for span, length in zip(window, size, strict=True)
    )
    return rows, columns


def _locate(part: Extent, window: Extent) -> tuple[slice, slice]:
    """Return the position of a part of an image in a window."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in zip(part, window, strict=True)
    )
    return rows, columns

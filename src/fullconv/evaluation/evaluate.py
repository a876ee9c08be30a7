"""One pass of a model over labelled images, whole or in windows, and the scores of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample
from fullconv.data.windows import SampleReader, open_sample
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS, default_tile, goes_in_windows
from fullconv.runtime.runner import Runner, label_maps
from fullconv.runtime.tiles import Tile, TiledRunner, in_memory

__all__ = ["PIECE_PIXELS", "Piece", "evaluate", "predicted_pieces"]

UInt8 = npt.NDArray[np.uint8]

Area = tuple[range, range]
"""Rows and columns."""

PIECE_PIXELS = 2**24
"""Pixels of an image in memory that are compared at once: counting takes about 30 bytes for each."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a labelled image of `size` (height, width): its rows and columns, target and prediction, h x w each.

    `wide` is the target with up to `margin` pixels more on every side, where the image has them, and `inner` the part
    of it that is the target. `seconds` is the time that the model took.
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
        """Class ids and the ignored label, h x w uint8."""
        return self.wide[self.inner]

    @property
    def is_whole(self) -> bool:
        """Whether the piece is all of the image."""
        return (len(self.rows), len(self.columns)) == self.size


def evaluate(
    runner: Runner,
    dataset: DataSet,
    samples: Iterable[Sample],
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS,
) -> Scores:
    """Score a model on samples of a data set, each at its own resolution.

    Images are read as the runner takes them. Memory holds one image or tile at a time, and all pixels are counted in
    one confusion matrix, as in the paper.

    Raises DataError as `DataSet.read`, for targets that do not fit the classes, or if no pixel is labelled.
    """
    labels = runner.info.labels
    confusion = np.zeros((labels.num_classes, labels.num_classes), np.int64)
    for sample in samples:
        for piece in predicted_pieces(runner, dataset, sample, max_in_memory_pixels=max_in_memory_pixels):
            confusion += confusion_matrix(piece.target, piece.prediction, labels.num_classes, labels.ignore_index)
    return Scores.from_confusion(confusion, labels.class_names)


def predicted_pieces(
    runner: Runner,
    dataset: DataSet,
    sample: Sample,
    margin: int = 0,
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS,
    piece_pixels: int = PIECE_PIXELS,
) -> Iterator[Piece]:
    """Label an image as `predict` does and compare it with its target, in one piece or in several.

    Images of more than `max_in_memory_pixels` are read in windows, a tile at a time, and those of more than
    `MAX_UNTILED_PIXELS` are computed in tiles, where the labels stay those of the whole image. Raises DataError as
    `DataSet.read`.
    """
    if goes_in_windows(runner, sample.image, max_in_memory_pixels):
        tiled = runner if isinstance(runner, TiledRunner) else TiledRunner(runner, default_tile(runner))
        with open_sample(dataset, sample) as reader:
            for tile in tiled.tiles(reader.size):
                yield _tile_piece(tiled.runner, reader, tile, margin)
        return
    image, target = dataset.read(sample)
    size = height, width = target.shape[0], target.shape[1]
    start = time.perf_counter()
    prediction = label_maps(in_memory(runner, size), image[None])[0]
    seconds = time.perf_counter() - start
    del image
    step = max(1, piece_pixels // width)
    for top in range(0, height, step):
        kept = range(top, min(top + step, height)), range(width)
        wide = _widened(kept, margin, size)
        part = prediction[top : kept[0].stop]
        yield Piece(size, *kept, target[wide[0].start : wide[0].stop], _slices(kept, wide), part, seconds)
        seconds = 0.0


def _tile_piece(runner: Runner, reader: SampleReader, tile: Tile, margin: int) -> Piece:
    """Read and label a tile; a tile without data is not computed."""
    kept, seen = (tile[0].keep, tile[1].keep), (tile[0].read, tile[1].read)
    wide = _widened(kept, margin, reader.size)
    rows, columns = (
        range(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(seen, wide, strict=True)
    )  # one read serves both
    image, target, empty = reader.read(rows, columns)
    start = time.perf_counter()
    if empty is not None and empty[_slices(kept, (rows, columns))].all():
        prediction = np.full((len(kept[0]), len(kept[1])), np.uint8(runner.info.labels.ignore_index))
    else:
        batch = np.ascontiguousarray(image[_slices(seen, (rows, columns))])[None]
        prediction = label_maps(runner, batch)[0][tile[0].inner, tile[1].inner]
    seconds = time.perf_counter() - start
    target = target[_slices(wide, (rows, columns))]
    return Piece(reader.size, *kept, target, _slices(kept, wide), prediction, seconds)


def _widened(kept: Area, margin: int, size: tuple[int, int]) -> Area:
    """Return rows and columns with up to `margin` more on every side, where the image has them."""
    rows, columns = (
        range(max(0, own.start - margin), min(length, own.stop + margin))
        for own, length in zip(kept, size, strict=True)
    )
    return rows, columns


def _slices(part: Area, window: Area) -> tuple[slice, slice]:
    """Return where a part of an image lies in a window of it."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in zip(part, window, strict=True)
    )
    return rows, columns

"""Measure a model on labelled images once: all counts that a report needs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.division import find_series
from fullconv.evaluation.error_location import RADIUS, RegionSizes, near_boundary
from fullconv.evaluation.evaluate import PIECE_PIXELS, Piece, predict_pieces
from fullconv.forks import lazy_property
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS
from fullconv.predict.ranges import Misfit, find_common_misfit
from fullconv.runtime.runner import RangedRunner, Runner

__all__ = ["THUMBNAIL_SIDE", "ImageCounts", "Measurement", "Zone", "make_thumbnail", "measure", "thumbnail_step"]

THUMBNAIL_SIDE = 320
"""The longest side of a small picture, in pixels."""


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """The counts of one image: `hit`, `true` and `predicted` pixels of each class (K int64 each), and the seconds.

    `prediction` is a small label map (`make_thumbnail`), compressed; `shape` is (height, width) of the whole map.
    """

    sample: Sample
    shape: tuple[int, int]
    hit: Int64
    true: Int64
    predicted: Int64
    seconds: float
    prediction: bytes

    @property
    def mean_iou(self) -> float | None:
        """The mean over the classes in truth or prediction of this image; None if no pixel is labelled."""
        union = self.true + self.predicted - self.hit
        present = union > 0
        return float((self.hit[present] / union[present]).mean()) if present.any() else None

    def unpack(self) -> UInt8:
        """Return the small prediction, h x w class ids."""
        step = thumbnail_step(self.shape)
        height, width = (-(-length // step) for length in self.shape)
        return np.frombuffer(zlib.decompress(self.prediction), np.uint8).reshape(height, width)


@dataclass
class Zone:
    """The labelled pixels near boundaries or inside regions, and how many of them are wrong."""

    pixels: int = 0
    wrong: int = 0

    def add(self, where: Mask, wrong: Mask) -> None:
        """Count the pixels of one image; both masks are H x W."""
        self.pixels += int(where.sum())
        self.wrong += int((where & wrong).sum())


@dataclass(eq=False)
class Measurement:
    """The counts of `measure` on the images of a split; each image takes some kilobytes.

    `confusion` is K x K int64, the sum over all images. `near_boundary` separates `boundary` from `interior`.
    `without_regions` is the number of images that are too large to count their regions. `range_is_given` says whether
    the user gave the range of values; `misfit` is an image that misses the range of the model, if many do.
    """

    labels: LabelSet
    dataset: DataSet
    split: str
    confusion: Int64
    images: list[ImageCounts] = field(default_factory=list)
    boundary: Zone = field(default_factory=Zone)
    interior: Zone = field(default_factory=Zone)
    regions: RegionSizes = field(default_factory=RegionSizes)
    without_regions: int = 0
    ignored: int = 0
    range_is_given: bool = False
    misfit: Misfit | None = None

    @lazy_property
    def scores(self) -> Scores:
        """The same scores as those of `evaluate`. Raises DataError if no pixel is labelled."""
        return Scores.from_confusion(self.confusion, self.labels.class_names)

    def counts(self) -> Int64:
        """Return the hit, true and predicted pixels of each class, images x 3 x K int64."""
        return np.array([[image.hit, image.true, image.predicted] for image in self.images])

    def series(self) -> list[str]:
        """Return what each image belongs to, as `find_series` does."""
        return find_series(self.dataset, [image.sample for image in self.images])

    def add(self, sample: Sample, pieces: Iterable[Piece]) -> None:
        """Count one image. Raises DataError for a target that does not fit the classes."""
        labels = self.labels
        confusion, seconds, small, is_whole = np.zeros_like(self.confusion), 0.0, None, True
        shape = (0, 0)
        for piece in pieces:
            shape, is_whole = piece.size, piece.is_whole
            confusion += confusion_matrix(piece.target, piece.prediction, labels.num_classes, labels.ignore_index)
            self._add_zones(piece)
            small = _add_to_thumbnail(small, piece)
            seconds += piece.seconds
        self.confusion += confusion
        self.without_regions += not is_whole
        assert small is not None
        sums = confusion.diagonal().copy(), confusion.sum(1), confusion.sum(0)
        self.images.append(ImageCounts(sample, shape, *sums, seconds, zlib.compress(small.tobytes())))

    def _add_zones(self, piece: Piece) -> None:
        target, right = piece.target, piece.target == piece.prediction
        labelled, near = target != self.labels.ignore_index, near_boundary(piece.wide)[piece.inner]
        self.boundary.add(labelled & near, ~right)
        self.interior.add(labelled & ~near, ~right)
        self.ignored += int((~labelled).sum())
        if piece.is_whole:
            self.regions.add(target, right, self.labels.ignore_index)


def measure(
    runner: Runner,
    dataset: DataSet,
    split: str,
    track: Callable[[Sequence[Sample]], Iterable[Sample]] = iter,
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS,
    piece_pixels: int = PIECE_PIXELS,
) -> Measurement:
    """Run the model once on each image of a split; `track` wraps the samples, for example to show the progress.

    One image is in memory at a time, or one tile of a large image, as in `predict`. Raises DataError like
    `DataSet.split` and `DataSet.read`, and if no pixel is labelled.
    """
    labels = runner.info.labels
    classes = labels.num_classes
    samples, is_given = dataset.split(split), isinstance(runner, RangedRunner)
    measurement = Measurement(labels, dataset, split, np.zeros((classes, classes), np.int64), range_is_given=is_given)
    if not is_given:
        measurement.misfit = find_common_misfit([sample.image for sample in samples], runner.info.input)
    for sample in track(samples):
        pieces = predict_pieces(runner, dataset, sample, RADIUS, max_in_memory_pixels, piece_pixels)
        measurement.add(sample, pieces)
    _ = measurement.scores  # raises DataError
    return measurement


def thumbnail_step(shape: tuple[int, ...]) -> int:
    """Return the least n so that every n-th row and column give at most `THUMBNAIL_SIDE` pixels a side."""
    return -(-max(shape) // THUMBNAIL_SIDE)


def make_thumbnail(label_map: UInt8) -> UInt8:
    """Return every n-th row and column of an H x W label map, with the n of `thumbnail_step`."""
    step = thumbnail_step(label_map.shape)
    return label_map[::step, ::step]


def _add_to_thumbnail(small: UInt8 | None, piece: Piece) -> UInt8:
    """Copy the labels of one piece into the small prediction of its image."""
    step = thumbnail_step(piece.size)
    if small is None:
        height, width = (-(-length // step) for length in piece.size)
        small = np.zeros((height, width), np.uint8)
    top, left = (-(-span.start // step) for span in (piece.rows, piece.columns))
    part = piece.prediction[top * step - piece.rows.start :: step, left * step - piece.columns.start :: step]
    small[top : top + part.shape[0], left : left + part.shape[1]] = part
    return small

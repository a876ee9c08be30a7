"""One pass of a model over labelled images, and all that a report says of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample
from fullconv.evaluation.error_location import RADIUS, RegionSizes, near_boundary
from fullconv.evaluation.evaluate import PIECE_PIXELS, Piece, predicted_pieces
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS
from fullconv.runtime.runner import Runner

__all__ = ["THUMB", "ImageCounts", "Measured", "Zone", "measure", "thumb_of", "thumb_step"]

THUMB = 320
"""The longest side of the pictures, in pixels."""

UInt8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """One image: `hit`, `true` and `predicted` pixels of each class, K int64, seconds, and its prediction, small.

    `prediction` is every step-th label of the label map (`thumb_of`), packed; `shape` is that of the whole map.
    """

    sample: Sample
    shape: tuple[int, int]
    hit: Ints
    true: Ints
    predicted: Ints
    seconds: float
    prediction: bytes

    @property
    def mean_iou(self) -> float | None:
        """Over the classes in the truth or the prediction of this image; None where no pixel is labelled."""
        union = self.true + self.predicted - self.hit
        there = union > 0
        return float((self.hit[there] / union[there]).mean()) if there.any() else None

    def unpacked(self) -> UInt8:
        """The small prediction, h x w class ids."""
        step = thumb_step(self.shape)
        height, width = (-(-length // step) for length in self.shape)
        return np.frombuffer(zlib.decompress(self.prediction), np.uint8).reshape(height, width)


@dataclass
class Zone:
    """Labelled pixels at boundaries or inside, and those of them that are wrong."""

    pixels: int = 0
    wrong: int = 0

    def add(self, where: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]) -> None:
        """Count the pixels of one image, H x W both."""
        self.pixels += int(where.sum())
        self.wrong += int((where & wrong).sum())


@dataclass(eq=False)
class Measured:
    """What `measure` found on the images of a split; it grows by some kilobytes an image.

    `confusion` is K x K int64, the sum over all images; `boundary` and `interior` are parted by `near_boundary`.
    `without_regions` counts the images that were too large for their regions to be counted.
    """

    labels: LabelSet
    dataset: DataSet
    split: str
    confusion: Ints
    images: list[ImageCounts] = field(default_factory=list)
    boundary: Zone = field(default_factory=Zone)
    interior: Zone = field(default_factory=Zone)
    regions: RegionSizes = field(default_factory=RegionSizes)
    without_regions: int = 0
    ignored: int = 0

    @cached_property
    def scores(self) -> Scores:
        """Those of `run.evaluate`, of the same counts. DataError if no pixel is labelled."""
        return Scores.from_confusion(self.confusion, self.labels.class_names)

    def counts(self) -> Ints:
        """images x 3 x K int64: the hit, true and predicted pixels of each class."""
        return np.array([[image.hit, image.true, image.predicted] for image in self.images])

    def add(self, sample: Sample, pieces: Iterable[Piece]) -> None:
        """Count one image. DataError for a target that does not fit."""
        labels = self.labels
        own, seconds, small, is_whole = np.zeros_like(self.confusion), 0.0, None, True
        shape = (0, 0)
        for piece in pieces:
            shape, is_whole = piece.size, piece.is_whole
            own += confusion_matrix(piece.target, piece.prediction, labels.num_classes, labels.ignore_index)
            self._add_places(piece)
            small = _placed(small, piece)
            seconds += piece.seconds
        self.confusion += own
        self.without_regions += not is_whole
        assert small is not None
        sums = own.diagonal().copy(), own.sum(1), own.sum(0)
        self.images.append(ImageCounts(sample, shape, *sums, seconds, zlib.compress(small.tobytes())))

    def _add_places(self, piece: Piece) -> None:
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
) -> Measured:
    """Run the model once over the images of a split; `track` may watch the samples go by.

    One image is in memory at a time, and of large ones a tile, as in `predict`. Raises DataError as `DataSet.split` and
    `DataSet.read`, and if no pixel is labelled.
    """
    labels = runner.info.labels
    classes = labels.num_classes
    found = Measured(labels, dataset, split, np.zeros((classes, classes), np.int64))
    for sample in track(dataset.split(split)):
        pieces = predicted_pieces(runner, dataset, sample, RADIUS, max_in_memory_pixels, piece_pixels)
        found.add(sample, pieces)
    _ = found.scores
    return found


def thumb_step(shape: tuple[int, ...]) -> int:
    """Return the least n for which every n-th row and column do not exceed `THUMB`."""
    return -(-max(shape) // THUMB)


def thumb_of(label_map: UInt8) -> UInt8:
    """Return every n-th row and column of an H x W label map, with the n of `thumb_step`."""
    step = thumb_step(label_map.shape)
    return label_map[::step, ::step]


def _placed(small: UInt8 | None, piece: Piece) -> UInt8:
    """Put what one piece holds of the small prediction of its image into it."""
    step = thumb_step(piece.size)
    if small is None:
        height, width = (-(-length // step) for length in piece.size)
        small = np.zeros((height, width), np.uint8)
    top, left = (-(-span.start // step) for span in (piece.rows, piece.columns))
    part = piece.prediction[top * step - piece.rows.start :: step, left * step - piece.columns.start :: step]
    small[top : top + part.shape[0], left : left + part.shape[1]] = part
    return small

"""One pass of a model over labelled images, and all that a report says of it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.report.places import RegionSizes, near_boundary
from fullconv.run.runner import Runner, label_maps

__all__ = ["THUMB", "ImageCounts", "Measured", "Zone", "measure", "thumb_of"]

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
        step = _step(self.shape)
        height, width = (-(-length // step) for length in self.shape)
        return np.frombuffer(zlib.decompress(self.prediction), np.uint8).reshape(height, width)


@dataclass
class Zone:
    """Labelled pixels of one part of the images, and those of them that are wrong."""

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
    """

    labels: LabelSet
    dataset: DataSet
    split: str
    confusion: Ints
    images: list[ImageCounts] = field(default_factory=list)
    boundary: Zone = field(default_factory=Zone)
    interior: Zone = field(default_factory=Zone)
    regions: RegionSizes = field(default_factory=RegionSizes)
    ignored: int = 0

    @cached_property
    def scores(self) -> Scores:
        """Those of `run.evaluate`, of the same counts. DataError if no pixel is labelled."""
        return Scores.from_confusion(self.confusion, self.labels.class_names)

    def counts(self) -> Ints:
        """images x 3 x K int64: the hit, true and predicted pixels of each class."""
        return np.array([[image.hit, image.true, image.predicted] for image in self.images])

    def add(self, sample: Sample, target: UInt8, prediction: UInt8, seconds: float) -> None:
        """Count one image. DataError for a target that does not fit."""
        labels = self.labels
        confusion = confusion_matrix(target, prediction, labels.num_classes, labels.ignore_index)
        self.confusion += confusion
        labelled, right = target != labels.ignore_index, target == prediction
        near = near_boundary(target)
        self.boundary.add(labelled & near, ~right)
        self.interior.add(labelled & ~near, ~right)
        self.regions.add(target, right, labels.ignore_index)
        self.ignored += int((~labelled).sum())
        small = zlib.compress(np.ascontiguousarray(thumb_of(prediction)).tobytes())
        shape = (target.shape[0], target.shape[1])
        sums = confusion.diagonal().copy(), confusion.sum(1), confusion.sum(0)
        self.images.append(ImageCounts(sample, shape, *sums, seconds, small))


def measure(
    runner: Runner,
    dataset: DataSet,
    split: str,
    track: Callable[[Sequence[Sample]], Iterable[Sample]] = iter,
) -> Measured:
    """Run the model once over the images of a split, one in memory at a time; `track` may watch the samples go by.

    Raises DataError as `DataSet.split` and `DataSet.read`, and if no pixel is labelled.
    """
    labels = runner.info.labels
    classes = labels.num_classes
    found = Measured(labels, dataset, split, np.zeros((classes, classes), np.int64))
    for sample in track(dataset.split(split)):
        image, target = dataset.read(sample)
        start = time.perf_counter()
        prediction = label_maps(runner, image[None])[0]
        found.add(sample, target, prediction, time.perf_counter() - start)
    _ = found.scores
    return found


def thumb_of(label_map: UInt8) -> UInt8:
    """Every n-th row and column of an H x W label map, n being the least with which `THUMB` is not exceeded."""
    step = _step(label_map.shape)
    return label_map[::step, ::step]


def _step(shape: tuple[int, ...]) -> int:
    return -(-max(shape) // THUMB)

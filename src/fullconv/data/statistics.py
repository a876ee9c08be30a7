"""What the masks of a data set say to a training: how unequal its classes are, and how thin its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.layouts import UNNAMED, number_classes, only_background, survey
from fullconv.data.object_widths import WIDEST, count_widths, median_width
from fullconv.data.pairing import dataset_error
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import image_size
from fullconv.labels import IGNORE_INDEX

__all__ = ["LARGEST", "DataSetStatistics", "choose_crop", "read_statistics", "read_training_data"]

LARGEST = 352
"""The side of crops of images that are as large or larger."""

MEASURED = 100
"""Objects are measured on at most so many masks, evenly spread: it takes as long as decoding them."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DataSetStatistics:
    """Numbers of the training images, by one pass over the masks.

    `pixels` counts the pixels of each class; ignored pixels are in none. `widths` are medians over the pixels of each
    class (see `objects.widths`), in pixels, None for a class that was not seen. `crop` is that of `choose_crop`.
    """

    images: int
    class_names: tuple[str, ...]
    pixels: tuple[int, ...]
    widths: tuple[int | None, ...]
    crop: int = LARGEST

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of the pixels that have a class."""
        total = max(1, sum(self.pixels))
        return tuple(count / total for count in self.pixels)

    @property
    def thinnest(self) -> tuple[str, int] | None:
        """The class of the thinnest objects, and their width; None if no label was seen."""
        seen = [(width, name) for width, name in zip(self.widths, self.class_names, strict=True) if width is not None]
        return (min(seen)[1], min(seen)[0]) if seen else None

    @property
    def largest(self) -> tuple[str, float]:
        """The class with the most pixels, and its share."""
        return max(zip(self.class_names, self.shares, strict=True), key=lambda entry: entry[1])


def read_training_data(root: Path | str) -> tuple[DataSet, DataSetStatistics]:
    """Find the data set of `root` as `find_dataset` does, and decode each of its masks once.

    The one pass names the classes where no file does, finds the faults of all masks, and counts. Raises DataError
    as `find_dataset` and `read_statistics`.
    """
    surveyed = survey(root, decode=False)
    if surveyed.dataset is None or surveyed.faults:
        raise dataset_error(surveyed.root, surveyed.name, surveyed.faults)
    dataset, unnamed = surveyed.dataset, surveyed.dataset.labels is UNNAMED
    others = [name for name, samples in dataset.splits.items() if samples and name not in ("train", "val")]
    counts = _Counts(dataset, "train", ("val", *others) if unnamed else ("val",))
    faults: list[Fault] = []
    if unnamed:
        labels = number_classes(surveyed.root, counts.held, faults)
        dataset = dataset if labels is None else replace(dataset, labels=labels)
    elif dataset.layout == "folder" and not counts.held - {0, IGNORE_INDEX}:
        faults.append(only_background(surveyed.root))
    if faults:
        raise dataset_error(surveyed.root, surveyed.name, faults)
    return dataset, counts.statistics(dataset)


def read_statistics(dataset: DataSet, split: str = "train", *checked: str) -> DataSetStatistics:
    """Decode every mask of `split` once and count; those of the splits `checked` are decoded for their faults.

    Raises DataError that lists all the masks that `read_target` refuses or that differ in size from their image.
    """
    return _Counts(dataset, split, checked).statistics(dataset)


class _Counts:
    """The pass: `held` are the labels of all masks, `pixels` and `wide` counts of `split` by label."""

    def __init__(self, dataset: DataSet, split: str, checked: tuple[str, ...]) -> None:
        self.split, self.images = split, len(dataset.split(split))
        self.pixels, total = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.wide = np.zeros((256, WIDEST + 1), np.int64)
        measured = set(np.linspace(0, self.images - 1, min(MEASURED, self.images)).round().astype(int).tolist())
        faults: list[Fault] = []
        for target, index in _targets(dataset, (split, *checked), faults):
            counts = np.bincount(target.ravel(), minlength=256)
            total += counts
            if index is not None:
                self.pixels += counts
                self.wide += count_widths(target) if index in measured else 0
        if faults:
            names = " and ".join(repr(name) for name in (split, *checked))
            raise DataError(f"{dataset.root}: masks of {names} cannot be used", faults)
        self.held = set(np.flatnonzero(total).tolist())

    def statistics(self, dataset: DataSet) -> DataSetStatistics:
        """The counts by the classes of `dataset`."""
        classes = dataset.labels.num_classes
        widths = tuple(map(median_width, self.wide[:classes]))
        pixels = tuple(self.pixels[:classes].tolist())
        return DataSetStatistics(
            self.images, dataset.labels.class_names, pixels, widths, choose_crop(dataset, self.split)
        )


def _targets(dataset: DataSet, splits: tuple[str, ...], faults: list[Fault]) -> Iterator[tuple[UInt8, int | None]]:
    """The masks that can be used, with their index in the first split; None for those of the others."""
    for name in splits:
        for index, sample in enumerate(dataset.split(name)):
            target = _target(dataset, sample, faults)
            if target is not None:
                yield target, index if name == splits[0] else None


def _target(dataset: DataSet, sample: Sample, faults: list[Fault]) -> UInt8 | None:
    try:
        target, size = dataset.read_target(sample), image_size(sample.image)
    except DataError as error:
        faults += error.faults_at(sample.target)
        return None
    if target.shape != size:
        faults.append(size_fault(sample, size, target.shape))
        return None
    return target


def choose_crop(dataset: DataSet, split: str = "train") -> int:
    """The longest side of the images, rounded up to the coarsest stride, `LARGEST` at the most."""
    longest = 0
    for sample in dataset.split(split):
        longest = max(longest, *image_size(sample.image))
        if longest >= LARGEST:
            return LARGEST
    return min(LARGEST, -(-longest // 32) * 32)

"""Statistics of a data set's masks that training needs: pixels and object widths by class."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.layouts import UNNAMED, number_classes, only_background, survey
from fullconv.data.object_widths import WIDEST, count_widths, median_width
from fullconv.data.pairing import dataset_error
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.value_range import measure_range
from fullconv.errors import DataError, faults_of
from fullconv.faults import Fault
from fullconv.images import image_size
from fullconv.labels import IGNORE_INDEX

__all__ = ["LARGEST", "DataSetStatistics", "choose_crop", "read_statistics", "read_training_data"]

logger = logging.getLogger(__name__)

LARGEST = 352
"""Maximum side of the crops for training, in pixels."""

MEASURED = 100
"""Maximum number of masks, evenly spread, on which objects are measured. It takes as long as decoding them."""


@dataclass(frozen=True)
class DataSetStatistics:
    """Statistics of the masks of a split.

    Attributes:
        images: Number of images.
        class_names: The classes.
        pixels: Number of pixels of each class, without ignored pixels.
        widths: Median width of each class's objects in pixels (`measure_widths`); None for an absent class.
        crop: Side of the crops for training (`choose_crop`).
    """

    images: int
    class_names: tuple[str, ...]
    pixels: tuple[int, ...]
    widths: tuple[int | None, ...]
    crop: int = LARGEST

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each class of the pixels that have a class."""
        total = max(1, sum(self.pixels))
        return tuple(count / total for count in self.pixels)

    @property
    def thinnest(self) -> tuple[str, int] | None:
        """The class with the thinnest objects, and their width; None if no pixel has a class."""
        present = [
            (width, name) for width, name in zip(self.widths, self.class_names, strict=True) if width is not None
        ]
        return (min(present)[1], min(present)[0]) if present else None

    @property
    def largest(self) -> tuple[str, float]:
        """The class with the most pixels, and its share."""
        return max(zip(self.class_names, self.shares, strict=True), key=lambda entry: entry[1])


def read_training_data(root: Path | str, options: ReadingOptions = BY_FILES) -> tuple[DataSet, DataSetStatistics]:
    """Find the data set of `root` as `find_dataset` does, and decode each of its masks once.

    This one pass names the classes if no file does, finds the faults of all masks, and counts pixels. Raises DataError
    as `find_dataset` and `read_statistics`.
    """
    surveyed = survey(root, decode=False, options=options)
    if surveyed.dataset is None or surveyed.faults:
        raise dataset_error(surveyed.root, surveyed.name, surveyed.faults)
    faults: list[Fault] = []
    dataset, unnamed = measure_range(surveyed.dataset, faults), surveyed.dataset.labels is UNNAMED
    if faults:
        raise dataset_error(surveyed.root, surveyed.name, faults)
    _log_range(dataset)
    others = [name for name, samples in dataset.splits.items() if samples and name not in ("train", "val")]
    counts = _Counts(dataset, "train", ("val", *others) if unnamed else ("val",))
    if unnamed:
        labels = number_classes(surveyed.root, counts.held, faults)
        dataset = dataset if labels is None else replace(dataset, labels=labels)
    elif dataset.layout == "folder" and not counts.held - {0, IGNORE_INDEX}:
        faults.append(only_background(surveyed.root))
    if faults:
        raise dataset_error(surveyed.root, surveyed.name, faults)
    statistics = counts.statistics(dataset)
    _log_reading(dataset, statistics, int(counts.pixels[IGNORE_INDEX]))
    return dataset, statistics


def _log_reading(dataset: DataSet, statistics: DataSetStatistics, ignored: int) -> None:
    """Log what was read: the number of samples, how they were found, and the share of each class."""
    splits = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    logger.info(f"{dataset.root} ({dataset.layout} layout): {splits}")
    for note in dataset.notes:
        logger.info(f"  {note}")
    shown = ", ".join(
        f"{name} {100 * share:.3g} %" for name, share in zip(statistics.class_names, statistics.shares, strict=True)
    )
    left = f"; {100 * ignored / (ignored + sum(statistics.pixels)):.3g} % of the pixels are ignored" if ignored else ""
    logger.info(f"  classes of the training pixels: {shown}{left}")


def _log_range(dataset: DataSet) -> None:
    """Log which numbers of the images become 0 to 255, unless all images have 8 bits."""
    facts = dataset.range_facts
    if facts is not None:
        logger.info(f"range: {facts.text}")
        if facts.doubt:
            logger.warning(f"range: {facts.doubt}; {facts.remedy}")


def read_statistics(dataset: DataSet, split: str = "train", *checked: str) -> DataSetStatistics:
    """Decode every mask of `split` once and count its pixels; also check the masks of the splits `checked`.

    Raises DataError, which lists all masks that cannot be read or differ in size from their image.
    """
    return _Counts(dataset, split, checked).statistics(dataset)


class _Counts:
    """The counts of one pass over the masks.

    `held` are the labels of all masks. `pixels` and `width_counts` are the counts of `split` by label.
    """

    def __init__(self, dataset: DataSet, split: str, checked: tuple[str, ...]) -> None:
        self.split, self.images = split, len(dataset.split(split))
        self.pixels, total = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.width_counts = np.zeros((256, WIDEST + 1), np.int64)
        measured = set(np.linspace(0, self.images - 1, min(MEASURED, self.images)).round().astype(int).tolist())
        faults: list[Fault] = []
        for target, index in _targets(dataset, (split, *checked), faults):
            counts = np.bincount(target.ravel(), minlength=256)
            total += counts
            if index is not None:
                self.pixels += counts
                self.width_counts += count_widths(target) if index in measured else 0
        if faults:
            names = " and ".join(repr(name) for name in (split, *checked))
            raise DataError(f"{dataset.root}: masks of {names} cannot be used", faults)
        self.held = set(np.flatnonzero(total).tolist())

    def statistics(self, dataset: DataSet) -> DataSetStatistics:
        """Return the counts for the classes of `dataset`."""
        classes = dataset.labels.num_classes
        widths = tuple(map(median_width, self.width_counts[:classes]))
        pixels = tuple(self.pixels[:classes].tolist())
        return DataSetStatistics(
            self.images, dataset.labels.class_names, pixels, widths, choose_crop(dataset, self.split)
        )


def _targets(dataset: DataSet, splits: tuple[str, ...], faults: list[Fault]) -> Iterator[tuple[UInt8, int | None]]:
    """Yield the masks without faults, with their index in the first split; None for masks of the other splits."""
    for name in splits:
        for index, sample in enumerate(dataset.split(name)):
            target = _target(dataset, sample, faults)
            if target is not None:
                yield target, index if name == splits[0] else None


def _target(dataset: DataSet, sample: Sample, faults: list[Fault]) -> UInt8 | None:
    try:
        target, size = dataset.read_target(sample), image_size(sample.image)
    except Exception as error:  # one file never stops the others
        faults += faults_of(sample.target, error)
        return None
    if target.shape != size:
        faults.append(size_fault(sample, size, target.shape))
        return None
    return target


def choose_crop(dataset: DataSet, split: str = "train") -> int:
    """Return the longest side of the images, rounded up to a multiple of 32, but at most `LARGEST`."""
    longest = 0
    for sample in dataset.split(split):
        longest = max(longest, *image_size(sample.image))
        if longest >= LARGEST:
            return LARGEST
    return min(LARGEST, -(-longest // 32) * 32)

"""Statistics of a data set's masks that training needs: pixels and object widths by class."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, MaskFacts, Sample, size_fault
from fullconv.data.layouts import survey, usable_dataset
from fullconv.data.object_widths import WIDEST, count_widths, median_width
from fullconv.data.pairing import dataset_error
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.value_range import measure_range
from fullconv.errors import DataError, faults_of
from fullconv.faults import Fault
from fullconv.images import image_size, read_empty
from fullconv.labels import IGNORE_INDEX

__all__ = [
    "LARGEST",
    "SPARSE",
    "DataSetStatistics",
    "choose_crop",
    "describe_labelled",
    "read_statistics",
    "read_training_data",
    "unlabelled_split",
]

logger = logging.getLogger(__name__)

LARGEST = 352
"""Maximum side of the crops for training, in pixels."""

SPARSE = 0.5
"""If a smaller share of the pixels is labelled, labels are strokes or parts: crops are drawn around them."""

DENSE = 0.9
"""If at least this share of the pixels is labelled, the share is not worth a line."""

MEASURED = 100
"""Maximum number of masks, evenly spread, on which objects are measured. It takes as long as decoding them."""


@dataclass(frozen=True)
class DataSetStatistics:
    """Statistics of the masks of a split.

    Attributes:
        images: Number of images.
        class_names: The classes.
        pixels: Number of pixels of each class, without ignored pixels.
        widths: Median width of each class's objects in pixels (`measure_widths`); None for an absent class, and for all
            classes if fewer than `SPARSE` of the pixels are labelled.
        crop: Side of the crops for training (`choose_crop`).
        ignored: Number of ignored pixels.
        shows: The ids of the classes in each image, in the order of the images.
    """

    images: int
    class_names: tuple[str, ...]
    pixels: tuple[int, ...]
    widths: tuple[int | None, ...]
    crop: int = LARGEST
    ignored: int = 0
    shows: tuple[frozenset[int], ...] = ()

    @property
    def labelled(self) -> float:
        """The share of the pixels that have a class."""
        return sum(self.pixels) / max(1, sum(self.pixels) + self.ignored)

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

    Where a first pass over the masks decided the classes, its counts are used; otherwise one pass finds the faults of
    all masks and counts pixels. Raises DataError as `find_dataset` and `read_statistics`.
    """
    surveyed = survey(root, options)
    found = usable_dataset(surveyed)
    faults: list[Fault] = []
    dataset = measure_range(found, faults)
    if faults:
        raise dataset_error(surveyed.root, surveyed.name, faults)
    _log_range(dataset)
    statistics = _Counts(dataset, "train", ("val",), dataset.mask_facts).statistics(dataset)
    _log_reading(dataset, statistics)
    return dataset, statistics


def _log_reading(dataset: DataSet, statistics: DataSetStatistics) -> None:
    """Log what was read: the number of samples, how they were found, and the share of each class."""
    splits = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    logger.info(f"{dataset.root} ({dataset.layout} layout): {splits}")
    for note in dataset.notes:
        logger.info(f"  {note}")
    shown = ", ".join(
        f"{name} {100 * share:.3g} %" for name, share in zip(statistics.class_names, statistics.shares, strict=True)
    )
    logger.info(f"  classes of the training pixels: {shown}")
    if text := describe_labelled(statistics.labelled):
        logger.info(f"  {text}")


def describe_labelled(share: float) -> str:
    """Return a sentence on the share of labelled pixels; empty if nearly all are labelled."""
    if share >= DENSE:
        return ""
    used = "training crops show labels, and scores count labelled pixels only"
    return f"{100 * share:.2g} % of the pixels are labelled; {used}"


def _log_range(dataset: DataSet) -> None:
    """Log which numbers of the images become 0 to 255, unless all images have 8 bits."""
    facts = dataset.range_facts
    if facts is not None:
        logger.info(f"range: {facts.text}")
        if facts.doubt:
            logger.warning(f"range: {facts.doubt}; {facts.remedy}")


def read_statistics(dataset: DataSet, split: str = "train", *checked: str) -> DataSetStatistics:
    """Decode every mask of `split` once and count its pixels; also check the masks of the splits `checked`.

    Raises DataError, which lists all masks that cannot be read or differ in size from their image, and the splits of
    `checked` whose pixels are all ignored.
    """
    return _Counts(dataset, split, checked).statistics(dataset)


def unlabelled_split(root: Path, split: str) -> Fault:
    """Return the fault of a split that has no labelled pixel."""
    problem = f"no pixel of split {split!r} has a class: its masks contain only 255, which is ignored"
    return Fault("unlabelled-split", root, problem, "label some of its images", split=split)


class _Counts:
    """The counts of one pass over the masks; `facts` are those of masks that were decoded before.

    `pixels` and `width_counts` are the counts of `split` by label.
    """

    def __init__(
        self, dataset: DataSet, split: str, checked: tuple[str, ...], facts: Mapping[Path, MaskFacts] | None = None
    ) -> None:
        self.split, self.images = split, len(dataset.split(split))
        self.pixels = np.zeros(256, np.int64)
        self.width_counts = np.zeros((256, WIDEST + 1), np.int64)
        self.shows: list[frozenset[int]] = []
        widths_known = any(fact.widths is not None for fact in (facts or {}).values())
        measured = set(np.linspace(0, self.images - 1, min(MEASURED, self.images)).round().astype(int).tolist())
        faults: list[Fault] = []
        for index, sample in enumerate(dataset.split(split)):
            known = _known_facts(dataset, sample, facts or {})
            if known is not None:
                self._add(known)
            elif (target := _target(dataset, sample, faults)) is not None:
                counts = np.bincount(target.ravel(), minlength=256)
                self.pixels += counts
                self.shows.append(frozenset(np.flatnonzero(counts).tolist()))
                self.width_counts += count_widths(target) if index in measured and not widths_known else 0
        for name in checked:
            labelled = {_has_labels(dataset, sample, facts or {}, faults) for sample in dataset.split(name)}
            if labelled == {False}:
                faults.append(unlabelled_split(dataset.root, name))
        if faults:
            names = " and ".join(repr(name) for name in (split, *checked))
            raise DataError(f"{dataset.root}: masks of {names} cannot be used", faults)

    def _add(self, facts: MaskFacts) -> None:
        self.shows.append(frozenset(label for label, count in facts.pixels.items() if count))
        for label, count in facts.pixels.items():
            self.pixels[label] += count
        for label, counts in (facts.widths or {}).items():
            self.width_counts[label] += counts

    def statistics(self, dataset: DataSet) -> DataSetStatistics:
        """Return the counts for the classes of `dataset`."""
        classes = dataset.labels.num_classes
        widths = tuple(map(median_width, self.width_counts[:classes]))
        pixels, ignored = tuple(self.pixels[:classes].tolist()), int(self.pixels[IGNORE_INDEX])
        if sum(pixels) < SPARSE * (sum(pixels) + ignored):
            widths = (None,) * classes  # strokes are not as wide as the objects
        crop, shows = choose_crop(dataset, self.split), tuple(self.shows)
        return DataSetStatistics(self.images, dataset.labels.class_names, pixels, widths, crop, ignored, shows)


def _known_facts(dataset: DataSet, sample: Sample, facts: Mapping[Path, MaskFacts]) -> MaskFacts | None:
    """Return what an earlier pass counted in a mask; None if it must be decoded, because pixels may lack data."""
    known = facts.get(sample.target)
    if known is None:
        return None
    try:
        return known if read_empty(sample.image, dataset.input) is None else None
    except DataError:
        return None


def _has_labels(dataset: DataSet, sample: Sample, facts: Mapping[Path, MaskFacts], faults: list[Fault]) -> bool | None:
    """Return whether a mask has a labelled pixel; None if it cannot be used, for which a fault is added."""
    known = _known_facts(dataset, sample, facts)
    if known is not None:
        return any(count and label != IGNORE_INDEX for label, count in known.pixels.items())
    target = _target(dataset, sample, faults)
    return None if target is None else bool((target != IGNORE_INDEX).any())


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

"""Decode every file of a data set once, find the faults, and measure classes and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.annotations.assembly import Drawing
from fullconv.data.classes import are_placeholders
from fullconv.data.dataset import DataSet, RangeFacts, Sample, size_fault
from fullconv.data.layouts import Survey
from fullconv.data.object_widths import WIDEST, count_widths, median_width
from fullconv.data.splits import SPLITS
from fullconv.data.statistics import SPARSE
from fullconv.data.value_range import doubt_faults, measure_range
from fullconv.doctor.dataset_faults import find_dataset_faults
from fullconv.doctor.duplicates import hash_image
from fullconv.doctor.image_check import InspectedPicture, inspect_picture
from fullconv.doctor.masks import InspectedMask, inspect_mask
from fullconv.doctor.record import Record
from fullconv.doctor.thumbnails import Gallery, Thumb
from fullconv.errors import faults_of
from fullconv.faults import REPAIRABLE, UNREPAIRABLE, Fault, Group, group_faults
from fullconv.images import RGB
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["ClassFacts", "Examination", "examine"]

NO_CLASSES = LabelSet.named(["none"])
"""Stands for the classes of a data set whose classes are uncertain."""

MEASURED = 400
"""Objects are measured in about so many masks, evenly spread: to measure a mask takes as long as to decode it."""


@dataclass(frozen=True)
class ClassFacts:
    """A class: its share of all labelled pixels, the number of images with it, and its median width in pixels."""

    name: str
    share: float
    images: int
    width: int | None


@dataclass(frozen=True)
class Examination:
    """The result of a check.

    `groups` has the faults by kind.
    """

    root: Path
    layout: str
    dataset: DataSet | None
    records: tuple[Record, ...]
    groups: tuple[Group, ...]
    classes: tuple[ClassFacts, ...]
    thumbs: tuple[Thumb, ...] = field(repr=False)

    @property
    def errors(self) -> int:
        """Return the number of faults that stop or spoil training."""
        return sum(len(group.faults) for group in self.groups if group.severity == "error")

    @property
    def warnings(self) -> int:
        """Return the number of faults that a person should look at."""
        return sum(len(group.faults) for group in self.groups if group.severity == "warning")

    def mends(self, fault: Fault) -> bool:
        """Return whether `repair` corrects the fault and keeps its pair."""
        refused = self.dataset is None or any(group.kind in UNREPAIRABLE for group in self.groups)
        return fault.kind in REPAIRABLE and fault.sure and not refused

    def verdict(self) -> str:
        """Return the number of errors and warnings, and whether training can start, as one line."""
        counts = [
            f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((self.errors, "error"), (self.warnings, "warning"))
        ]
        return f"{', '.join(counts)}: training {'would stop or go wrong' if self.errors else 'can start'}"

    def sizes(self) -> str:
        """Return the sizes of the images, width x height: all if equal, otherwise the smallest and the largest."""
        sizes = sorted(
            {record.size for record in self.records if record.size}, key=lambda size: (size[0] * size[1], size)
        )
        shown = [f"{width}x{height}" for height, width in sizes]
        if len(shown) < 2:
            return shown[0] if shown else "none"
        return f"{len(shown)} sizes from {shown[0]} to {shown[-1]} (width x height)"

    @property
    def range_facts(self) -> RangeFacts | None:
        """Which numbers of the images become 0 to 255; None if all images have 8 bits."""
        return None if self.dataset is None else self.dataset.range_facts

    @property
    def labelled(self) -> float:
        """The share of the pixels that are not ignored, of all usable masks; 1 without such masks."""
        return _labelled_share(self.records)

    def files(self) -> set[Path]:
        """Return the files of all samples."""
        return {path for record in self.records for path in (record.sample.image, record.sample.target)}

    def samples(self) -> dict[str, int]:
        """Return the number of samples in each split, faulty ones included."""
        return dict(Counter(record.split for record in self.records))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers for JSON."""
        return {
            "data": str(self.root),
            "layout": self.layout,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [
                fault.to_dict() | {"fixable": self.mends(fault)} for group in self.groups for fault in group.faults
            ],
            "notes": [] if self.dataset is None else list(self.dataset.notes),
            "samples": self.samples(),
            "sizes": sorted({record.size for record in self.records if record.size}),
            "labelled": self.labelled,
            "classes": [vars(facts) for facts in self.classes],
            "range": None if self.range_facts is None else vars(self.range_facts),
        }


def examine(surveyed: Survey, on_sample: Callable[[int, int], None] = lambda done, total: None) -> Examination:
    """Decode every image and mask of a survey once, and find all faults.

    Memory holds one sample at a time, and about 12 KB of each sample. `on_sample` is called after each sample with the
    number of samples done and of all.
    """
    range_faults: list[Fault] = []
    if surveyed.dataset is not None:
        with_range = measure_range(surveyed.dataset, range_faults)
        range_faults = [fault for fault in range_faults if fault.kind != "not-finite"]  # found again in each image
        range_faults += doubt_faults(with_range)
        surveyed = replace(surveyed, dataset=with_range)
    pairs = list(_list_pairs(surveyed))
    records: list[Record] = []
    counts_by_width, gallery = np.zeros((256, WIDEST + 1), np.int64), Gallery()
    seen: dict[tuple[Path, Path], Record] = {}
    every = max(1, len(pairs) // MEASURED)
    for index, (split, sample) in enumerate(pairs):
        key = sample.image, sample.target
        if sample.reader is None and key in seen:
            records.append(replace(seen[key], split=split, faults=()))
            gallery.skip()
        else:
            record, picture, target = _inspect(surveyed, split, sample)
            if target is not None and index % every == 0:
                counts_by_width += count_widths(target)
            gallery.add(None if picture is None else picture.rgb, target)
            seen[key] = record
            records.append(record)
        on_sample(index + 1, len(pairs))
    dataset = surveyed.dataset
    unnamed = dataset is not None and are_placeholders(dataset.labels.class_names)
    facts = tuple(fact for fact in _class_facts(dataset, records, counts_by_width) if fact.images or not unnamed)
    widths = {fact.name: fact.width for fact in facts}
    faults = [fault for fault in surveyed.faults if fault.pair is None]
    faults += range_faults
    faults += (fault for record in records for fault in record.faults)
    faults += find_dataset_faults(surveyed.root, dataset, records, widths, tuple(faults), unnamed)
    known = {fault.path for fault in faults if fault.severity == "error"}
    faults += (fault for fault in surveyed.faults if fault.pair is not None and fault.path not in known)
    of_records = zip(records, _faults_of_records(records, faults), strict=True)
    samples = [(record.split, record.sample.name, of_record) for record, of_record in of_records]
    thumbs = gallery.thumbs(samples, dataset.labels if dataset else NO_CLASSES)
    return Examination(surveyed.root, surveyed.name, dataset, tuple(records), group_faults(faults), facts, thumbs)


def _faults_of_records(records: list[Record], faults: list[Fault]) -> Iterator[tuple[Fault, ...]]:
    """Yield the faults of each record: its own, and those of its files unless other records share the file."""
    by_path: dict[Path, list[Fault]] = {}
    for fault in faults:
        by_path.setdefault(fault.path, []).append(fault)
    users = Counter(target for _, target in {(record.sample.image, record.sample.target) for record in records})
    for record in records:
        image, target = record.sample.image, record.sample.target
        others = [*by_path.get(image, ()), *(by_path.get(target, ()) if users[target] == 1 else ())]
        yield (*record.faults, *(fault for fault in others if fault not in record.faults))


def _list_pairs(surveyed: Survey) -> Iterator[tuple[str, Sample]]:
    """Yield every pair of files with its split: the usable ones, then those that the survey left out."""
    for split in SPLITS:
        for sample in surveyed.dataset.splits.get(split, ()) if surveyed.dataset else ():
            yield split, sample
    left_out: dict[tuple[Path, Path], tuple[str, Sample]] = {}
    for fault in surveyed.faults:
        if isinstance(fault.pair, Sample):
            left_out[fault.pair.image, fault.pair.target] = fault.split or "train", fault.pair
    yield from left_out.values()


def _inspect(surveyed: Survey, split: str, sample: Sample) -> tuple[Record, InspectedPicture | None, UInt8 | None]:
    """Decode one sample. Return its record, its image, and its target if that is usable."""
    faults: list[Fault] = []
    picture, mask, image_hash = None, None, None
    try:
        picture = inspect_picture(sample.image, surveyed.dataset.input if surveyed.dataset else RGB)
        image_hash = hash_image(sample.image, picture.rgb)
        faults += picture.faults
    except Exception as error:  # one file never stops the others
        faults += faults_of(sample.image, error)
    try:
        mask = inspect_mask(surveyed.dataset, sample) if surveyed.dataset else None
        faults += mask.faults if mask else ()
        faults += sample.reader.empty_shapes() if isinstance(sample.reader, Drawing) else ()
    except Exception as error:
        faults += faults_of(sample.target, error)
    target, counts, target_faults = _usable_target(sample, picture, mask)
    of_sample = tuple(replace(fault, sample=sample.name, split=split) for fault in (*faults, *target_faults))
    size = None if picture is None else (picture.rgb.shape[0], picture.rgb.shape[1])
    record = Record(split, sample, of_sample, size, picture.bands if picture else 0, counts, image_hash)
    return record, picture, target


def _usable_target(
    sample: Sample, picture: InspectedPicture | None, mask: InspectedMask | None
) -> tuple[UInt8 | None, Int64 | None, list[Fault]]:
    """Return the target with pixels without data ignored, the pixels of each label, and the faults of the pair."""
    target = None if mask is None else mask.target
    if mask is not None and picture is not None and mask.size != picture.rgb.shape[:2]:
        return None, None, [size_fault(sample, (picture.rgb.shape[0], picture.rgb.shape[1]), mask.size)]
    if target is None:
        return None, None, []
    empty = None if picture is None else picture.empty
    if empty is None:
        return target, np.bincount(target.ravel(), minlength=256), []
    counts = np.bincount(target[~empty], minlength=256)
    return np.where(empty, np.uint8(255), target), counts, _nodata_faults(sample, empty, target)


def _nodata_faults(sample: Sample, empty: Mask, target: UInt8) -> list[Fault]:
    """Return a fault if pixels without data have a class. With a wrong nodata value, these may be many."""
    share = float((empty & (target != 255)).mean())
    problem = f"has a class on {100 * share:.2g} % of its pixels where its image {sample.image} has no data"
    remedy = "continue, these pixels are ignored; if the image has data there, correct its nodata value, mask or alpha"
    return [Fault("nodata-labelled", sample.target, problem, remedy)] if share else []


def _labelled_share(records: Sequence[Record]) -> float:
    total = sum((record.counts for record in records if record.counts is not None), np.zeros(256, np.int64))
    return float(total[:IGNORE_INDEX].sum() / total.sum()) if total.any() else 1.0


def _class_facts(dataset: DataSet | None, records: list[Record], counts_by_width: Int64) -> tuple[ClassFacts, ...]:
    counts = [record.counts for record in records if record.counts is not None]
    if dataset is None or not counts:
        return ()
    names = dataset.labels.class_names
    by_image = np.stack(counts)[:, : len(names)]
    total, images = by_image.sum(0), (by_image > 0).sum(0)
    shares = total / max(1, int(total.sum()))
    is_sparse = _labelled_share(records) < SPARSE  # strokes are not as wide as the objects
    return tuple(
        ClassFacts(name, float(shares[i]), int(images[i]), None if is_sparse else median_width(counts_by_width[i]))
        for i, name in enumerate(names)
    )

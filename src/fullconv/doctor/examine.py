"""Every file of a data set decoded once: what is wrong with it, and what training will face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.formats.assembly import Drawing
from fullconv.data.layouts import UNNAMED, Survey
from fullconv.data.object_widths import WIDEST, count_widths, median_width
from fullconv.data.splits import SPLITS
from fullconv.doctor.dataset_faults import whole_faults
from fullconv.doctor.duplicates import print_of
from fullconv.doctor.image_check import InspectedPicture, inspect_picture
from fullconv.doctor.masks import read_mask
from fullconv.doctor.record import Record
from fullconv.doctor.thumbnails import Gallery, Thumb
from fullconv.errors import DataError
from fullconv.faults import REPAIRABLE, UNREPAIRABLE, Fault, Group, group_faults
from fullconv.images import RGB
from fullconv.labels import LabelSet

__all__ = ["ClassFacts", "Examination", "examine"]

MEASURED = 400
"""Objects are measured on at most so many masks, evenly spread: it takes as long as decoding them."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassFacts:
    """A class: its share of the pixels with a class, the images that have it, and its median width in pixels."""

    name: str
    share: float
    images: int
    width: int | None


@dataclass(frozen=True)
class Examination:
    """All that was found. `dataset` has the classes that the masks hold where no file names them."""

    root: Path
    layout: str
    dataset: DataSet | None
    records: tuple[Record, ...]
    groups: tuple[Group, ...]
    classes: tuple[ClassFacts, ...]
    thumbs: tuple[Thumb, ...] = field(repr=False)

    @property
    def errors(self) -> int:
        """How many faults stop or spoil training."""
        return sum(len(group.faults) for group in self.groups if group.severity == "error")

    @property
    def warnings(self) -> int:
        """How many faults are worth a look."""
        return sum(len(group.faults) for group in self.groups if group.severity == "warning")

    def mends(self, fault: Fault) -> bool:
        """Return whether a repaired copy would not have the fault, with its pair kept."""
        hopeless = self.dataset is None or any(group.kind in UNREPAIRABLE for group in self.groups)
        return fault.kind in REPAIRABLE and fault.sure and not hopeless

    def verdict(self) -> str:
        """The last line."""
        counts = [
            f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((self.errors, "error"), (self.warnings, "warning"))
        ]
        return f"{', '.join(counts)}: training {'would stop or go wrong' if self.errors else 'can start'}"

    def sizes(self) -> str:
        """The sizes of the images, width x height, by number of pixels."""
        found = sorted(
            {record.size for record in self.records if record.size}, key=lambda size: (size[0] * size[1], size)
        )
        shown = [f"{width}x{height}" for height, width in found]
        if len(shown) < 2:
            return shown[0] if shown else "none"
        return f"{len(shown)} sizes from {shown[0]} to {shown[-1]} (width x height)"

    def samples(self) -> dict[str, int]:
        """How many samples each split has, with those at fault."""
        return dict(Counter(record.split for record in self.records))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON."""
        return {
            "data": str(self.root),
            "layout": self.layout,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [
                fault.to_dict() | {"fixable": self.mends(fault)} for group in self.groups for fault in group.faults
            ],
            "samples": self.samples(),
            "sizes": sorted({record.size for record in self.records if record.size}),
            "classes": [vars(facts) for facts in self.classes],
        }


def examine(found: Survey, on_sample: Callable[[int, int], None] = lambda done, total: None) -> Examination:
    """Decode every image and mask of a survey that decoded none, each at most once, and look at them together.

    Memory holds one sample at a time and about 12 KB of each. `on_sample` is told how many are done, of how many.
    """
    pairs = list(_pairs(found))
    records: list[Record] = []
    wide, gallery = np.zeros((256, WIDEST + 1), np.int64), Gallery()
    seen: dict[tuple[Path, Path], Record] = {}
    every = max(1, len(pairs) // MEASURED)
    for index, (split, sample) in enumerate(pairs):
        key = sample.image, sample.target
        if sample.reader is None and key in seen:
            records.append(replace(seen[key], split=split, faults=()))
            gallery.skip()
        else:
            record, picture, target = _look(found, split, sample)
            if target is not None and index % every == 0:
                wide += count_widths(target)
            gallery.add(None if picture is None else picture.rgb, target)
            seen[key] = record
            records.append(record)
        on_sample(index + 1, len(pairs))
    dataset = _named(found.dataset, records)
    unnamed = found.dataset is not None and found.dataset.labels is UNNAMED
    facts = tuple(fact for fact in _class_facts(dataset, records, wide) if fact.images or not unnamed)
    widths = {fact.name: fact.width for fact in facts}
    faults = [fault for fault in found.faults if fault.pair is None]
    faults += (fault for record in records for fault in record.faults)
    faults += whole_faults(found.root, dataset, records, widths, tuple(faults), unnamed)
    own = [
        (record.split, record.sample.name, of) for record, of in zip(records, _of_each(records, faults), strict=True)
    ]
    thumbs = gallery.thumbs(own, dataset.labels if dataset else UNNAMED)
    return Examination(found.root, found.name, dataset, tuple(records), group_faults(faults), facts, thumbs)


def _of_each(records: list[Record], faults: list[Fault]) -> Iterator[tuple[Fault, ...]]:
    """The faults of each record, by the files that are its own: many images may share one annotation file."""
    by_path: dict[Path, list[Fault]] = {}
    for fault in faults:
        by_path.setdefault(fault.path, []).append(fault)
    users = Counter(target for _, target in {(record.sample.image, record.sample.target) for record in records})
    for record in records:
        image, target = record.sample.image, record.sample.target
        others = [*by_path.get(image, ()), *(by_path.get(target, ()) if users[target] == 1 else ())]
        yield (*record.faults, *(fault for fault in others if fault not in record.faults))


def _pairs(found: Survey) -> Iterator[tuple[str, Sample]]:
    """Every pair of files with its split: those in order, and those that the survey left out."""
    for split in SPLITS:
        for sample in found.dataset.splits.get(split, ()) if found.dataset else ():
            yield split, sample
    at_fault: dict[tuple[Path, Path], tuple[str, Sample]] = {}
    for fault in found.faults:
        if isinstance(fault.pair, Sample):
            at_fault[fault.pair.image, fault.pair.target] = fault.split or "train", fault.pair
    yield from at_fault.values()


def _look(
    found: Survey, split: str, sample: Sample
) -> tuple[Record, InspectedPicture | None, npt.NDArray[np.uint8] | None]:
    """One sample decoded: what is kept of it, its image, and its target where it can be used."""
    faults: list[Fault] = []
    picture, mask, look = None, None, None
    try:
        picture = inspect_picture(sample.image, found.dataset.input if found.dataset else RGB)
        look = print_of(sample.image, picture.rgb)
        faults += picture.faults
    except DataError as error:
        faults += error.faults_at(sample.image)
    try:
        mask = read_mask(found.dataset, sample) if found.dataset else None
        faults += mask.faults if mask else ()
        faults += sample.reader.empty() if isinstance(sample.reader, Drawing) else ()
    except DataError as error:
        faults += error.faults_at(sample.target)
    size = None if picture is None else (picture.rgb.shape[0], picture.rgb.shape[1])
    target = None if mask is None else mask.target
    if mask is not None and size is not None and mask.size != size:
        faults.append(size_fault(sample, size, mask.size))
        target = None
    counts = None
    if target is not None:
        empty = None if picture is None else picture.empty
        counts = np.bincount(target.ravel() if empty is None else target[~empty], minlength=256)
        if empty is not None:
            faults += _nodata(sample, empty, target)
            target = np.where(empty, np.uint8(255), target)
    of_sample = tuple(replace(fault, sample=sample.name, split=split) for fault in faults)
    record = Record(split, sample, of_sample, size, picture.bands if picture else 0, counts, look)
    return record, picture, target


def _nodata(sample: Sample, empty: npt.NDArray[np.bool_], target: npt.NDArray[np.uint8]) -> list[Fault]:
    """Pixels without data that have a class are ignored: where the nodata value is wrong, these may be many."""
    share = float((empty & (target != 255)).mean())
    problem = f"has a class on {100 * share:.2g} % of its pixels where its image {sample.image} has no data"
    remedy = "go on, they are ignored; if the image has data there, correct its nodata value, mask or alpha"
    return [Fault("nodata-labelled", sample.target, problem, remedy)] if share else []


def _named(dataset: DataSet | None, records: list[Record]) -> DataSet | None:
    """The data set with as many classes as its masks hold where no file names them; two at least."""
    if dataset is None or dataset.labels is not UNNAMED:
        return dataset
    total = sum((record.counts for record in records if record.counts is not None), np.zeros(256, np.int64))
    count = max(2, int(np.flatnonzero(total[:255]).max(initial=0)) + 1)
    return replace(dataset, labels=LabelSet.named([f"class_{i}" for i in range(count)]))


def _class_facts(dataset: DataSet | None, records: list[Record], wide: Ints) -> tuple[ClassFacts, ...]:
    counts = [record.counts for record in records if record.counts is not None]
    if dataset is None or not counts:
        return ()
    names = dataset.labels.class_names
    by_image = np.stack(counts)[:, : len(names)]
    total, images = by_image.sum(0), (by_image > 0).sum(0)
    shares = total / max(1, int(total.sum()))
    return tuple(
        ClassFacts(name, float(shares[i]), int(images[i]), median_width(wide[i])) for i, name in enumerate(names)
    )

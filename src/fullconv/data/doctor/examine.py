"""Every file of a data set decoded once: what is wrong with it, and what training will face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample, lies_turned
from fullconv.data.doctor.duplicates import print_of
from fullconv.data.doctor.findings import Finding, Group, grouped, of_error, of_fault
from fullconv.data.doctor.masks import Mask, read_mask
from fullconv.data.doctor.objects import WIDEST, median_width, width_counts
from fullconv.data.doctor.picture import InspectedPicture, inspect_picture
from fullconv.data.doctor.record import Record
from fullconv.data.doctor.thumbs import Gallery, Thumb
from fullconv.data.doctor.whole import whole_findings
from fullconv.data.formats.assembly import Drawing
from fullconv.data.layouts import UNNAMED, Survey
from fullconv.data.pairing import PairFault
from fullconv.errors import DataError
from fullconv.images import RGB
from fullconv.labels import LabelSet

__all__ = ["ClassFacts", "Examination", "examine"]

MEASURED = 400
"""Objects are measured on at most so many masks, evenly spread: it takes as long as decoding them."""

SPLITS = ("train", "val", "test")

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
        """How many findings stop training or spoil it."""
        return sum(len(group.findings) for group in self.groups if group.severity == "error")

    @property
    def warnings(self) -> int:
        """How many findings are worth a look."""
        return sum(len(group.findings) for group in self.groups if group.severity == "warning")

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
            "findings": [group.to_dict() for group in self.groups],
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
            records.append(replace(seen[key], split=split, findings=()))
            gallery.skip()
        else:
            record, picture, target = _look(found, split, sample)
            if target is not None and index % every == 0:
                wide += width_counts(target)
            gallery.add(None if picture is None else picture.rgb, target)
            seen[key] = record
            records.append(record)
        on_sample(index + 1, len(pairs))
    dataset = _named(found.dataset, records)
    unnamed = found.dataset is not None and found.dataset.labels is UNNAMED
    facts = tuple(fact for fact in _class_facts(dataset, records, wide) if fact.images or not unnamed)
    widths = {fact.name: fact.width for fact in facts}
    findings = [of_fault(fault) for fault in found.faults if not isinstance(fault, PairFault)]
    findings += (finding for record in records for finding in record.findings)
    told = {finding.kind for finding in findings}
    findings += whole_findings(found.root, dataset, records, widths, told, unnamed)
    own = [
        (record.split, record.sample.name, of) for record, of in zip(records, _of_each(records, findings), strict=True)
    ]
    thumbs = gallery.thumbs(own, dataset.labels if dataset else UNNAMED)
    return Examination(found.root, found.name, dataset, tuple(records), grouped(findings), facts, thumbs)


def _of_each(records: list[Record], findings: list[Finding]) -> Iterator[tuple[Finding, ...]]:
    """The findings of each record, by the files that are its own: many images may share one annotation file."""
    by_path: dict[Path, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.path, []).append(finding)
    users = Counter(target for _, target in {(record.sample.image, record.sample.target) for record in records})
    for record in records:
        image, target = record.sample.image, record.sample.target
        others = [*by_path.get(image, ()), *(by_path.get(target, ()) if users[target] == 1 else ())]
        yield (*record.findings, *(finding for finding in others if finding not in record.findings))


def _pairs(found: Survey) -> Iterator[tuple[str, Sample]]:
    """Every pair of files with its split: those in order, and those that the survey left out."""
    for split in SPLITS:
        for sample in found.dataset.splits.get(split, ()) if found.dataset else ():
            yield split, sample
    at_fault = {(fault.sample.image, fault.sample.target): (fault.of_split, fault.sample)
                for fault in found.faults if isinstance(fault, PairFault)}  # fmt: skip
    yield from at_fault.values()


def _look(
    found: Survey, split: str, sample: Sample
) -> tuple[Record, InspectedPicture | None, npt.NDArray[np.uint8] | None]:
    """One sample decoded: what is kept of it, its image, and its target where it can be used."""
    findings: list[Finding] = []
    picture, mask, look = None, None, None
    try:
        picture = inspect_picture(sample.image, found.dataset.input if found.dataset else RGB)
        look = print_of(sample.image, picture.rgb)
        findings += picture.findings
    except DataError as error:
        findings.append(of_error(str(error)))
    try:
        mask = read_mask(found.dataset, sample) if found.dataset else None
        findings += mask.findings if mask else ()
        findings += map(of_fault, sample.reader.empty() if isinstance(sample.reader, Drawing) else ())
    except DataError as error:
        findings.append(of_error(str(error)))
    size = None if picture is None else (picture.rgb.shape[0], picture.rgb.shape[1])
    target = None if mask is None else mask.target
    if mask is not None and size is not None and mask.size != size:
        findings.append(_size_finding(sample, size, mask))
        target = None
    counts = None
    if target is not None:
        empty = None if picture is None else picture.empty
        counts = np.bincount(target.ravel() if empty is None else target[~empty], minlength=256)
        if empty is not None:
            findings += _nodata(sample, empty, target)
            target = np.where(empty, np.uint8(255), target)
    record = Record(split, sample, tuple(findings), size, picture.bands if picture else 0, counts, look)
    return record, picture, target


def _size_finding(sample: Sample, size: tuple[int, int], mask: Mask) -> Finding:
    found = f"is {mask.size[1]}x{mask.size[0]} (width x height), but its image {sample.image} is {size[1]}x{size[0]}"
    if sample.reader is None and mask.size == size[::-1] and lies_turned(sample.image, mask.size):
        found += " when it is turned upright by its EXIF orientation, and the mask is not"
        return Finding("exif-rotation", sample.target, found, "turn the mask, too")
    remedy = "resize the mask without interpolation, or export it again"
    return Finding("size-mismatch", sample.target, found, remedy)


def _nodata(sample: Sample, empty: npt.NDArray[np.bool_], target: npt.NDArray[np.uint8]) -> list[Finding]:
    """Pixels without data that carry a class are ignored: by a nodata value that is wrong, many would be."""
    share = float((empty & (target != 255)).mean())
    found = f"has a class on {100 * share:.2g} % of its pixels where its image {sample.image} has no data"
    remedy = "go on, they are ignored; if the image does have data there, correct its nodata value, mask or alpha"
    return [Finding("nodata-labelled", sample.target, found, remedy)] if share else []


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

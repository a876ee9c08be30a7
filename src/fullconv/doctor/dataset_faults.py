"""Find the faults that only several samples together show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fullconv.arrays import Int64
from fullconv.data.channels import read_declared_channels
from fullconv.data.dataset import MORE_PAIRS, DataSet, few_pairs
from fullconv.data.splits import SPLITS
from fullconv.data.statistics import unlabelled_split
from fullconv.doctor.duplicates import same_images
from fullconv.doctor.record import Record
from fullconv.faults import Fault

__all__ = ["find_dataset_faults", "only_0_and_255"]

STRIDE, FINEST = 8, 4
"""The default prediction stride and the finest one."""

_KEEP_PAIRS = {"class-names", "class-mismatch", "band-count", "duplicate-stem"}
"""Errors that do not remove a pair from its split."""


def find_dataset_faults(
    root: Path,
    dataset: DataSet | None,
    records: Sequence[Record],
    widths: Mapping[str, int | None],
    known: Sequence[Fault],
    unnamed: bool,
) -> Iterator[Fault]:
    """Yield the faults that concern several samples.

    `widths` has the median width of each class in pixels, `known` the faults of single samples. `unnamed` means that no
    file names the classes.
    """
    few = len(records) < 2 and not known
    if few:
        yield Fault("empty-split", root, few_pairs(len(records)), MORE_PAIRS)
    for split in () if few else ("train", "val"):
        explained = dataset is None or any(_empties(fault, split) for fault in known)
        if not explained and not any(record.split == split for record in records):
            problem = f"the split {split!r} has no samples"
            yield Fault("empty-split", root, problem, "add images and masks to it", split=split)
    one_count = not any(fault.kind == "band-count" for fault in known)
    if dataset is None or (dataset.channels == 3 and one_count and read_declared_channels(dataset) is None):
        yield from _channel_faults(records)
    yield from _shared_images(records)
    usable = [record for record in records if record.counts is not None]
    if dataset is None or not usable:
        return
    total = _sum_counts(usable)
    if dataset.labels.num_classes > 1 and total[0] and not total[1:255].any():
        yield from _one_class_faults(root, dataset, usable)
        return
    yield from _odd_masks(root, dataset, usable)
    yield from _absent_classes(root, dataset, usable, unnamed)
    yield from _thin_objects(root, widths)


def _empties(fault: Fault, split: str) -> bool:
    """Return whether a fault may be the reason why a split has no samples."""
    return fault.severity == "error" and fault.kind not in _KEEP_PAIRS and fault.split in (None, split)


def only_0_and_255(dataset: DataSet, masks: Sequence[Int64]) -> bool:
    """Return whether 255 stands for a class: masks contain 0 and 255, and none contains 255 and a class above 0.

    `masks` has the pixels of each label in each mask (256 int64). In colours, in shapes, and where a file states it,
    255 is ignored.
    """
    drawn = any(sample.reader is not None for samples in dataset.splits.values() for sample in samples)
    if dataset.states_ignored or dataset.color_masks or dataset.remap or drawn:
        return False
    with_255 = [counts for counts in masks if counts[255]]
    total = sum(masks, np.zeros(256, np.int64))
    both = any(counts[0] for counts in with_255) or (total[0] and not total[1:255].any())
    return bool(with_255 and both and not any(counts[1:255].any() for counts in with_255))


def _is_white(record: Record) -> bool:
    """Return whether a mask contains 255 and no class above 0."""
    return record.counts is not None and bool(record.counts[255] and not record.counts[1:255].any())


def _one_class_faults(root: Path, dataset: DataSet, usable: Sequence[Record]) -> Iterator[Fault]:
    if not only_0_and_255(dataset, [r.counts for r in usable if r.counts is not None]):
        remedy = "label the objects, or export the masks again as class ids 0, 1, 2, ..."
        yield Fault("only-background", root, "no mask contains a class above 0", remedy)
    else:
        yield from _white(usable, "contains only 0 and 255; 255 is ignored, so no class above 0 remains")


def _white(usable: Sequence[Record], problem: str) -> Iterator[Fault]:
    for record in usable:
        if _is_white(record):
            yield _of(record, Fault("mask-0-255", record.label_path, problem, "write 255 as 1"))


def _odd_masks(root: Path, dataset: DataSet, usable: Sequence[Record]) -> Iterator[Fault]:
    """Yield the faults of single masks, or of one split, that are unusual only in comparison with the others."""
    names = dataset.labels.class_names
    blank = [split for split in ("train", "val") if _is_blank([r for r in usable if r.split == split])]
    for split in blank:
        yield unlabelled_split(root, split)
    mixed = len(names) == 2 and only_0_and_255(dataset, [r.counts for r in usable if r.counts is not None])
    if mixed:
        yield from _white(usable, "contains only 0 and 255, while other masks contain 0 and 1; 255 is ignored")
    for record in usable:
        assert record.counts is not None
        if record.split in blank or (mixed and _is_white(record)):
            continue
        if not record.counts[:255].any():
            problem = "contains only 255: all of the image is ignored"
            remedy = "continue: training and scores do not use it; or label it"
            yield _of(record, Fault("all-ignored", record.label_path, problem, remedy))
        elif len(names) > 1 and not record.counts[1:255].any():
            problem = f"contains no class but {names[0]} (0)"
            remedy = "check whether an annotation is missing"
            yield _of(record, Fault("background-image", record.label_path, problem, remedy))


def _is_blank(usable: Sequence[Record]) -> bool:
    return bool(usable) and not _sum_counts(usable)[:255].any()


def _absent_classes(root: Path, dataset: DataSet, usable: Sequence[Record], unnamed: bool) -> Iterator[Fault]:
    everywhere = _sum_counts(usable)
    names = dict(enumerate(dataset.labels.class_names))
    nowhere = [name for i, name in names.items() if not everywhere[i]]
    if nowhere and not unnamed:
        problem = f"no usable mask contains {', '.join(nowhere)}"
        yield Fault(
            "absent-class", root, problem, "label some objects of it, or continue: it is not learned and gets no score"
        )
    for split in SPLITS:
        counts = _sum_counts([record for record in usable if record.split == split])
        absent = [name for i, name in names.items() if everywhere[i] and not counts[i]]
        if absent and counts[:255].any():
            problem = f"no usable mask of split {split!r} contains {', '.join(absent)}"
            what = "it is not learned" if split == "train" else "it gets no score"
            yield Fault("absent-class", root, problem, f"move some images to this split; otherwise {what}", split=split)


def _thin_objects(root: Path, widths: Mapping[str, int | None]) -> Iterator[Fault]:
    for name, width in widths.items():
        if width is not None and width < STRIDE:
            what = f"objects of class {name} are {width} px wide (median over their pixels)"
            problem = f"{what}, and stride {STRIDE} blurs them"
            more = "; larger images help more" if width < FINEST else ""
            yield Fault("thin-objects", root, problem, f"continue: train uses stride {FINEST} automatically{more}")


def _channel_faults(records: Sequence[Record]) -> Iterator[Fault]:
    grey, colour, many = ([r for r in records if low <= r.bands <= high] for low, high in ((1, 2), (3, 3), (4, 99)))
    few = bool(grey or colour)
    for record in many:
        kind, remedy = "alpha", "continue if only alpha is lost"
        problem = f"has {record.bands} channels, and only the first 3 are read"
        if few:
            kind, problem, remedy = (
                "mixed-channels",
                f"{problem}; other images have 1 or 3",
                f"{remedy}, or save it as RGB",
            )
        yield _of(record, Fault(kind, record.sample.image, problem, remedy))
    if colour or many:
        for record in grey:
            problem = "is grey, while other images are in colour; it is read as RGB of equal channels"
            yield _of(record, Fault("grey-among-colour", record.sample.image, problem, "continue, or remove the pair"))


def _shared_images(records: Sequence[Record]) -> Iterator[Fault]:
    by_split = {split: [r for r in records if r.split == split and r.hash] for split in SPLITS}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        ones, others = by_split[first], by_split[second]
        hashes = [[r.hash for r in group if r.hash] for group in (ones, others)]
        for index, match, equal in same_images(hashes[0], hashes[1]):
            twin = ones[match].sample.image
            what = "the same file as" if equal else "nearly the same image as"
            problem = f"is in split {second!r}, but it is {what} {twin} in split {first!r}"
            remedy = "keep both on one side, otherwise scores are too high: name what they share with --val-by REGEX"
            record = others[index]
            yield _of(record, Fault("in-two-splits", record.sample.image, problem, remedy))


def _of(record: Record, fault: Fault) -> Fault:
    return replace(fault, sample=record.sample.name, split=record.split)


def _sum_counts(records: Sequence[Record]) -> Int64:
    return sum((r.counts for r in records if r.counts is not None), np.zeros(256, np.int64))

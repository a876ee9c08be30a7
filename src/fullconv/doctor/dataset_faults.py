"""What only the samples of a data set together show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.channels import read_declared_channels
from fullconv.data.dataset import DataSet
from fullconv.data.splits import SPLITS
from fullconv.doctor.duplicates import same_images
from fullconv.doctor.record import Record
from fullconv.faults import Fault

__all__ = ["only_0_and_255", "whole_faults"]

STRIDE, FINEST = 8, 4
"""The default prediction stride, and the finest."""

# Errors that take no pair out of a split.
_KEEP_PAIRS = {"class-names", "class-mismatch", "band-count", "duplicate-stem"}


def whole_faults(
    root: Path,
    dataset: DataSet | None,
    records: Sequence[Record],
    widths: Mapping[str, int | None],
    before: Sequence[Fault],
    unnamed: bool,
) -> Iterator[Fault]:
    """The faults that take more than one sample; `widths`: pixels by class; `before`: those found so far;
    `unnamed`: that no file names the classes.
    """
    for split in ("train", "val"):
        explained = any(_empties(fault, split) for fault in before)
        if not explained and not any(record.split == split for record in records):
            problem = f"the split {split!r} has no samples"
            yield Fault("empty-split", root, problem, "add images and masks to it", split=split)
    one_count = not any(fault.kind == "band-count" for fault in before)
    if dataset is None or (dataset.channels == 3 and one_count and read_declared_channels(dataset) is None):
        yield from _channels(records)
    yield from _in_two_splits(records)
    usable = [record for record in records if record.counts is not None]
    if dataset is None or not usable:
        return
    total = _counts(usable)
    if dataset.labels.num_classes > 1 and total[0] and not total[1:255].any():
        yield from _one_class(root, usable)
        return
    if unnamed and (levels := _grey_levels(dataset, usable)):
        yield levels
        return
    yield from _odd_masks(root, dataset, usable)
    yield from _absent(root, dataset, usable, unnamed)
    yield from _thin(root, widths)


def _empties(fault: Fault, split: str) -> bool:
    """Whether an error may be why a split has no samples."""
    return fault.severity == "error" and fault.kind not in _KEEP_PAIRS and fault.split in (None, split)


def only_0_and_255(records: Sequence[Record]) -> bool:
    """Whether 255 stands for a class: masks of 0 and 255, while no mask holds 255 and a class above 0."""
    held = [record.counts for record in records if record.counts is not None and record.counts[255]]
    total = _counts(records)
    both = any(counts[0] for counts in held) or (total[0] and not total[1:255].any())
    return bool(held and both and not any(counts[1:255].any() for counts in held))


def _is_white(record: Record) -> bool:
    """Whether a mask holds 255, and no class above 0."""
    return record.counts is not None and bool(record.counts[255] and not record.counts[1:255].any())


def _one_class(root: Path, usable: Sequence[Record]) -> Iterator[Fault]:
    if not only_0_and_255(usable):
        remedy = "label the objects, or export the masks again as class ids 0, 1, 2, ..."
        yield Fault("only-background", root, "no mask holds a class above 0", remedy)
    else:
        yield from _white(usable, "contains only 0 and 255; 255 is ignored, so that no class above 0 is left")


def _white(usable: Sequence[Record], problem: str) -> Iterator[Fault]:
    for record in usable:
        if _is_white(record):
            yield _of(record, Fault("mask-0-255", record.place, problem, "write 255 as 1"))


def _grey_levels(dataset: DataSet, usable: Sequence[Record]) -> Fault | None:
    """Masks that hold few labels of many possible, by the rule of `find_dataset`."""
    held, count = np.flatnonzero(_counts(usable)[:255]), dataset.labels.num_classes
    if not len(held) or count <= 2 * len(held) + 1:
        return None
    last = next(record for record in usable if record.counts is not None and record.counts[held[-1]])
    shown = ", ".join(map(str, held[:8].tolist()))
    problem = f"is one of the masks that hold {len(held)} labels ({shown}) of {count} possible, like grey levels"
    return _of(last, Fault("grey-levels", last.place, problem, "write class ids 0, 1, 2, ..., or name all classes"))


def _odd_masks(root: Path, dataset: DataSet, usable: Sequence[Record]) -> Iterator[Fault]:
    """What single masks, or those of a split, hold that is odd, but only beside others that are not."""
    names = dataset.labels.class_names
    blank = [split for split in ("train", "val") if _is_blank([r for r in usable if r.split == split])]
    for split in blank:
        problem = f"no pixel of split {split!r} has a class: its masks hold only 255, which is ignored"
        yield Fault("unlabelled-split", root, problem, "label some of its images", split=split)
    mixed = len(names) == 2 and only_0_and_255(usable)
    if mixed:
        yield from _white(usable, "contains only 0 and 255 among masks of 0 and 1, and 255 is ignored")
    for record in usable:
        assert record.counts is not None
        if record.split in blank or (mixed and _is_white(record)):
            continue
        if not record.counts[:255].any():
            problem = "holds only 255: all of the image is ignored"
            yield _of(record, Fault("all-ignored", record.place, problem, "label it, or remove the pair"))
        elif len(names) > 1 and not record.counts[1:255].any():
            problem = f"holds no class but {names[0]} (0)"
            remedy = "see whether an annotation is missing"
            yield _of(record, Fault("background-image", record.place, problem, remedy))


def _is_blank(usable: Sequence[Record]) -> bool:
    return bool(usable) and not _counts(usable)[:255].any()


def _absent(root: Path, dataset: DataSet, usable: Sequence[Record], unnamed: bool) -> Iterator[Fault]:
    everywhere = _counts(usable)
    names = dict(enumerate(dataset.labels.class_names))
    nowhere = [name for i, name in names.items() if not everywhere[i]]
    if nowhere and not unnamed:
        problem = f"no mask that can be used holds {', '.join(nowhere)}"
        yield Fault("absent-class", root, problem, "label some of it, or go on: it is not learned and gets no score")
    for split in SPLITS:
        counts = _counts([record for record in usable if record.split == split])
        absent = [name for i, name in names.items() if everywhere[i] and not counts[i]]
        if absent and counts[:255].any():
            problem = f"no mask of split {split!r} that can be used holds {', '.join(absent)}"
            what = "nothing is learned of it" if split == "train" else "it gets no score"
            yield Fault("absent-class", root, problem, f"move some images here: {what}", split=split)


def _thin(root: Path, widths: Mapping[str, int | None]) -> Iterator[Fault]:
    for name, width in widths.items():
        if width is not None and width < STRIDE:
            problem = (
                f"objects of class {name} are {width} px wide (median over their pixels): stride {STRIDE} blurs them"
            )
            more = "; larger images help more" if width < FINEST else ""
            yield Fault("thin-objects", root, problem, f"go on: train takes stride {FINEST} automatically{more}")


def _channels(records: Sequence[Record]) -> Iterator[Fault]:
    grey, colour, many = ([r for r in records if low <= r.bands <= high] for low, high in ((1, 2), (3, 3), (4, 99)))
    few = bool(grey or colour)
    for record in many:
        kind, remedy = "alpha", "go on if alpha is all that is lost"
        problem = f"has {record.bands} channels, of which the first 3 are read"
        if few:
            kind, problem, remedy = (
                "mixed-channels",
                f"{problem}, where other images have 1 or 3",
                f"{remedy}, or save it as RGB",
            )
        yield _of(record, Fault(kind, record.sample.image, problem, remedy))
    if colour or many:
        for record in grey:
            problem = "is grey among images in colour, and read as RGB of equal channels"
            yield _of(record, Fault("grey-among-colour", record.sample.image, problem, "go on, or leave it out"))


def _in_two_splits(records: Sequence[Record]) -> Iterator[Fault]:
    by_split = {split: [r for r in records if r.split == split and r.look] for split in SPLITS}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        ones, others = by_split[first], by_split[second]
        looks = [[r.look for r in group if r.look] for group in (ones, others)]
        for there, here, equal in same_images(looks[0], looks[1]):
            twin = ones[here].sample.image
            problem = f"is in split {second!r}, and {'the same file' if equal else 'nearly the same image'} is {twin}"
            remedy = f"leave it in one of {first!r} and {second!r}: scores on images that were trained on say little"
            record = others[there]
            yield _of(record, Fault("in-two-splits", record.sample.image, problem, remedy))


def _of(record: Record, fault: Fault) -> Fault:
    return replace(fault, sample=record.sample.name, split=record.split)


def _counts(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    return sum((r.counts for r in records if r.counts is not None), np.zeros(256, np.int64))

"""What only the samples of a data set together show."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet
from fullconv.data.doctor.duplicates import same_images
from fullconv.data.doctor.findings import Finding
from fullconv.data.doctor.record import Record

__all__ = ["only_0_and_255", "whole_findings"]

STRIDE, FINEST = 8, 4
"""The default prediction stride, and the finest."""

SPLITS = ("train", "val", "test")

# Where one of these is told, an empty split is its consequence.
_EMPTY = {"missing-folder", "empty-split", "no-common-stem", "layout"}


def whole_findings(
    root: Path,
    dataset: DataSet | None,
    records: Sequence[Record],
    widths: Mapping[str, int | None],
    told: Collection[str],
    unnamed: bool,
) -> Iterator[Finding]:
    """The findings that take more than one sample; `widths`: pixels by class; `told`: the kinds found so far;
    `unnamed`: that no file names the classes.
    """
    if not _EMPTY & set(told):
        for split in ("train", "val"):
            if not any(record.split == split for record in records):
                yield Finding("empty-split", root, f"the split {split!r} has no samples", "add images and masks to it")
    yield from _channels(records)
    yield from _in_two_splits(records)
    if dataset is None:
        return
    usable = [record for record in records if record.counts is not None]
    if dataset.labels.num_classes > 1 and usable and not sum(_counts(usable)[1:255]):
        yield from _one_class(root, usable)
        return
    if unnamed and (levels := _grey_levels(dataset, usable)):
        yield levels
        return
    yield from _odd_masks(dataset, usable)
    yield from _absent(root, dataset, usable, unnamed)
    for name, width in widths.items():
        if width is not None and width < STRIDE:
            more = ", and larger images" if width < FINEST else ""
            found = (
                f"objects of class {name} are {width} px wide (median over their pixels): stride {STRIDE} blurs them"
            )
            yield Finding("thin-objects", root, found, f"train with --stride {FINEST}{more}")


def only_0_and_255(records: Sequence[Record]) -> bool:
    """Whether no mask holds a class above 0, and some hold 255: masks of two levels, or nothing labelled."""
    usable = [record for record in records if record.counts is not None]
    total = _counts(usable)
    return bool(total[255] and not total[1:255].any())


def _one_class(root: Path, usable: Sequence[Record]) -> Iterator[Finding]:
    if not only_0_and_255(usable):
        remedy = "label the objects, or export the masks again as class ids 0, 1, 2, ..."
        yield Finding("only-background", root, "no mask holds a class above 0", remedy)
        return
    for record in usable:
        if record.counts is not None and record.counts[255]:
            found = f"{record.sample.of_image}is of 0 and 255, and 255 is ignored, so that no class above 0 is left"
            yield Finding("mask-0-255", record.sample.target, found, "write 255 as 1")


def _grey_levels(dataset: DataSet, usable: Sequence[Record]) -> Finding | None:
    """Masks that hold few labels of many possible, by the rule of `find_dataset`."""
    held, count = np.flatnonzero(_counts(usable)[:255]), dataset.labels.num_classes
    if count <= 2 * len(held) + 1:
        return None
    last = next(record for record in usable if record.counts is not None and record.counts[held[-1]])
    shown = ", ".join(map(str, held[:8].tolist()))
    found = f"is one of the masks that hold {len(held)} labels ({shown}) of {count} possible, like grey levels"
    return Finding("grey-levels", last.sample.target, found, "write class ids 0, 1, 2, ..., or name all classes")


def _odd_masks(dataset: DataSet, usable: Sequence[Record]) -> Iterator[Finding]:
    """What single masks hold that is odd, but only beside others that are not."""
    names = dataset.labels.class_names
    for record in usable:
        assert record.counts is not None
        if not record.counts[:255].any():
            found = f"{record.sample.of_image}holds only 255: all of the image is ignored"
            yield Finding("all-ignored", record.sample.target, found, "label it, or remove the pair")
        elif len(names) > 1 and not record.counts[1:255].any():
            found = f"{record.sample.of_image}holds no class but {names[0]} (0)"
            yield Finding("background-image", record.sample.target, found, "see whether an annotation is missing")


def _absent(root: Path, dataset: DataSet, usable: Sequence[Record], unnamed: bool) -> Iterator[Finding]:
    everywhere = _counts(usable)
    for split in SPLITS:
        counts = _counts([record for record in usable if record.split == split])
        if not counts.any():
            continue
        absent = [
            name
            for i, name in enumerate(dataset.labels.class_names)
            if not counts[i] and (everywhere[i] or not unnamed)
        ]
        if absent:
            found = f"no mask of split {split!r} that can be used holds {', '.join(absent)}"
            what = "nothing is learnt of it" if split == "train" else "it gets no score"
            yield Finding("absent-class", root, found, f"move some images here: {what}")


def _channels(records: Sequence[Record]) -> Iterator[Finding]:
    grey, colour, many = ([r for r in records if low <= r.bands <= high] for low, high in ((1, 2), (3, 3), (4, 99)))
    few = bool(grey or colour)
    for record in many:
        found = f"has {record.bands} channels" + (
            ", where other images have 1 or 3" if few else ", of which the first 3 are read"
        )
        remedy = "save all images as RGB" if few else "go on if alpha is all that is lost"
        yield Finding("mixed-channels" if few else "alpha", record.sample.image, found, remedy)
    if colour or many:
        for record in grey:
            found = "is grey among images in colour, and read as RGB of equal channels"
            yield Finding("grey-among-colour", record.sample.image, found, "go on, or leave it out")


def _in_two_splits(records: Sequence[Record]) -> Iterator[Finding]:
    by_split = {split: [r for r in records if r.split == split and r.look] for split in SPLITS}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        ones, others = by_split[first], by_split[second]
        looks = [[r.look for r in group if r.look] for group in (ones, others)]
        for there, here, equal in same_images(looks[0], looks[1]):
            twin = ones[here].sample.image
            found = f"is in split {second!r}, and {'the same file' if equal else 'nearly the same image'} is {twin}"
            remedy = f"leave it in one of {first!r} and {second!r}: scores on images that were trained on say little"
            yield Finding("in-two-splits", others[there].sample.image, found, remedy)


def _counts(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    return sum((r.counts for r in records if r.counts is not None), np.zeros(256, np.int64))

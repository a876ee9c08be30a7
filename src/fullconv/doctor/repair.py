"""Write a repaired copy of a data set in the folder layout. Pairs that cannot be repaired safely are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import Int64, UInt8
from fullconv.data.channels import describe_pixels
from fullconv.data.classes import IGNORED_VALUE, write_description
from fullconv.data.dataset import DataSet
from fullconv.data.splits import SPLITS
from fullconv.data.writers.names import name_file, name_key
from fullconv.doctor.dataset_faults import only_0_and_255
from fullconv.doctor.examine import Examination
from fullconv.doctor.image_check import InspectedPicture, inspect_picture
from fullconv.doctor.masks import inspect_mask
from fullconv.doctor.record import Record
from fullconv.errors import DataError
from fullconv.faults import REPAIRABLE, UNREPAIRABLE, Fault
from fullconv.files import atomic_folder, check_new_folder, copy_file
from fullconv.images import read_header, write_image, write_label_map
from fullconv.labels import IGNORE_INDEX

__all__ = ["Repair", "repair"]

_OF_FOLDERS = frozenset({"missing-folder", "missing-list", "empty-split", "no-common-stem", "unlabelled-split"})
"""Kinds of faults of folders. No file is left out because of them."""

# Turns a mask as each EXIF orientation turns the image.
_TURNS: dict[int, Callable[[UInt8], UInt8]] = {
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class Repair:
    """A repaired copy: one line in `done` for each changed file, and the faults of the files that were left out."""

    folder: Path
    pairs: int
    done: tuple[str, ...]
    left_out: tuple[Fault, ...]


def repair(examination: Examination, folder: Path, on_sample: Callable[[int, int], None] | None = None) -> Repair:
    """Write the pairs of an examination to `folder`, as images/SPLIT, masks/SPLIT and dataset.yaml.

    The data are not changed, and files without faults are copied byte by byte. Repairs:

    - Masks that contain only 0 and 255 get 0 and 1.
    - Pixels of smoothed and JPEG masks get the nearest class if that is clear.
    - A mask is turned as the EXIF orientation turns its image.
    - Images with more channels than the others keep the first three.
    - Pixels without data get 255.
    - A file in two splits stays in the first one only, unless the other split would lose its last pair.

    `folder` is written atomically. `on_sample` is called after each sample with the number of samples done and of all.
    Raises UsageError as `check_new_folder` does, and DataError if the classes are uncertain or no pair can be kept.
    """
    check_new_folder(folder, examination.root)
    unsure = [fault for group in examination.groups if group.kind in UNREPAIRABLE for fault in group.faults]
    if examination.dataset is None or unsure:
        message = f"{examination.root}: the class of each pixel is not certain; correct the class names or masks first"
        raise DataError(message, unsure, code="classes-not-certain")
    records = sorted(examination.records, key=lambda record: SPLITS.index(record.split))
    by_path, twins = _faults_by_path(examination), []
    with atomic_folder(folder) as partial:
        copy = _Copy(examination.dataset, partial, _is_binary(examination), _unpaired_errors(examination))
        for index, record in enumerate(records):
            if copy.twin(record) is None:
                copy.add(record, _faults_of(record, by_path))
            else:
                twins.append(record)
            if on_sample is not None:
                on_sample(index + 1, len(records))
        for record in twins:
            if any(split == record.split for split, _ in copy.names):
                problem = f"is in split {record.split!r}, but it is the same file as {copy.twin(record)}"
                fault = Fault("in-two-splits", record.sample.image, problem, "the first one is kept")
                copy.left_out.append(replace(fault, sample=record.sample.name, split=record.split))
            else:
                copy.add(record, _faults_of(record, by_path))
        if not copy.images:
            raise DataError(f"{examination.root}: no pair can be kept", copy.left_out, code="no-pair-left")
        write_description(partial, _describe(examination.dataset) | describe_pixels(examination.dataset, copy.images))
    return Repair(folder, len(copy.images), tuple(copy.done), tuple(copy.left_out))


def _is_binary(examination: Examination) -> bool:
    """Return whether 255 stands for the second of two classes, by the masks that are usable or get so."""
    dataset = examination.dataset
    assert dataset is not None
    if dataset.labels.num_classes != 2:
        return False
    counts = [_count(dataset, record) for record in examination.records]
    return only_0_and_255(dataset, [count for count in counts if count is not None])


def _count(dataset: DataSet, record: Record) -> Int64 | None:
    """Return the pixels of each label in a mask, also in one that is repaired; None if its pair is left out."""
    left_out = any(fault.severity == "error" and fault.kind not in REPAIRABLE for fault in record.faults)
    if record.counts is not None or left_out:
        return record.counts
    mask = inspect_mask(dataset, record.sample)
    target = mask.snapped if mask.target is None else mask.target
    return None if target is None else np.bincount(target.ravel(), minlength=256)


def _unpaired_errors(examination: Examination) -> list[Fault]:
    """Return the errors of files that belong to no pair."""
    paired = {path for record in examination.records for path in (record.sample.image, record.label_path)}
    of_pairs = {fault for record in examination.records for fault in record.faults}
    return [
        fault
        for group in examination.groups
        if (group.severity == "error" or group.kind == "skipped-shape") and group.kind not in _OF_FOLDERS
        for fault in group.faults
        if fault.path not in paired and fault not in of_pairs
    ]


def _faults_by_path(examination: Examination) -> dict[Path, list[Fault]]:
    """Return the faults of each file."""
    by_path: dict[Path, list[Fault]] = {}
    for group in examination.groups:
        for fault in group.faults:
            by_path.setdefault(fault.path, []).append(fault)
    return by_path


def _faults_of(record: Record, by_path: dict[Path, list[Fault]]) -> list[Fault]:
    """Return the faults of one sample. Faults of an annotation file are left out: other samples may share it."""
    of_mask = by_path.get(record.sample.target, []) if record.sample.reader is None else []
    return [*record.faults, *by_path.get(record.sample.image, []), *of_mask]


@dataclass
class _Copy:
    """The copy while it is written.

    `names` has (split, name) of each pair, `images` the written image files, and `first` the split and source of each
    image by its digest.
    """

    dataset: DataSet
    folder: Path
    binary: bool
    left_out: list[Fault]
    done: list[str] = field(default_factory=list)
    names: set[tuple[str, str]] = field(default_factory=set)
    images: list[Path] = field(default_factory=list)
    first: dict[bytes, tuple[str, Path]] = field(default_factory=dict)

    def twin(self, record: Record) -> Path | None:
        """Return the image in another split that was copied and is the same file, or None."""
        split, image = self.first.get(record.hash.digest if record.hash else b"", (record.split, None))
        return None if split == record.split else image

    def add(self, record: Record, faults: list[Fault]) -> None:
        """Copy or write the two files and note the changes, or note why they are left out."""
        reason = self._obstacle(record, faults)
        if reason is None:
            reason = self._write_pair(record, {fault.kind for fault in faults})
        if reason is not None:
            self.left_out.append(reason)
            return
        self.names.add((record.split, name_key(_name(record))))
        if record.hash is not None:
            self.first.setdefault(record.hash.digest, (record.split, record.sample.image))

    def _obstacle(self, record: Record, faults: list[Fault]) -> Fault | None:
        """Return the fault because of which a pair is left out, or None."""
        for fault in faults:
            of_other = fault.kind in ("duplicate-stem", "missing-mask", "orphan-mask")
            if fault.severity == "error" and fault.kind not in REPAIRABLE and not of_other:
                return fault
        if (record.split, name_key(_name(record))) in self.names:
            problem = "another image of the split has the same stem"
            fault = Fault("duplicate-stem", record.sample.image, problem, "rename or remove one of them")
            return replace(fault, sample=record.sample.name, split=record.split)
        return None

    def _write_pair(self, record: Record, kinds: set[str]) -> Fault | None:
        """Write mask and image. Return a fault if the mask cannot be repaired."""
        sample = record.sample
        mask = inspect_mask(self.dataset, sample)
        target, changes = mask.target, []
        if target is None:
            target = mask.snapped
            if target is None:
                return mask.faults[0]
            changes.append("pixels set to the nearest class")
        if self.binary and (target == 255).any():
            target = np.where(target == 255, 1, target).astype(np.uint8)
            changes.append("255 written as 1")
        if "exif-rotation" in kinds:
            target = np.ascontiguousarray(_TURNS[read_header(sample.image).orientation](target))
            changes.append("mask turned upright")
        picture = None
        if kinds & {"mixed-channels", "nodata-labelled"}:
            picture = inspect_picture(sample.image, self.dataset.input)
        if picture is not None and picture.empty is not None:
            target = np.where(picture.empty, 255, target).astype(np.uint8)
            changes.append("pixels without data labelled 255")
        path = self.folder / "masks" / record.split / f"{_name(record)}.png"
        if not changes and not self.dataset.remap and sample.reader is None and sample.target.suffix.lower() == ".png":
            copy_file(sample.target, path)
        else:
            write_label_map(path, target, self.dataset.labels)
        if changes:
            self.done.append(f"{sample.target}: {', '.join(changes)}")
        as_rgb = "mixed-channels" in kinds and self.dataset.channels == 3
        self._write_image(record, picture if as_rgb else None)
        return None

    def _write_image(self, record: Record, picture: InspectedPicture | None) -> None:
        """Copy the image, or write `picture` as RGB if it is given."""
        source = record.sample.image
        path = self.folder / "images" / record.split / f"{_name(record)}{source.suffix if picture is None else '.png'}"
        if picture is None:
            copy_file(source, path)
        else:
            write_image(path, picture.rgb)
            self.done.append(f"{source}: written as RGB")
        self.images.append(path)


def _name(record: Record) -> str:
    return name_file(record.sample.name)


def _describe(dataset: DataSet) -> dict[str, Any]:
    """Return the classes for dataset.yaml, with colours if masks may contain colours.

    For two classes, the values are stated, too, so that 255 is ignored in the copy. There, "ignore" is not a class.
    """
    values: dict[str, Any] = {"names": list(dataset.labels.class_names)}
    if dataset.color_masks:
        values["palette"] = [list(color) for color in dataset.labels.palette]
    elif dataset.labels.num_classes == 2 and IGNORED_VALUE not in dataset.labels.class_names:
        values["values"] = {**dict(enumerate(dataset.labels.class_names)), IGNORE_INDEX: IGNORED_VALUE}
    return values

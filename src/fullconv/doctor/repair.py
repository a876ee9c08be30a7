"""A repaired copy of a data set in the folder layout: all that is safe to repair is, and the rest is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.data.channels import describe_pixels
from fullconv.data.classes import write_description
from fullconv.data.dataset import DataSet
from fullconv.data.splits import SPLITS
from fullconv.doctor.dataset_faults import only_0_and_255
from fullconv.doctor.examine import Examination
from fullconv.doctor.image_check import InspectedPicture, inspect_picture
from fullconv.doctor.masks import read_mask
from fullconv.doctor.record import Record
from fullconv.errors import DataError, UsageError
from fullconv.faults import REPAIRABLE, UNREPAIRABLE, Fault
from fullconv.files import atomic_folder, copy_file
from fullconv.images import read_header, write_image, write_label_map

__all__ = ["Repair", "check_target", "repair"]

UInt8 = npt.NDArray[np.uint8]

_OF_FOLDERS = frozenset({"missing-folder", "missing-list", "empty-split", "no-common-stem", "unlabelled-split"})
"""Kinds that say what a folder lacks: no file is left out for them."""

# A mask stored for the image as the camera held it, turned as its EXIF orientation turns the image.
_TURNS: dict[int, Callable[[UInt8], UInt8]] = {
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class Repair:
    """What was done, a line for each pair that was changed, and why files were left out."""

    folder: Path
    pairs: int
    done: tuple[str, ...]
    left_out: tuple[Fault, ...]


def check_target(root: Path, folder: Path) -> None:
    """UsageError for a folder that is not empty, or that lies inside the data or around it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is not empty; name a new folder with --fix DIR")
    inside, outside = folder.resolve(), root.resolve()
    if outside == inside or outside in inside.parents:
        raise UsageError(f"{folder}: lies inside the data, which is never changed; name a folder elsewhere")


def repair(found: Examination, folder: Path, on_sample: Callable[[int, int], None] | None = None) -> Repair:
    """Write the pairs of an examination to `folder`, as images/SPLIT, masks/SPLIT and dataset.yaml.

    Untouched files are copied byte by byte, and the source is only read. Masks of 0 and 255 become 0 and 1; smoothed
    and JPEG masks snap to the nearest class where that is clear; a mask beside an image turned by EXIF is turned; of
    images with more channels than the data set has the first three are kept; pixels without data become 255; the same
    file in two splits stays in the first, unless the other would lose its last pair. `folder` is whole or not there.
    Raises UsageError as `check_target`, DataError where nothing can be kept.
    """
    check_target(found.root, folder)
    unsure = [fault for group in found.groups if group.kind in UNREPAIRABLE for fault in group.faults]
    if found.dataset is None or unsure:
        message = f"{found.root}: which pixel is of which class is not known; correct that by hand first"
        raise DataError(message, unsure)
    records = sorted(found.records, key=lambda record: SPLITS.index(record.split))
    by_path, twins = _by_path(found), []
    with atomic_folder(folder) as place:
        copy = _Copy(found.dataset, place, _is_binary(found), _left_out(found))
        for index, record in enumerate(records):
            if copy.twin(record) is None:
                copy.add(record, _own(record, by_path))
            else:
                twins.append(record)
            if on_sample is not None:
                on_sample(index + 1, len(records))
        for record in twins:
            if any(split == record.split for split, _ in copy.names):
                problem = f"is in split {record.split!r}, and the same file is {copy.twin(record)}"
                fault = Fault("in-two-splits", record.sample.image, problem, "the first one is kept")
                copy.left_out.append(replace(fault, sample=record.sample.name, split=record.split))
            else:
                copy.add(record, _own(record, by_path))
        if not copy.images:
            raise DataError(f"{found.root}: no pair can be kept", copy.left_out)
        write_description(place, _names(found.dataset) | describe_pixels(found.dataset, copy.images))
    return Repair(folder, len(copy.images), tuple(copy.done), tuple(copy.left_out))


def _is_binary(found: Examination) -> bool:
    """Whether 255 stands for the second of two classes: no usable mask holds another above 0."""
    assert found.dataset is not None
    usable = [record for record in found.records if record.counts is not None]
    return found.dataset.labels.num_classes == 2 and (not usable or only_0_and_255(usable))


def _left_out(found: Examination) -> list[Fault]:
    """The errors of files that are in no pair."""
    paired = {path for record in found.records for path in (record.sample.image, record.place)}
    of_pairs = {fault for record in found.records for fault in record.faults}
    return [
        fault
        for group in found.groups
        if group.severity == "error" and group.kind not in _OF_FOLDERS
        for fault in group.faults
        if fault.path not in paired and fault not in of_pairs
    ]


def _by_path(found: Examination) -> dict[Path, list[Fault]]:
    """The faults of each file."""
    by_path: dict[Path, list[Fault]] = {}
    for group in found.groups:
        for fault in group.faults:
            by_path.setdefault(fault.path, []).append(fault)
    return by_path


def _own(record: Record, by_path: dict[Path, list[Fault]]) -> list[Fault]:
    """The faults of one sample; its annotations may be in a file with those of others."""
    of_mask = by_path.get(record.sample.target, []) if record.sample.reader is None else []
    return [*record.faults, *by_path.get(record.sample.image, []), *of_mask]


@dataclass
class _Copy:
    """The copy as it grows: what was written, and what was done and left out on the way.

    `names` are of (split, name), `images` the files written, `first` the split and source of each by its digest.
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
        """The image of another split that was copied and is the same file."""
        split, image = self.first.get(record.look.digest if record.look else b"", (record.split, None))
        return None if split == record.split else image

    def add(self, record: Record, own: list[Fault]) -> None:
        """Copy or write the two files and say what was changed, or why they are left out."""
        reason = self._reason(record, own)
        if reason is None:
            reason = self._write_pair(record, {fault.kind for fault in own})
        if reason is not None:
            self.left_out.append(reason)
            return
        self.names.add((record.split, _name(record)))
        if record.look is not None:
            self.first.setdefault(record.look.digest, (record.split, record.sample.image))

    def _reason(self, record: Record, own: list[Fault]) -> Fault | None:
        """Why a pair is left out; None where it is not."""
        for fault in own:
            of_other = fault.kind in ("duplicate-stem", "missing-mask", "orphan-mask")
            if fault.severity == "error" and fault.kind not in REPAIRABLE and not of_other:
                return fault
        if (record.split, _name(record)) in self.names:
            problem = "another image of the split has its stem"
            fault = Fault("duplicate-stem", record.sample.image, problem, "rename or remove one")
            return replace(fault, sample=record.sample.name, split=record.split)
        return None

    def _write_pair(self, record: Record, kinds: set[str]) -> Fault | None:
        """The reason where the mask cannot be repaired."""
        sample = record.sample
        mask = read_mask(self.dataset, sample)
        target, what = mask.target, []
        if target is None:
            target = mask.snapped
            if target is None:
                return mask.faults[0]
            what.append("labels snapped to the nearest class")
        if self.binary and (target == 255).any():
            target = np.where(target == 255, 1, target).astype(np.uint8)
            what.append("255 written as 1")
        if "exif-rotation" in kinds:
            target = np.ascontiguousarray(_TURNS[read_header(sample.image).orientation](target))
            what.append("mask turned upright")
        picture = None
        if kinds & {"mixed-channels", "nodata-labelled"}:
            picture = inspect_picture(sample.image, self.dataset.input)
        if picture is not None and picture.empty is not None:
            target = np.where(picture.empty, 255, target).astype(np.uint8)
            what.append("pixels without data labelled 255")
        place = self.folder / "masks" / record.split / f"{_name(record)}.png"
        if not what and not self.dataset.remap and sample.reader is None and sample.target.suffix.lower() == ".png":
            copy_file(sample.target, place)
        else:
            write_label_map(place, target, self.dataset.labels)
        if what:
            self.done.append(f"{sample.target}: {', '.join(what)}")
        as_rgb = "mixed-channels" in kinds and self.dataset.channels == 3
        self._write_image(record, picture if as_rgb else None)
        return None

    def _write_image(self, record: Record, picture: InspectedPicture | None) -> None:
        """Copied, or where a picture is given written as RGB."""
        source = record.sample.image
        place = self.folder / "images" / record.split / f"{_name(record)}{source.suffix if picture is None else '.png'}"
        if picture is None:
            copy_file(source, place)
        else:
            write_image(place, picture.rgb)
            self.done.append(f"{source}: written as RGB")
        self.images.append(place)


def _name(record: Record) -> str:
    return record.sample.name.replace("/", "_")


def _names(dataset: DataSet) -> dict[str, Any]:
    """The classes as dataset.yaml has them; colours where the masks may be in them."""
    values: dict[str, Any] = {"names": list(dataset.labels.class_names)}
    if dataset.color_masks:
        values["palette"] = [list(color) for color in dataset.labels.palette]
    return values

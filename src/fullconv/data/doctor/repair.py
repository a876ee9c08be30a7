"""A repaired copy of a data set in the folder layout: all that is safe to repair is, and the rest is left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from fullconv.data.dataset import DataSet
from fullconv.data.doctor.examine import Examination
from fullconv.data.doctor.findings import Finding
from fullconv.data.doctor.masks import read_mask
from fullconv.data.doctor.picture import Picture, read_picture
from fullconv.data.doctor.record import Record
from fullconv.data.doctor.whole import only_0_and_255
from fullconv.errors import DataError, UsageError
from fullconv.files import atomic_write, write_text
from fullconv.image import image_header, write_image, write_label_map

__all__ = ["Repair", "check_target", "repair"]

UInt8 = npt.NDArray[np.uint8]

MENDED = frozenset({"exif-rotation", "jpeg-mask", "antialiased", "mixed-channels", "nodata-labelled", "mask-0-255"})
"""Errors and warnings of single files that are repaired; other errors leave the pair out, other warnings do not."""

BY_HAND = frozenset({"class-names", "grey-levels", "only-background"})
"""Errors after which no label is sure."""

# A mask stored for the image as the camera held it, turned as its EXIF orientation turns the image.
_TURNS: dict[int, Callable[[UInt8], UInt8]] = {
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class Repair:
    """What was done, a line for each pair that was changed, and for each file left out with the reason."""

    folder: Path
    pairs: int
    done: tuple[str, ...]
    left_out: tuple[str, ...]


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
    images with more channels the first three are kept; pixels without data become 255; an image of two splits stays
    in the first. Raises UsageError as `check_target`, DataError where nothing can be kept.
    """
    check_target(found.root, folder)
    unsure = [str(finding) for group in found.groups if group.kind in BY_HAND for finding in group.findings]
    if found.dataset is None or unsure:
        raise DataError(f"{found.root}: which pixel is of which class is not known; correct that by hand first", unsure)
    done: list[str] = []
    left_out = [str(finding) for group in found.groups for finding in group.findings
                if group.kind in ("missing-mask", "orphan-mask", "duplicate-stem", "layout")]  # fmt: skip
    by_path = _by_path(found)
    names: set[tuple[str, str]] = set()
    binary, pairs = _is_binary(found), 0
    for index, record in enumerate(found.records):
        own = by_path.get(record.sample.image, []) + by_path.get(record.sample.target, [])
        reason = _reason(record, own, names)
        if reason is None:
            reason = _write_pair(found.dataset, record, {finding.kind for finding in own}, binary, folder, done)
        if reason is None:
            pairs += 1
            names.add((record.split, record.sample.name))
        else:
            left_out.append(reason)
        if on_sample is not None:
            on_sample(index + 1, len(found.records))
    if not pairs:
        raise DataError(f"{found.root}: no pair can be kept", left_out)
    _write_names(found.dataset, folder)
    return Repair(folder, pairs, tuple(done), tuple(left_out))


def _is_binary(found: Examination) -> bool:
    """Whether 255 stands for the second of two classes: no usable mask holds another above 0."""
    assert found.dataset is not None
    usable = [record for record in found.records if record.counts is not None]
    return found.dataset.labels.num_classes == 2 and (not usable or only_0_and_255(usable))


def _by_path(found: Examination) -> dict[Path, list[Finding]]:
    """The findings of each file."""
    by_path: dict[Path, list[Finding]] = {}
    for group in found.groups:
        for finding in group.findings:
            by_path.setdefault(finding.path, []).append(finding)
    return by_path


def _reason(record: Record, own: list[Finding], names: set[tuple[str, str]]) -> str | None:
    """Why a pair is left out; None where it is not."""
    for finding in own:
        is_twin = finding.kind == "in-two-splits" and record.split != "train"
        is_told = finding.kind in ("duplicate-stem", "missing-mask", "orphan-mask")
        if is_twin or (finding.severity == "error" and finding.kind not in MENDED and not is_told):
            return str(finding)
    if (record.split, record.sample.name) in names:
        return f"{record.sample.image}: another image of the split has its stem"
    return None


def _write_pair(
    dataset: DataSet, record: Record, kinds: set[str], binary: bool, folder: Path, done: list[str]
) -> str | None:
    """Copy or write the two files and say what was changed; the reason where the mask cannot be repaired."""
    sample = record.sample
    mask = read_mask(dataset, sample)
    target, what = mask.target, []
    if target is None:
        target = mask.snapped
        if target is None:
            return str(mask.findings[0])
        what.append("labels snapped to the nearest class")
    if binary and (target == 255).any():
        target = np.where(target == 255, 1, target).astype(np.uint8)
        what.append("255 written as 1")
    picture = read_picture(sample.image) if kinds & {"mixed-channels", "nodata-labelled"} else None
    if "exif-rotation" in kinds:
        target = np.ascontiguousarray(_TURNS[image_header(sample.image)[1]](target))
        what.append("mask turned upright")
    if picture is not None and picture.nodata is not None:
        target = np.where(picture.nodata, 255, target).astype(np.uint8)
        what.append("pixels without data labelled 255")
    _write_image(record, picture if "mixed-channels" in kinds else None, folder, what)
    place = folder / "masks" / record.split / f"{sample.name}.png"
    if not what and not dataset.remap and sample.reader is None and sample.target.suffix.lower() == ".png":
        _copy(sample.target, place)
    else:
        write_label_map(place, target, dataset.labels)
    if what:
        done.append(f"{sample.target}: {', '.join(what)}")
    return None


def _write_image(record: Record, picture: Picture | None, folder: Path, what: list[str]) -> None:
    source = record.sample.image
    place = folder / "images" / record.split / f"{record.sample.name}{source.suffix}"
    if picture is None:
        _copy(source, place)
    else:
        write_image(place.with_name(f"{record.sample.name}.png"), picture.rgb)
        what.append("image written as RGB")


def _copy(source: Path, place: Path) -> None:
    with atomic_write(place) as temporary:
        shutil.copyfile(source, temporary)


def _write_names(dataset: DataSet, folder: Path) -> None:
    labels = dataset.labels
    values: dict[str, object] = {"names": list(labels.class_names)}
    if dataset.color_masks:
        values["palette"] = [list(color) for color in labels.palette]
    write_text(folder / "dataset.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

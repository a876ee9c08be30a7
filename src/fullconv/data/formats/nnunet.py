"""Read nnU-Net's raw data sets of 2-D images: imagesTr, labelsTr and dataset.json."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fullconv.data.annotations.assembly import assemble_masks, class_fault
from fullconv.data.annotations.json_file import parse
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import is_image, normalize_stem
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.images import BAND_SUFFIXES
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["is_nnunet", "read_nnunet"]

DESCRIPTION = "dataset.json"

IGNORED = "ignore"
"""The label of pixels that are not trained on."""

FOLDERS = {"": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}

VOLUMES = (".nii", ".gz", ".nrrd", ".mha", ".b2nd")
"""Suffixes of files that hold volumes."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Description:
    labels: dict[str, Any]


_DESCRIPTION = TypeAdapter(_Description)


def is_nnunet(root: Path) -> bool:
    """Return whether a folder has imagesTr, labelsTr and a dataset.json with labels."""
    if not all((root / folder).is_dir() for folder in FOLDERS[""]):
        return False
    try:
        return b'"labels"' in read_file(root / DESCRIPTION)
    except OSError:
        return False


def read_nnunet(root: Path, faults: list[Fault]) -> DataSet | None:
    """Read the cases of imagesTr, and those of imagesTs if there is labelsTs, as split test.

    Classes are the labels of dataset.json, ordered by value; the label `ignore` is ignored. Returns None, and adds
    faults, if there are no classes or no image that can be read.
    """
    description = parse(root / DESCRIPTION, _DESCRIPTION, faults)
    if description is None:
        return None
    try:
        names, ignored = _read_labels(root / DESCRIPTION, description.labels)
        labels = LabelSet.named(names)
    except DataError as error:
        faults += error.faults or (class_fault(root / DESCRIPTION, error),)
        return None
    notes = [] if ignored is None else [f"label {ignored} ({IGNORED}) is ignored"]
    splits: dict[str, list[Sample]] = {}
    for split, (images, masks) in FOLDERS.items():
        if (root / masks).is_dir() and (root / images).is_dir():
            splits[split] = _read_cases(root / images, root / masks, split, faults)
        elif (root / images).is_dir():
            notes.append(f"{images} is not used, because there is no {masks}")
    if "test" in splits and "" in splits:
        notes.append("imagesTs is the split test")
    for note in notes:
        logger.info(f"{root}: {note}")
    if not any(splits.values()):
        return None
    dataset = assemble_masks("nnunet", root, labels, _divided(splits), faults, "; ".join(notes))
    return dataset if ignored is None else replace(dataset, remap=((ignored, IGNORE_INDEX),))


def _divided(splits: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Return the cases of imagesTr as train if there is a test split; otherwise they have no split."""
    return {split or "train": samples for split, samples in splits.items()} if "test" in splits else splits


def _read_labels(path: Path, labels: dict[str, Any]) -> tuple[list[str], int | None]:
    """Return the class names by value, and the value that is ignored.

    Version 2 maps names to values, version 1 values to names. Raises DataError for regions and for other values than
    0, 1, 2, ...
    """
    if all(key.isdecimal() and isinstance(value, str) for key, value in labels.items()):
        labels = {value: int(key) for key, value in labels.items()}
    regions = [name for name, value in labels.items() if type(value) is not int]
    if regions:
        problem = f"the label {regions[0]!r} is {labels[regions[0]]!r}, a region of several values"
        remedy = 'write one number for each value of the masks, such as "edema": 1'
        raise DataError.of(Fault("class-names", path, problem, remedy))
    ordered = sorted(labels, key=lambda name: int(labels[name]))
    if [labels[name] for name in ordered] != list(range(len(labels))):
        problem = f"the labels are {', '.join(str(labels[name]) for name in ordered[:8])}"
        raise DataError.of(Fault("class-names", path, problem, "they must be 0, 1, 2, ... in the masks and here"))
    ignored = labels.get(IGNORED)
    return [name for name in ordered if name != IGNORED], ignored


def _read_cases(images: Path, masks: Path, split: str, faults: list[Fault]) -> list[Sample]:
    channels = _list_channels(images)
    targets = {normalize_stem(path.stem): path for path in sorted(masks.iterdir()) if is_image(path)}
    if not channels:
        volumes = [path for path in sorted(images.iterdir()) if path.suffix in VOLUMES]
        kind, problem = "empty-split", "contains no image"
        if volumes:
            kind, problem = "unsupported-format", f"contains volumes, such as {volumes[0].name}, and no 2-D images"
        faults.append(Fault(kind, images, problem, "save the slices as PNG or TIFF", split=split or None))
        return []
    several = {case: files for case, files in channels.items() if len(files) > 1}
    if several:
        case, files = next(iter(several.items()))
        problem = (
            f"{len(several)} of {len(channels)} cases have several files of channels "
            f"({', '.join(path.name for path in files[:3])}), and an image is read from one file"
        )
        remedy = (
            "stack them, for example: gdal_merge.py -separate -o "
            f"{case}.tif {' '.join(path.name for path in files)}; then remove the single files"
        )
        faults.append(Fault("band-count", images, problem, remedy, split=split or None))
        return []
    for case in sorted(channels.keys() - targets.keys()):
        remedy = f"add {masks / case}{channels[case][0].suffix}, or remove the image"
        problem = f"no mask in {masks} has the name of its case"
        faults.append(Fault("missing-mask", channels[case][0], problem, remedy, case, split or None))
    for case in sorted(targets.keys() - channels.keys()):
        problem, remedy = f"no image in {images} has its case", "add the image, or remove the mask"
        faults.append(Fault("orphan-mask", targets[case], problem, remedy, case, split or None))
    return [Sample(case, channels[case][0], targets[case]) for case in sorted(channels) if case in targets]


def _list_channels(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each case in the order of their channels, `case_0000.png`, `case_0001.png`, ..."""
    cases: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if is_image(path, BAND_SUFFIXES):
            match = _CHANNEL.fullmatch(path.stem)
            cases[normalize_stem(match[1] if match else path.stem)].append(path)
    return dict(cases)

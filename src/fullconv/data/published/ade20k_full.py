"""Read the full release of ADE20K: thousands of classes in the colours of `_seg.png`, with names in JSON files."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import UInt8
from fullconv.data.classes import describe_line, find_labels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import check_sizes
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.images import read_image
from fullconv.labels import IGNORE_INDEX, LabelSet, fold_name

__all__ = ["is_full_ade20k", "read_full_ade20k"]

FOLDERS = {"train": "training", "val": "validation"}

MASK_END = "_seg.png"

MOST_CLASSES = 255

LARGEST = 255 // 10 * 256 + 255
"""The largest number that a mask can store."""

UNNAMED = 256
"""What the table of a mask's numbers holds for those that no JSON file names."""


def is_full_ade20k(root: Path) -> bool:
    """Return whether `root` has images with `_seg.png` in the folders of the full release, of 2021 or of 2016."""
    folder = _images(root) / "training"
    return folder.is_dir() and next(folder.rglob(f"ADE_train_*{MASK_END}"), None) is not None


def _images(root: Path) -> Path:
    nested = root / "images" / "ADE"
    return nested if nested.is_dir() else root / "images"


def read_full_ade20k(root: Path, faults: list[Fault]) -> DataSet | None:
    """Read `images/ADE/{training,validation}`; the parts of objects (`_parts_1.png`) are not read.

    The number of a class is R // 10 * 256 + G. Its name is in the JSON file next to the image. Names in dataset.yaml or
    classes.txt choose the classes, and all others are ignored; without them, all classes are read if there are at most
    255. Pixels without an object are ignored. Source: the readme of the release of 2021.
    """
    masks = {split: sorted((_images(root) / folder).rglob(f"*{MASK_END}")) for split, folder in FOLDERS.items()}
    names: dict[int, str] = {}
    for mask in (path for paths in masks.values() for path in paths):
        try:
            names |= _read_names(_stem(mask, ".json"))
        except DataError as error:
            faults += error.faults_at(mask)
    try:
        chosen = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
        return None
    labels = _choose(root, names, None if chosen is None else chosen[0], faults)
    if labels is None:
        return None
    table = np.full(LARGEST + 1, UNNAMED if chosen is None else IGNORE_INDEX, np.int64)
    ids = {fold_name(name): index for index, name in enumerate(labels.class_names)}
    for number, name in names.items():
        table[number] = ids.get(fold_name(name), IGNORE_INDEX)
    table[0] = IGNORE_INDEX
    splits = {split: check_sizes(_samples(paths, table), faults, split) for split, paths in masks.items() if paths}
    about = (
        f"{labels.num_classes} of the {len({fold_name(name) for name in names.values()})} classes; all else is ignored"
    )
    return DataSet("ade20k", root, labels, splits, about=about, class_keys=("names", "palette"))


def _stem(mask: Path, suffix: str) -> Path:
    return mask.with_name(mask.name.removesuffix(MASK_END) + suffix)


def _samples(masks: list[Path], table: npt.NDArray[np.int64]) -> list[Sample]:
    samples = [Sample(_stem(mask, "").name, _stem(mask, ".jpg"), mask) for mask in masks]
    return [replace(sample, reader=partial(_read_classes, sample.target, table)) for sample in samples]


def _read_names(path: Path) -> dict[int, str]:
    """Return the first name of each object in the image, by its number; parts of objects are left out."""
    try:
        document: Any = json.loads(read_file(path).decode("utf-8", "replace"))
        objects = [item for item in document["annotation"]["object"] if not _is_part(item)]
        return {int(item["name_ndx"]): str(item["name"]).partition(",")[0].strip() for item in objects}
    except OSError:
        problem = "does not exist, but it names the classes of its mask"
    except (ValueError, KeyError, TypeError, RecursionError):
        problem = "is not a file of ADE20K's release of 2021"
    remedy = "unpack the release of 2021 completely, or use ADEChallengeData2016, which has 150 classes"
    raise DataError.of(Fault("class-names", path, problem, remedy))


def _is_part(item: dict[str, Any]) -> bool:
    return int((item.get("parts") or {}).get("part_level") or 0) > 0


def _choose(root: Path, names: dict[int, str], chosen: LabelSet | None, faults: list[Fault]) -> LabelSet | None:
    known = {fold_name(names[number]): names[number] for number in sorted(names, reverse=True)}
    if chosen is not None:
        unknown = [name for name in chosen.class_names if fold_name(name) not in known]
        if unknown:
            problem = f"no object is called {', '.join(unknown[:6])}"
            faults.append(Fault("class-names", root, problem, "correct the names in dataset.yaml"))
        return chosen if not unknown else None
    if not names:
        return None
    if len(known) > MOST_CLASSES:
        some = list(known.values())[:3]
        problem = f"has {len(known)} classes, but a network can learn at most {MOST_CLASSES}"
        line = describe_line("names", some)
        remedy = f"write those to learn into dataset.yaml, such as {line}; all others are then ignored"
        faults.append(Fault("class-names", root, problem, remedy))
        return None
    ordered = dict.fromkeys(known[fold_name(names[number])] for number in sorted(names))
    return LabelSet.named(list(ordered))


def _read_classes(path: Path, table: npt.NDArray[np.int64]) -> UInt8:
    rgb = read_image(path).pixels.astype(np.int64)
    numbers = rgb[..., 0] // 10 * 256 + rgb[..., 1]
    ids = table[numbers]
    if (ids == UNNAMED).any():
        number = int(numbers[ids == UNNAMED].min())
        problem = f"has objects of the number {number}, which no JSON file names"
        raise DataError.of(Fault("unknown-label", path, problem, "unpack the release of 2021 completely"))
    labels: UInt8 = ids.astype(np.uint8)
    return labels

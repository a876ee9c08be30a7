"""CVAT's "segmentation mask" and VOC's folders with classes of one's own: masks in colours, or of class ids."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.data.classes import find_labels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.formats.assembly import class_fault
from fullconv.data.pairing import check_sizes, is_image
from fullconv.data.splits import SPLITS, split_by_hash, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES, read_image, read_label_map
from fullconv.images.decoders.npy import ARRAY_SUFFIX
from fullconv.labels import LabelSet

__all__ = ["IMAGES", "LABEL_MAP", "LISTS", "MASKS", "has_own_classes", "read_cvat"]

LABEL_MAP = "labelmap.txt"
IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
CLASS_FILES = (LABEL_MAP, "classes.txt", "dataset.yaml")

Color = tuple[int, int, int]


def has_own_classes(root: Path) -> bool:
    """Whether `root` has VOC's masks, and a file that names their classes."""
    return (root / MASKS).is_dir() and any((root / name).is_file() for name in CLASS_FILES)


def read_cvat(root: Path, faults: list[Fault]) -> DataSet | None:
    """The data set of `JPEGImages`, `SegmentationClass` and the lists in `ImageSets/Segmentation`.

    With `LABEL_MAP`, classes are its lines, and masks have their colours; white is ignored. With `classes.txt` or
    `dataset.yaml`, masks are as in the folder layout. Lists that are named after a split make it; without any, those
    that there are, or else all masks, are divided by a hash. Returns None, with faults, where there are no classes.
    """
    drawn, named = None, None
    try:
        if (root / LABEL_MAP).is_file():
            drawn = _label_map(root / LABEL_MAP)
        else:
            named = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
    labels, color_masks = (drawn, False) if drawn is not None else named or (None, False)
    if labels is None:
        return None
    masks = _by_name(root / MASKS)
    images = _by_name(root / IMAGES, BAND_SUFFIXES)
    if not images:
        remedy = "export again with the images, or put them here"
        faults.append(Fault("missing-image", root / IMAGES, "has no image", remedy))
        return None
    lists = sorted((root / LISTS).glob("*.txt"))
    splits: dict[str, tuple[Sample, ...]] = {}
    for split in SPLITS:
        of_split = [path for path in lists if split_of(path.stem) == split]
        if of_split:
            names = [name for path in of_split for name in _listed(path)]
            splits[split] = _samples(root, names, images, masks, drawn, faults, split)
    about = ""
    if not splits:
        names = list(dict.fromkeys(name for path in lists for name in _listed(path))) or sorted(masks)
        splits = split_by_hash(_samples(root, names, images, masks, drawn, faults))
        about = "train and val are divided by a hash of the names"
    layout = "voc" if drawn is None else "cvat"
    return DataSet(layout, root, labels, splits, color_masks=color_masks, about=about)


def _label_map(path: Path) -> LabelSet:
    """The classes of lines of the form `name:r,g,b:parts:actions`."""
    names: list[str] = []
    colors: list[Color] = []
    faults: list[Fault] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("class-names", path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8")
        raise DataError.of(fault) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, color = _entry(line)
        if color is None:
            remedy = "write name:r,g,b:: with numbers of 0 to 255"
            faults.append(Fault("class-names", path, f"line {number} is {line.strip()!r}", remedy))
            continue
        if color in colors:
            problem = f"line {number} has the colour of {names[colors.index(color)]!r}"
            faults.append(Fault("class-names", path, problem, "give each its own"))
        names.append(name)
        colors.append(color)
    if not (faults or names):
        faults.append(Fault("class-names", path, "names no class", "write name:r,g,b:: a line"))
    if faults:
        raise DataError(f"{path}: cannot be used", faults)
    try:
        return LabelSet.named(names, colors)
    except DataError as error:
        raise DataError.of(class_fault(path, error)) from None


def _entry(line: str) -> tuple[str, Color | None]:
    """The name may hold colons, because the three fields behind it do not."""
    name, *fields = line.strip().rsplit(":", 3)
    parts = fields[0].split(",") if len(fields) == 3 else []
    if name and len(parts) == 3 and all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        return name, (int(parts[0]), int(parts[1]), int(parts[2]))
    return name, None


def _by_name(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Images by their path below the folder, without suffix, as lists name them; arrays where there is no other."""
    found = (path for path in folder.rglob("*") if is_image(path, suffixes))
    files = sorted(found, key=lambda path: (path.suffix.lower() != ARRAY_SUFFIX, path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def _listed(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _samples(
    root: Path,
    names: list[str],
    images: dict[str, Path],
    masks: dict[str, Path],
    drawn: LabelSet | None,
    faults: list[Fault],
    split: str = "train",
) -> tuple[Sample, ...]:
    samples = []
    for name in names:
        absent = [folder for folder, files in ((IMAGES, images), (MASKS, masks)) if name not in files]
        if absent:
            problem = f"{name!r} is not in {' or '.join(absent)}"
            remedy = "add the file or remove the line"
            faults.append(Fault("listed-absent", root / LISTS, problem, remedy, name, split))
            continue
        reader = None if drawn is None else partial(_read_mask, masks[name], drawn)
        samples.append(Sample(name, images[name], masks[name], reader))
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        problem = f"{len(twice)} name(s) appear twice in a split, {twice[0]!r} first"
        faults.append(Fault("listed-twice", root / LISTS, problem, "remove one", split=split))
    return check_sizes(samples, faults, split)


def _read_mask(path: Path, labels: LabelSet) -> npt.NDArray[np.uint8]:
    """A mask, H x W uint8: ids if it is grey or its palette is that of the classes, else colours."""
    if _has_ids(path, labels):
        return read_label_map(path)
    rgb = read_image(path).pixels
    try:
        return labels.from_colors(rgb)
    except DataError as error:
        raise DataError.of(Fault("unknown-colour", path, str(error), f"add them to {LABEL_MAP}")) from None


def _has_ids(path: Path, labels: LabelSet) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            palette = image.getpalette() if image.mode == "P" else None
            expected = [value for color in labels.palette for value in color]
            return image.mode not in ("RGB", "RGBA", "P") or (palette or [])[: len(expected)] == expected
    except Exception:  # whatever is wrong with it, the one who reads it says so
        return False

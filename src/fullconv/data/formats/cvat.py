"""Read CVAT's "segmentation mask" and VOC's folders with custom classes: masks in colours, or of class ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from fullconv.arrays import UInt8
from fullconv.data.annotations.image_index import list_images
from fullconv.data.class_tables.label_map import read_label_map_file
from fullconv.data.classes import find_class_keys, find_labels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.formats.folder import label_splits
from fullconv.data.pairing import check_sizes, normalize_stem
from fullconv.data.reading import ReadingOptions
from fullconv.data.splits import SPLITS, UNDIVIDED, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES, read_image, read_label_map
from fullconv.images.decoders.npy import ARRAY_SUFFIX
from fullconv.labels import LabelSet

__all__ = ["IMAGES", "LABEL_MAP", "LISTS", "MASKS", "has_custom_classes", "read_cvat"]

LABEL_MAP = "labelmap.txt"
IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
CLASS_FILES = (LABEL_MAP, "classes.txt")


def has_custom_classes(root: Path) -> bool:
    """Return whether `root` has VOC's masks and a file about their classes."""
    described = any((root / name).is_file() for name in CLASS_FILES) or {*find_class_keys(root)} - {"mask_nodata"}
    return (root / MASKS).is_dir() and bool(described)


def read_cvat(root: Path, options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read `JPEGImages`, `SegmentationClass` and the lists in `ImageSets/Segmentation`.

    If `LABEL_MAP` exists, its lines are the classes and masks have their colours; white is ignored. With
    `classes.txt` or `dataset.yaml`, masks hold class ids or their colours; with `values` or `mask_nodata`, they are as
    in the folder layout. Lists that are named after a split give that split. Without such lists, the names in other
    lists, or all masks, are divided by a hash. Returns None, and adds faults, if there are no classes.
    """
    has_map, keys = (root / LABEL_MAP).is_file(), {*find_class_keys(root)}
    stated = not has_map and (options.mask_nodata is not None or not keys.isdisjoint(("values", "nearest")))
    colored, named = None, None
    try:
        colored = read_label_map_file(root / LABEL_MAP) if has_map else None
        named = None if has_map or stated else find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
    labels, color_masks = (colored, False) if colored is not None else named or (None, False)
    if labels is None and not stated:
        return None
    masks = _index_by_name(root / MASKS)
    images = _index_by_name(root / IMAGES, BAND_SUFFIXES)
    if not images:
        remedy = "export again with the images, or put the images here"
        faults.append(Fault("missing-image", root / IMAGES, "contains no image", remedy))
        return None
    lists = sorted((root / LISTS).glob("*.txt"))
    splits: dict[str, tuple[Sample, ...]] = {}
    for split in SPLITS:
        of_split = [path for path in lists if split_of(path.stem) == split]
        if of_split:
            names = [name for path in of_split for name in _read_list(path)]
            splits[split] = _make_samples(root, names, images, masks, colored, faults, split)
    if not splits:
        names = list(dict.fromkeys(name for path in lists for name in _read_list(path))) or sorted(masks)
        splits = {UNDIVIDED: _make_samples(root, names, images, masks, colored, faults)}
    if labels is None:
        dataset = label_splits(root, splits, options, faults)
        return dataset and replace(dataset, layout="voc")
    splits = {split: check_sizes(samples, faults, split or "train") for split, samples in splits.items()}
    layout, used = ("voc", ("names", "palette")) if colored is None else ("cvat", ())
    return DataSet(layout, root, labels, splits, color_masks=color_masks, class_keys=used)


def _index_by_name(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Return image files by their path in the folder without suffix, as lists name them; arrays come last."""
    files = sorted(list_images(folder, suffixes), key=lambda path: (path.suffix.lower() != ARRAY_SUFFIX, path))
    return {normalize_stem(path.relative_to(folder).with_suffix("").as_posix()): path for path in files}


def _read_list(path: Path) -> list[str]:
    lines = read_file(path).decode("utf-8-sig", "replace").splitlines()
    return [normalize_stem(line.strip()) for line in lines if line.strip()]


def _make_samples(
    root: Path,
    names: list[str],
    images: dict[str, Path],
    masks: dict[str, Path],
    colored: LabelSet | None,
    faults: list[Fault],
    split: str = "train",
) -> tuple[Sample, ...]:
    samples = []
    for name in names:
        absent = [folder for folder, files in ((IMAGES, images), (MASKS, masks)) if name not in files]
        if absent:
            problem = f"{name!r} is not in {' or '.join(absent)}"
            remedy = "add the file, or remove the line"
            faults.append(Fault("listed-absent", root / LISTS, problem, remedy, name, split))
            continue
        reader = None if colored is None else partial(_read_mask, masks[name], colored)
        samples.append(Sample(name, images[name], masks[name], reader))
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        problem = f"{len(repeated)} name(s) are listed more than once in a split, for example {repeated[0]!r}"
        faults.append(Fault("listed-twice", root / LISTS, problem, "list each name once", split=split))
    return tuple(samples)


def _read_mask(path: Path, labels: LabelSet) -> UInt8:
    """Read a mask, H x W uint8: class ids if it is grey or has the palette of the classes, otherwise colours."""
    if _has_ids(path, labels):
        return read_label_map(path)
    rgb = read_image(path).pixels
    try:
        return labels.from_colors(rgb)
    except DataError as error:
        problem = str(error).partition(";")[0]
        raise DataError.of(Fault("unknown-colour", path, problem, f"add the colours to {LABEL_MAP}")) from None


def _has_ids(path: Path, labels: LabelSet) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            palette = image.getpalette() if image.mode == "P" else None
            expected = [value for color in labels.palette for value in color]
            return image.mode not in ("RGB", "RGBA", "P") or (palette or [])[: len(expected)] == expected
    except Exception:  # the reader of the mask reports any damage
        return False

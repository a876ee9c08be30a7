"""The folder layout: `images` and `masks`, each with the folders of splits or with files."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.classes import MASK_KEYS
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.discovery.words import parse_name
from fullconv.data.mask_classes.decide import decide_and_label
from fullconv.data.mask_classes.reader import Pair
from fullconv.data.pairing import is_image, list_folder, normalize_stem, note_json, pair_files
from fullconv.data.reading import ReadingOptions
from fullconv.data.splits import SPLITS, UNDIVIDED
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES
from fullconv.images.decoders.mask_arrays import ARRAY_MASKS

__all__ = ["MASK_SUFFIXES", "is_folder", "label_splits", "read_folder"]

MASK_SUFFIXES = IMAGE_SUFFIXES | ARRAY_MASKS
"""Suffixes, in lower case, of the masks of the folder layout."""


def is_folder(root: Path) -> bool:
    """Return whether `root` has images and masks that this layout pairs, by equal stems in folders of equal names.

    Other names of splits (`training`) and of masks (`a_mask.png`) are left to the discovery of images and masks.
    """
    images, masks = root / "images", root / "masks"
    if not (images.is_dir() and masks.is_dir()):
        return False
    folders = [path.name for path in list_folder(images) if path.is_dir() and path.name[0] != "."]
    others = [name for name in folders if name not in SPLITS]
    if others and all(parse_name(name).split and (masks / name).is_dir() for name in folders):
        return False
    homes = [(images, masks), *((images / name, masks / name) for name in folders)]
    stems = [(_stems(one), _stems(other)) for one, other in homes]
    return not any(one and other for one, other in stems) or any(one & other for one, other in stems)


def _stems(folder: Path) -> set[str]:
    files = list_folder(folder) if folder.is_dir() else ()
    return {normalize_stem(path.stem) for path in files if is_image(path, BAND_SUFFIXES | MASK_SUFFIXES)}


def read_folder(root: Path, options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read pairs from `images` and `masks`; what the masks hold decides their classes, as in other folders."""
    splits = _folder_splits(root / "images", root / "masks", faults)
    return label_splits(root, splits, options, faults, _note_unread(root))


def label_splits(
    root: Path, splits: dict[str, tuple[Sample, ...]], options: ReadingOptions, faults: list[Fault], unread: str = ""
) -> DataSet | None:
    """Return the data set of these pairs; the classes are decided by what the masks hold."""
    pairs = [
        Pair(sample.name, sample.image, (sample.target,), split) for split, found in splits.items() for sample in found
    ]
    notes: list[str] = []
    labelled = decide_and_label(root, pairs, faults, notes, options.mask_nodata)
    if labelled is None:
        return None
    found = {split: labelled.samples.get(split, ()) for split in splits}
    return DataSet(
        "folder",
        root,
        labelled.labels,
        found,
        color_masks=labelled.color_masks,
        about="; ".join(filter(None, (unread, note_json(root, (pair.image for pair in pairs))))),
        inferences=tuple(notes),
        declares=labelled.declares,
        mask_facts=labelled.facts,
        states_ignored=labelled.states_ignored,
        class_keys=MASK_KEYS,
    )


def _note_unread(root: Path) -> str:
    """Say which folders next to images and masks may hold annotations, too, and are not read."""
    others = sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and path.name not in ("images", "masks") and parse_name(path.name).role == "mask"
    )
    return f"not read, next to masks: {', '.join(others)}" if others else ""


def _folder_splits(images: Path, masks: Path, faults: list[Fault]) -> dict[str, tuple[Sample, ...]]:
    folders = sorted(path.name for path in list_folder(images, faults) if path.is_dir() and path.name[0] != ".")
    if not folders:
        return {UNDIVIDED: pair_files(images, masks, faults, mask_suffixes=MASK_SUFFIXES)}
    faults += _unsplit_faults(images, folders)
    for split in SPLITS:
        if (masks / split).is_dir() and split not in folders:
            problem = f"this folder does not exist, but {masks / split} does"
            faults.append(
                Fault("missing-folder", images / split, problem, "create it, or remove the masks", split=split)
            )
    splits = {
        split: pair_files(images / split, masks / split, faults, split, MASK_SUFFIXES)
        for split in SPLITS
        if split in folders and (split != "test" or (masks / split).is_dir())
    }
    if not splits and not faults:
        remedy = "create them, or put the images here directly"
        faults.append(Fault("missing-folder", images, "holds neither train nor val", remedy))
    return splits


def _unsplit_faults(images: Path, folders: list[str]) -> list[Fault]:
    """Return faults for the images and folders that no split holds, although `images` has folders of splits."""
    unknown = [images / name for name in folders if name not in SPLITS]
    faults = [Fault("unknown-split", path, "is not a split", "name it train, val or test") for path in unknown]
    loose = [path for path in sorted(list_folder(images)) if is_image(path, BAND_SUFFIXES)]
    if loose:
        problem = f"{len(loose)} image(s) are in no split, next to the folders {', '.join(folders)}"
        faults.append(Fault("loose-images", loose[0], problem, "move them into images/train or images/val"))
    return faults

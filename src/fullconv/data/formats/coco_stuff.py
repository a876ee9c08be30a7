"""Read the pixel maps of COCO-Stuff: the folder `stuffthingmaps` next to the images of COCO."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.pairing import pair_files
from fullconv.data.splits import split_of
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["coco_stuff_labels", "find_stuff_maps", "read_stuff_maps"]

UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Category ids of COCO that no image shows; they are not classes."""


def coco_stuff_labels() -> LabelSet:
    """Return the 171 classes that images show, ordered by category id.

    Source: Caesar et al., "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018.
    """
    return LabelSet.named([name for _, name in _categories()])


def find_stuff_maps(root: Path) -> dict[str, Path]:
    """Return the folders of pixel maps in `stuffthingmaps`, by split; nothing if there are none."""
    parents = sorted(path for path in root.glob("stuffthingmaps*") if path.is_dir())
    folders = [folder for parent in parents for folder in sorted(parent.iterdir()) if any(folder.glob("*.png"))]
    return {split: folder for folder in folders if (split := split_of(folder.name))}


def read_stuff_maps(root: Path, maps: dict[str, Path], faults: list[Fault]) -> DataSet:
    """Read the maps, whose values are category ids less 1, and 255 where nothing is labelled."""
    splits = {}
    for split, folder in maps.items():
        places = [root / "images" / folder.name, root / folder.name, root / "images" / split, root / split]
        images = next((place for place in places if place.is_dir()), places[0])
        splits[split] = pair_files(images, folder, faults, split)
    ids = {key - 1: index for index, (key, _) in enumerate(_categories())}
    remap = tuple((value, ids.get(value, IGNORE_INDEX)) for value in range(182))
    return DataSet("coco_stuff", root, coco_stuff_labels(), splits, remap=remap, about="unlabelled pixels are ignored")


def _categories() -> list[tuple[int, str]]:
    lines = files("fullconv.data.formats").joinpath("coco_stuff_182.txt").read_text(encoding="utf-8").splitlines()
    return [(key, name) for key, name in enumerate(lines, 1) if key not in UNUSED]

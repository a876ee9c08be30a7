"""Read ADE20K with the 150 classes of the scene parsing benchmark."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.pairing import pair_files
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["ade20k_labels", "read_ade20k"]

FOLDERS = {"train": "training", "val": "validation"}


def ade20k_labels() -> LabelSet:
    """Return the 150 classes, each with its first name in the benchmark's `objectInfo150.txt`.

    Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
    """
    text = files("fullconv.data.published").joinpath("ade20k_150.txt").read_text(encoding="utf-8")
    return LabelSet.named(text.split("\n")[:-1])


def read_ade20k(root: Path, labels: LabelSet, faults: list[Fault]) -> DataSet:
    """Read `images` and `annotations`, each with the folders `training` and `validation`; `labels` names the classes.

    Label 0 in the masks stands for other objects and is ignored. Labels 1 to 150 become the classes 0 to 149.
    """
    splits = {
        split: pair_files(root / "images" / folder, root / "annotations" / folder, faults, split)
        for split, folder in FOLDERS.items()
    }
    remap = ((0, IGNORE_INDEX), *((index + 1, index) for index in range(labels.num_classes)))
    about = "pixels outside the 150 classes are ignored"
    return DataSet("ade20k", root, labels, splits, remap=remap, about=about, class_keys=("names",))

"""Read Cityscapes as its archives unpack, with the nineteen classes of the benchmark."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import check_sizes
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["CITYSCAPES_LABELS", "LABEL_IDS_TO_TRAIN_IDS", "read_cityscapes"]

_CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}

CITYSCAPES_LABELS = LabelSet(tuple(_CLASSES), tuple(color for _, color in _CLASSES.values()))
"""The nineteen classes, ordered by train id. Source: `labels.py` of the Cityscapes scripts."""

LAST_ID = 33

_TRAIN_IDS = {label: index for index, (label, _) in enumerate(_CLASSES.values())}

LABEL_IDS_TO_TRAIN_IDS = tuple((label, _TRAIN_IDS.get(label, IGNORE_INDEX)) for label in range(LAST_ID + 1))
"""Pairs of a label id and its train id; 255 for labels outside the nineteen classes."""

_IMAGE_END = "_leftImg8bit"


def read_cityscapes(root: Path, faults: list[Fault]) -> DataSet:
    """Read the splits `train` and `val` of `leftImg8bit` and `gtFine`; the masks of `test` are empty.

    The masks of label ids are read, and labels outside the nineteen classes are ignored. If there is no mask of label
    ids, the masks of train ids are read.
    """
    kind, about = "labelIds", "labels outside the nineteen classes of the benchmark are ignored"
    if not any((root / "gtFine").glob("*/*/*_gtFine_labelIds.png")):
        kind, about = "labelTrainIds", ""
    splits = {split: _read_split(root, split, kind, faults) for split in ("train", "val")}
    remap = LABEL_IDS_TO_TRAIN_IDS if kind == "labelIds" else ()
    return DataSet("cityscapes", root, CITYSCAPES_LABELS, splits, remap=remap, about=about)


def _read_split(root: Path, split: str, kind: str, faults: list[Fault]) -> tuple[Sample, ...]:
    images = sorted((root / "leftImg8bit" / split).glob(f"*/*{_IMAGE_END}.png"))
    if not images:
        problem, remedy = f"contains no image */*{_IMAGE_END}.png", "unpack leftImg8bit completely"
        faults.append(Fault("empty-split", root / "leftImg8bit" / split, problem, remedy, split=split))
    samples = []
    for image in images:
        name = image.stem.removesuffix(_IMAGE_END)
        mask = root / "gtFine" / split / image.parent.name / f"{name}_gtFine_{kind}.png"
        if mask.is_file():
            samples.append(Sample(name, image, mask))
        else:
            remedy = f"unpack gtFine completely, or create the {kind} masks"
            faults.append(Fault("missing-mask", mask, "does not exist, but its image does", remedy, name, split))
    return check_sizes(samples, faults, split)

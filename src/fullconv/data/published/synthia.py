"""Read SYNTHIA-RAND-CITYSCAPES, whose masks store the class in the first channel of 16 bits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.pairing import pair_files
from fullconv.data.splits import UNDIVIDED
from fullconv.errors import DataError
from fullconv.extras import need
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, Color, LabelSet

__all__ = ["SYNTHIA_LABELS", "is_synthia", "read_synthia"]

_CLASSES: dict[str, Color] = {
    "sky": (70, 130, 180),
    "building": (70, 70, 70),
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "fence": (64, 64, 128),
    "vegetation": (107, 142, 35),
    "pole": (153, 153, 153),
    "car": (0, 0, 142),
    "traffic sign": (220, 220, 0),
    "pedestrian": (220, 20, 60),
    "bicycle": (119, 11, 32),
    "motorcycle": (0, 0, 230),
    "parking slot": (250, 170, 160),
    "road work": (128, 64, 64),
    "traffic light": (250, 170, 30),
    "terrain": (152, 251, 152),
    "rider": (255, 0, 0),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "wall": (102, 102, 156),
    "lane marking": (102, 102, 156),
}

SYNTHIA_LABELS = LabelSet(tuple(_CLASSES), tuple(_CLASSES.values()))
"""The 22 classes with the numbers 1 to 22; 0 is void. Source: the README of SYNTHIA-RAND-CITYSCAPES."""


def is_synthia(root: Path) -> bool:
    """Return whether `root` has the folders of SYNTHIA-RAND-CITYSCAPES, with images in `RGB` itself."""
    return (root / "GT" / "LABELS").is_dir() and any((root / "RGB").glob("*.png"))


def read_synthia(root: Path, faults: list[Fault]) -> DataSet:
    """Read `RGB` and `GT/LABELS`; `GT/COLOR` shows the same, but walls and lane markings share a colour.

    Void is ignored. The second channel numbers the instances.
    """
    need("geo", "rasterio")
    samples = pair_files(root / "RGB", root / "GT" / "LABELS", faults)
    samples = tuple(replace(sample, reader=partial(_read_classes, sample.target)) for sample in samples)
    about = "void is ignored"
    return DataSet("synthia", root, SYNTHIA_LABELS, {UNDIVIDED: samples}, about=about)


def _read_classes(path: Path) -> UInt8:
    from fullconv.images.decoders.gdal import open_gdal

    with open_gdal(path, "PNG") as reader:
        stored = reader.stored(range(reader.size[0]), range(reader.size[1]))[..., 0]
    if stored.max() > SYNTHIA_LABELS.num_classes:
        problem = f"has the class {stored.max()}, but the classes are 1 to {SYNTHIA_LABELS.num_classes}"
        raise DataError.of(Fault("unknown-label", path, problem, "unpack the masks again"))
    return np.where(stored == 0, IGNORE_INDEX, stored.astype(np.int64) - 1).astype(np.uint8)

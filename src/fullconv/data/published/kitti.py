"""Read KITTI's benchmark of semantic segmentation: its label ids are those of Cityscapes."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.pairing import pair_files
from fullconv.data.published.cityscapes import CITYSCAPES_LABELS, LABEL_IDS_TO_TRAIN_IDS
from fullconv.data.splits import UNDIVIDED
from fullconv.faults import Fault

__all__ = ["is_kitti", "read_kitti"]


def is_kitti(root: Path) -> bool:
    """Return whether `root` has KITTI's folders of images and of semantic masks."""
    return all((root / "training" / name).is_dir() for name in ("image_2", "semantic"))


def read_kitti(root: Path, faults: list[Fault]) -> DataSet:
    """Read `training/image_2` and `training/semantic`; `semantic_rgb` and `instance` show the same labels.

    Source: the development kit of the benchmark, which refers to `labels.py` of the Cityscapes scripts.
    """
    samples = pair_files(root / "training" / "image_2", root / "training" / "semantic", faults)
    about = (
        "labels outside the nineteen classes of Cityscapes are ignored; train and val are divided by a hash of names"
    )
    return DataSet("kitti", root, CITYSCAPES_LABELS, {UNDIVIDED: samples}, remap=LABEL_IDS_TO_TRAIN_IDS, about=about)

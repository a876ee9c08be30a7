"""Read MVTec AD and data sets in its form: photos of faultless parts, and of parts with defects and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.held_out import hold_out
from fullconv.data.pairing import check_sizes, is_image
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import image_size, read_image
from fullconv.labels import LabelSet

__all__ = ["find_categories", "read_mvtec"]

GOOD = ("good", "ok", "normal")
"""Names of the folders of parts without defects."""

LABELS = LabelSet.named(["background", "defect"])


def find_categories(root: Path) -> list[Path]:
    """Return the folders with MVTec's structure: `root` itself, or those in it."""
    if _is_category(root):
        return [root]
    return [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "." and _is_category(path)]


def _is_category(folder: Path) -> bool:
    has_good = any((folder / split / name).is_dir() for split in ("train", "test") for name in GOOD)
    return has_good and (folder / "ground_truth").is_dir() and (folder / "test").is_dir()


def read_mvtec(root: Path, categories: list[Path], faults: list[Fault]) -> DataSet:
    """Read `train/good`, `test/good`, `test/DEFECT` and `ground_truth/DEFECT`, of one category or of several.

    The masks have two values, so the classes are background and defect. Images of good parts are background. The images
    of `train` show no defect, so those of `test` are divided: a fifth is val, the others are added to train.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    for category in categories:
        for folder in sorted((category / "train").glob("*")):
            if folder.name in GOOD:
                train += _good_samples(root, folder)
        for folder in sorted((category / "test").glob("*")):
            if folder.name in GOOD:
                test += _good_samples(root, folder)
            elif folder.is_dir():
                test += _defect_samples(root, folder, category / "ground_truth" / folder.name, faults)
    valid = check_sizes(test, faults, "val")
    val = _hold_out(valid)
    divided = {
        "train": tuple(sample for index, sample in enumerate(valid) if index not in val),
        "val": tuple(valid[index] for index in sorted(val)),
    }
    about = (
        f"train has no defects, so {len(divided['val'])} of the {len(valid)} images of test are held out "
        f"by a hash of their names; the others train, with {len(train)} images of good parts as background"
    )
    splits = {"train": (*check_sizes(train, faults), *divided["train"]), "val": divided["val"]}
    return DataSet("mvtec", root, LABELS, splits, about=about)


def _hold_out(samples: Sequence[Sample]) -> set[int]:
    """Return a fifth of the samples by index, with every kind of defect in val and in train."""
    folders = sorted({sample.image.parent for sample in samples})
    shown = np.array([[sample.image.parent == folder for folder in folders] for sample in samples], bool)
    names = [sample.name for sample in samples]
    return set(hold_out(names, shown.reshape(len(names), -1), groups=names).val)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _good_samples(root: Path, folder: Path) -> list[Sample]:
    return [Sample(_name(root, path), path, path, partial(_read_background, path)) for path in _images(folder)]


def _defect_samples(root: Path, folder: Path, masks: Path, faults: list[Fault]) -> list[Sample]:
    by_stem = {path.stem: path for path in _images(masks)}
    samples = []
    for path in _images(folder):
        mask = by_stem.get(f"{path.stem}_mask", by_stem.get(path.stem))
        name = _name(root, path)
        if mask is None:
            remedy = f"add {masks / path.stem}_mask.png, or remove the image"
            faults.append(Fault("missing-mask", path, "no mask has its name", remedy, name, "val"))
        else:
            samples.append(Sample(name, path, mask, partial(_read_defect, mask)))
    return samples


def _read_background(image: Path) -> UInt8:
    return np.zeros(image_size(image), np.uint8)


def _read_defect(path: Path) -> UInt8:
    """Read a mask of two values, 0 and any other, as 0 and 1."""
    pixels = read_image(path).pixels.max(axis=2)
    if len(np.unique(pixels[pixels > 0])) > 1:
        problem = "holds more values than 0 and one other"
        raise DataError.of(Fault("unknown-label", path, problem, "save 0 for the part and 255 for the defect"))
    labels: UInt8 = (pixels > 0).astype(np.uint8)
    return labels

"""Which layout a folder of images and masks has, its samples, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fullconv.data.channels import detect_channels
from fullconv.data.classes import CAMVID_LABELS, check_description, find_labels
from fullconv.data.dataset import DataSet, Sample, distinct_labels
from fullconv.data.formats.assembly import BACKGROUNDS
from fullconv.data.formats.recognise import Recognised, recognise_annotations, recognise_masks
from fullconv.data.formats.voc import find_voc, read_voc
from fullconv.data.pairing import dataset_error, is_image, pair_files
from fullconv.data.splits import SPLITS, split_by_hash
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, read_label_map
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["UNNAMED", "Survey", "find_dataset", "number_classes", "only_background", "survey"]

EXPECTED = (
    "folder: images/{train,val} and masks/{train,val}, or flat images and masks; "
    "classes.txt or dataset.yaml names the classes",
    "CamVid: train, trainannot, val, valannot",
    "VOC: JPEGImages, SegmentationClass, ImageSets/Segmentation/{train,val}.txt, here, in VOC2012 or VOCdevkit/VOC2012",
    "VOC with SBD, the paper's data: benchmark_RELEASE/dataset/{img,cls,train.txt} and VOC2011 or VOC2012",
    "CVAT segmentation mask: labelmap.txt, JPEGImages, SegmentationClass, ImageSets",
    "labelme: images and their JSON files, here or in train and val",
    "COCO: annotations/*.json and images, or train/_annotations.coco.json",
    "Datumaro: annotations/*.json and images",
    "Label Studio: its JSON export and the images",
    "Cityscapes: leftImg8bit/{train,val} and gtFine/{train,val}",
    "ADE20K: images/{training,validation} and annotations/{training,validation}",
)


UNNAMED = LabelSet.named([f"class_{i}" for i in range(255)])
"""Stands in for the classes of a survey that reads no pixels, where no file names them."""


@dataclass(frozen=True)
class Survey:
    """What a folder holds: the data set of all samples that are in order, if any, and every fault."""

    root: Path
    name: str
    dataset: DataSet | None
    faults: tuple[Fault, ...]


def find_dataset(root: Path | str) -> DataSet:
    """Recognise the layout of `root`: one of `EXPECTED`, which docs/formats.md shows.

    Pairs images with masks and compares their sizes by header, so 5,000 samples take seconds; pixels are
    checked by `DataSet.read`. Masks are decoded only where the folder layout needs their labels: all of them
    when no file names the classes, and otherwise up to the first one that holds a class above 0.
    Raises DataError whose `faults` are all that was found.
    """
    found = survey(root)
    if found.dataset is None or found.faults:
        raise dataset_error(found.root, found.name, found.faults)
    return found.dataset


def survey(root: Path | str, decode: bool = True) -> Survey:
    """As `find_dataset`, but with what can be used beside the faults; DataError only where no layout is recognised.

    Without `decode` no mask is: classes that no file names are `UNNAMED`, and faults that need pixels are not found.
    """
    root = Path(root)
    if not root.is_dir():
        what, code = ("is not a folder", "not-a-folder") if root.exists() else ("does not exist", "missing-folder")
        raise DataError(f"{root}: {what}; give the data set's folder", code=code)
    recognised = _recognise(root, decode)
    if recognised is None:
        raise _unknown(root)
    name, build = recognised
    faults: list[Fault] = []
    dataset = build(faults)
    described = dataset.root if dataset is not None else root
    faults += [fault for fault in check_description(described) if fault not in faults]
    if dataset is not None:
        dataset = detect_channels(dataset, faults)
        if dataset.labels.num_classes == 1 and not (faults and dataset.labels.class_names[0] in BACKGROUNDS):
            faults.append(_only_one_name(dataset))
    return Survey(root, name, dataset, tuple(faults))


def _recognise(root: Path, decode: bool = True) -> Recognised | None:
    """The layout's name, and what reads it: it adds every fault to a list and gives the samples without one."""
    found = recognise_masks(root)
    if found is not None:
        return found
    voc = find_voc(root)
    if voc is not None:
        return voc.name, partial(read_voc, voc)
    if any((root / f"{split}annot").is_dir() for split in SPLITS):
        return "CamVid", partial(_camvid, root)
    if not (root / "images").is_dir() or not (root / "masks").is_dir():
        found = recognise_annotations(root)
    if found is None and (root / "images").is_dir():
        return "folder", partial(_folder, root, decode)
    return found


def _unknown(root: Path) -> DataError:
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    held = ", ".join(entries[:10]) + (f" and {len(entries) - 10} more" if len(entries) > 10 else "")
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and _recognise(path)]
    hint = f" Perhaps you mean {inside[0]}." if inside else ""
    message = f"{root}: is no layout that fullconv knows; it holds {held or 'nothing'}.{hint}"
    return DataError(message, details=EXPECTED, code="unknown-layout")


def _folder(root: Path, decode: bool, faults: list[Fault]) -> DataSet | None:
    named = None
    try:
        named = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
    splits = _folder_splits(root / "images", root / "masks", faults)
    every = [sample for samples in splits.values() for sample in samples]
    labels, color_masks = named or (None, False)
    if not decode:
        labels = labels or UNNAMED
    elif labels is None and not faults:
        labels = _labels_from_masks(root, every, faults)
    elif labels is not None and labels.num_classes > 1 and not faults:
        faults += _only_zero(root, every, labels if color_masks else None)
    return None if labels is None else DataSet("folder", root, labels, splits, color_masks=color_masks)


def _folder_splits(images: Path, masks: Path, faults: list[Fault]) -> dict[str, tuple[Sample, ...]]:
    folders = sorted(path.name for path in images.iterdir() if path.is_dir() and path.name[0] != ".")
    if not folders:
        return split_by_hash(pair_files(images, masks, faults))
    faults += _stray(images, folders)
    splits = {
        split: pair_files(images / split, masks / split, faults, split)
        for split in SPLITS
        if split in folders and (split != "test" or (masks / split).is_dir())
    }
    if not splits and not faults:
        remedy = "create them, or put the images here directly"
        faults.append(Fault("missing-folder", images, "holds neither train nor val", remedy))
    return splits


def _stray(images: Path, folders: list[str]) -> list[Fault]:
    """What would be left out silently because `images` is divided into splits."""
    strange = [images / name for name in folders if name not in SPLITS]
    faults = [Fault("unknown-split", path, "is not a split", "name it train, val or test") for path in strange]
    loose = [path for path in sorted(images.iterdir()) if is_image(path, BAND_SUFFIXES)]
    if loose:
        problem = f"{len(loose)} image(s) lie next to the folders {', '.join(folders)}"
        faults.append(Fault("loose-images", loose[0], problem, "move them into images/train or images/val"))
    return faults


def _camvid(root: Path, faults: list[Fault]) -> DataSet:
    splits = {
        split: pair_files(root / split, root / f"{split}annot", faults, split)
        for split in SPLITS
        if (root / f"{split}annot").is_dir() or (split != "test" and (root / split).is_dir())
    }
    return DataSet("camvid", root, CAMVID_LABELS, splits, remap=((11, IGNORE_INDEX),))


def _labels_from_masks(root: Path, samples: list[Sample], faults: list[Fault]) -> LabelSet | None:
    """`class_0`, `class_1`, ... up to the largest label in the masks."""
    found: set[int] = set()
    for sample in samples:
        try:
            found.update(distinct_labels(read_label_map(sample.target)))
        except DataError as error:
            faults += error.faults_at(sample.target)
    return None if faults else number_classes(root, found, faults)


def number_classes(root: Path, held: set[int], faults: list[Fault]) -> LabelSet | None:
    """Return `class_0`, `class_1`, ... up to the largest label that the masks hold; None, and a fault, where not."""
    held = held - {IGNORE_INDEX}
    count = max(held, default=-1) + 1
    if count < 2:
        faults.append(only_background(root))
    elif count > 2 * len(held):
        shown = ", ".join(map(str, sorted(held)[:8]))
        problem = f"hold {len(held)} labels ({shown}) of {count} possible, like grey levels rather than class ids"
        remedy = "write the ids 0, 1, 2, ..., or name all classes in classes.txt"
        faults.append(Fault("grey-levels", root / "masks", problem, remedy))
    return LabelSet.named([f"class_{i}" for i in range(count)]) if not faults else None


def _only_zero(root: Path, samples: list[Sample], colors: LabelSet | None) -> Sequence[Fault]:
    """A fault if no mask holds a class above 0; stops at the first one that does, or cannot be read."""
    for sample in samples:
        try:
            if any(0 < label != IGNORE_INDEX for label in distinct_labels(read_label_map(sample.target, colors))):
                return []
        except DataError as error:
            return error.faults_at(sample.target)
    return [only_background(root)]


def _only_one_name(dataset: DataSet) -> Fault:
    problem = f"has one class only, {dataset.labels.class_names[0]!r}"
    return Fault("class-names", dataset.root, problem, "name the background, too, and give its pixels its id")


def only_background(root: Path) -> Fault:
    """Return the fault of a folder whose masks are all background."""
    remedy = "masks of 0 and 255 must be written as 0 and 1, because 255 is ignored"
    return Fault("only-background", root / "masks", "no mask holds a class above 0", remedy)

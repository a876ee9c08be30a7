"""Recognition of the layout of a data set's folder, with its samples and its faults."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fullconv.data.channels import detect_channels
from fullconv.data.classes import CAMVID_LABELS, check_description, find_labels
from fullconv.data.dataset import DataSet, Sample, distinct_labels
from fullconv.data.declared_options import find_options
from fullconv.data.discovery.reader import LAYOUT, find_groups, read_found
from fullconv.data.division import divide
from fullconv.data.formats.assembly import BACKGROUNDS
from fullconv.data.formats.recognise import Recognised, recognise_annotations, recognise_masks
from fullconv.data.formats.voc import find_voc, read_voc
from fullconv.data.pairing import dataset_error, is_image, list_folder, pair_files
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.splits import SPLITS, UNDIVIDED
from fullconv.data.unlabelled import cover_unlabelled
from fullconv.errors import DataError, faults_of
from fullconv.faults import Fault, group_faults
from fullconv.images import BAND_SUFFIXES, read_label_map
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["UNNAMED", "Survey", "find_dataset", "number_classes", "only_background", "survey"]

logger = logging.getLogger(__name__)

EXPECTED = (
    "folder: images/{train,val} and masks/{train,val}, or flat images and masks; "
    "classes.txt or dataset.yaml names the classes",
    "images and masks in folders or files whose names say so, for example image and label, or a.jpg and a_mask.png",
    "CamVid: train, trainannot, val, valannot",
    "VOC: JPEGImages, SegmentationClass, ImageSets/Segmentation/{train,val}.txt, here, in VOC2012 or VOCdevkit/VOC2012",
    "VOC with SBD, the paper's data: benchmark_RELEASE/dataset/{img,cls,train.txt} and VOC2011 or VOC2012",
    "CVAT segmentation mask: labelmap.txt, JPEGImages, SegmentationClass, ImageSets",
    "CVAT for images 1.1: annotations.xml and the images",
    "labelme: images and their JSON files, here or in train and val",
    "COCO: annotations/*.json and images, or train/_annotations.coco.json",
    "Datumaro: annotations/*.json and images",
    "Label Studio: its JSON export and the images",
    "Cityscapes: leftImg8bit/{train,val} and gtFine/{train,val}",
    "ADE20K: images/{training,validation} and annotations/{training,validation}",
)


UNNAMED = LabelSet.named([f"class_{i}" for i in range(255)])
"""Placeholder for the classes if no file names them and no mask has been decoded."""


@dataclass(frozen=True)
class Survey:
    """The result of a survey: the data set of all samples without faults, if there are any, and all faults."""

    root: Path
    name: str
    dataset: DataSet | None
    faults: tuple[Fault, ...]


def find_dataset(root: Path | str, options: ReadingOptions = BY_FILES) -> DataSet:
    """Return the data set in `root`, whose layout must be one of `EXPECTED` (docs/formats.md shows them).

    Images are paired with masks and their sizes compared by header, so 5,000 samples take seconds. `DataSet.read`
    checks the pixels. Masks are decoded only in the folder layout: all of them if no file names the classes, otherwise
    up to the first one with a class above 0. Raises DataError, whose `faults` hold all errors of the data set; warnings
    are logged.
    """
    result = survey(root, options=options)
    errors = [fault for fault in result.faults if fault.severity == "error"]
    if result.dataset is None or errors:
        raise dataset_error(result.root, result.name, errors or result.faults)
    for group in group_faults(result.faults):
        more = f" (and {len(group.faults) - 1} more)" if len(group.faults) > 1 else ""
        logger.warning("%s: %s%s", group.kind, group.faults[0], more)
    return result.dataset


def survey(root: Path | str, decode: bool = True, options: ReadingOptions = BY_FILES) -> Survey:
    """Recognise the layout of `root` as `find_dataset` does, and return the usable samples together with all faults.

    Without `decode`, no mask is decoded: classes that no file names are `UNNAMED`, and faults of pixels are not found.
    Raises DataError only if `root` is not a folder with a known layout.
    """
    root = Path(root)
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root}: is not a folder; give the data set's folder", code="not-a-folder")
        raise DataError(f"{root}: does not exist; give the data set's folder", code="missing-folder")
    faults: list[Fault] = []
    options = find_options(root, options, faults)
    recognised = _recognise(root, decode, options)
    if recognised is None:
        raise _unknown_layout(root)
    name, build = recognised
    dataset = build(faults)
    folder = dataset.root if dataset is not None else root
    faults += [fault for fault in check_description(folder) if fault not in faults]
    if dataset is not None:
        if options.unlabelled is not None:
            dataset = cover_unlabelled(dataset, options.unlabelled)
        dataset = replace(divide(detect_channels(dataset, faults), options), options=options)
        if dataset.labels.num_classes == 1 and not (faults and dataset.labels.class_names[0] in BACKGROUNDS):
            faults.append(_one_class_fault(dataset))
        faults += _inferred_faults(dataset) if options.strict else ()
    return Survey(root, name, dataset, tuple(faults))


def _recognise(root: Path, decode: bool = True, options: ReadingOptions = BY_FILES) -> Recognised | None:
    """Return the layout's name and its reader, which adds faults to a list and returns the samples without faults."""
    if options.images is not None:
        return LAYOUT, partial(read_found, root, find_groups(root, options), options)
    recognised = recognise_masks(root)
    if recognised is not None:
        return recognised
    voc = find_voc(root)
    if voc is not None:
        return voc.name, partial(read_voc, voc)
    if any((root / f"{split}annot").is_dir() for split in SPLITS):
        return "CamVid", partial(_camvid, root)
    folder = "folder", partial(_folder, root, decode)
    has_images = (root / "images").is_dir()
    if has_images and (root / "masks").is_dir():
        return folder
    recognised = recognise_annotations(root)
    if recognised is not None:
        return recognised
    groups = find_groups(root)
    if groups:
        return LAYOUT, partial(read_found, root, groups, options)
    return folder if has_images else None


def _unknown_layout(root: Path) -> DataError:
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    held = ", ".join(entries[:10]) + (f" and {len(entries) - 10} more" if len(entries) > 10 else "")
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and _recognise(path)]
    hint = f" Perhaps you mean {inside[0]}." if inside else ""
    message = f"{root}: has no layout that fullconv knows; it holds {held or 'nothing'}.{hint}"
    return DataError(message, details=EXPECTED, code="unknown-layout")


def _folder(root: Path, decode: bool, faults: list[Fault]) -> DataSet | None:
    named_labels = None
    try:
        named_labels = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
    splits = _folder_splits(root / "images", root / "masks", faults)
    every = [sample for samples in splits.values() for sample in samples]
    labels, color_masks = named_labels or (None, False)
    if not decode:
        labels = labels or UNNAMED
    elif labels is None and not faults:
        labels = _labels_from_masks(root, every, faults)
    elif labels is not None and labels.num_classes > 1 and not faults:
        faults += _background_faults(root, every, labels if color_masks else None)
    return None if labels is None else DataSet("folder", root, labels, splits, color_masks=color_masks)


def _folder_splits(images: Path, masks: Path, faults: list[Fault]) -> dict[str, tuple[Sample, ...]]:
    folders = sorted(path.name for path in list_folder(images, faults) if path.is_dir() and path.name[0] != ".")
    if not folders:
        return {UNDIVIDED: pair_files(images, masks, faults)}
    faults += _unsplit_faults(images, folders)
    for split in SPLITS:
        if (masks / split).is_dir() and split not in folders:
            problem = f"this folder does not exist, but {masks / split} does"
            faults.append(
                Fault("missing-folder", images / split, problem, "create it, or remove the masks", split=split)
            )
    splits = {
        split: pair_files(images / split, masks / split, faults, split)
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
    loose = [path for path in list_folder(images) if is_image(path, BAND_SUFFIXES)]
    if loose:
        problem = f"{len(loose)} image(s) are in no split, next to the folders {', '.join(folders)}"
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
    """Return `class_0`, `class_1`, ... up to the largest label in the masks; decodes all masks."""
    labels: set[int] = set()
    for sample in samples:
        try:
            labels.update(distinct_labels(read_label_map(sample.target)))
        except Exception as error:  # one file never stops the others
            faults += faults_of(sample.target, error)
    return None if faults else number_classes(root, labels, faults)


def number_classes(root: Path, held: set[int], faults: list[Fault]) -> LabelSet | None:
    """Return `class_0`, `class_1`, ... up to the largest label in `held`; None, and a fault, if these look wrong."""
    held = held - {IGNORE_INDEX}
    count = max(held, default=-1) + 1
    if count < 2:
        faults.append(only_background(root))
    elif count > 2 * len(held):
        shown = ", ".join(map(str, sorted(held)[:8]))
        problem = f"have {len(held)} labels ({shown}) of {count} possible, which looks like grey levels, not class ids"
        remedy = "write the ids 0, 1, 2, ..., or name all classes in classes.txt"
        faults.append(Fault("grey-levels", root / "masks", problem, remedy))
    return LabelSet.named([f"class_{i}" for i in range(count)]) if not faults else None


def _background_faults(root: Path, samples: list[Sample], colors: LabelSet | None) -> Sequence[Fault]:
    """Return a fault if no mask has a class above 0; stops at the first mask that has one or cannot be read."""
    for sample in samples:
        try:
            if any(0 < label != IGNORE_INDEX for label in distinct_labels(read_label_map(sample.target, colors))):
                return []
        except Exception as error:
            return faults_of(sample.target, error)
    return [only_background(root)]


def _inferred_faults(dataset: DataSet) -> list[Fault]:
    remedy = "write it into dataset.yaml with `fullconv check DATA --write`, or leave --strict out"
    return [Fault("inferred", dataset.root, f"this is inferred: {text}", remedy) for text in dataset.inferences]


def _one_class_fault(dataset: DataSet) -> Fault:
    problem = f"has only one class, {dataset.labels.class_names[0]!r}"
    return Fault(
        "class-names", dataset.root, problem, "name the background as a class, and write its id into the masks"
    )


def only_background(root: Path) -> Fault:
    """Return the fault of a folder whose masks are all background."""
    remedy = "in masks of 0 and 255, write 1 for 255, because 255 is ignored"
    return Fault("only-background", root / "masks", "no mask has a class above 0", remedy)

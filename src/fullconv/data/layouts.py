"""Recognition of the layout of a data set's folder, with its samples and its faults."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fullconv.data.annotations.assembly import BACKGROUNDS
from fullconv.data.annotations.split_lists import apply_lists, separate_splits
from fullconv.data.archives import is_archive, unpack
from fullconv.data.channels import detect_channels
from fullconv.data.classes import CAMVID_LABELS, check_description, name_published
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.declared_options import find_options, find_unused
from fullconv.data.discovery.reader import LAYOUT, find_groups, read_found
from fullconv.data.division import divide
from fullconv.data.formats.folder import MASK_SUFFIXES, is_folder, label_splits, read_folder
from fullconv.data.formats.partly import is_partly_labelled, read_partly
from fullconv.data.formats.recognise import Recognised, recognise_annotations, recognise_masks, recognise_texts
from fullconv.data.formats.voc import find_voc, read_voc
from fullconv.data.inside import keep_inside
from fullconv.data.pairing import dataset_error, pair_files
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.splits import SPLITS
from fullconv.data.unlabelled import cover_unlabelled
from fullconv.errors import DataError
from fullconv.faults import Fault, group_faults
from fullconv.images import IMAGE_SUFFIXES
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["Survey", "find_dataset", "survey", "usable_dataset"]

logger = logging.getLogger(__name__)

EXPECTED = (
    "folder: images/{train,val} and masks/{train,val}, or flat images and masks; "
    "classes.txt or dataset.yaml names the classes",
    "folder that `fullconv label` writes: images, masks and `partly_labelled: true` in dataset.yaml",
    "images and masks in folders or files whose names say so, for example image and label, or a.jpg and a_mask.png",
    "CamVid: train, trainannot, val, valannot",
    "VOC: JPEGImages, SegmentationClass, ImageSets/Segmentation/{train,val}.txt, here, in VOC2012 or VOCdevkit/VOC2012",
    "VOC with SBD, the paper's data: benchmark_RELEASE/dataset/{img,cls,train.txt} and VOC2011 or VOC2012",
    "CVAT segmentation mask: labelmap.txt, JPEGImages, SegmentationClass, ImageSets",
    "CVAT for images 1.1: annotations.xml and the images",
    "labelme: images and their JSON files, here or in train and val",
    "LabelMe XML: Annotations/*.xml and Images, or XML files next to images",
    "COCO: annotations/*.json and images, or train/_annotations.coco.json",
    "COCO panoptic: annotations/panoptic_*.json, PNG files and images",
    "COCO-Stuff: stuffthingmaps/{train,val}2017 and {train,val}2017",
    "Datumaro: annotations/*.json and images",
    "Label Studio: its JSON export and the images",
    "Supervisely: meta.json, and img and ann in each dataset",
    "YOLO segmentation: data.yaml, images/{train,val} and labels/{train,val}/*.txt, or train/images and train/labels",
    "Cityscapes: leftImg8bit/{train,val} and gtFine/{train,val}",
    "nnU-Net, 2-D: imagesTr, labelsTr and dataset.json",
    "ADE20K: images/{training,validation} and annotations/{training,validation}, or the full release of 2021",
    "KITTI semantic, Mapillary Vistas, SYNTHIA-RAND-CITYSCAPES and MVTec AD, as their archives unpack",
)


@dataclass(frozen=True)
class Survey:
    """The result of a survey: the data set of all samples without faults, if there are any, and all faults."""

    root: Path
    name: str
    dataset: DataSet | None
    faults: tuple[Fault, ...]


def find_dataset(root: Path | str, options: ReadingOptions = BY_FILES) -> DataSet:
    """Return the data set in `root`, whose layout must be one of `EXPECTED` (docs/formats.md shows them).

    Images are paired with masks and their sizes compared by header. `DataSet.read` checks the pixels. Where what the
    masks hold decides the classes, each of them is decoded once; 5,000 samples take seconds. Raises DataError, whose
    `faults` hold all errors of the data set; warnings are logged.
    """
    return usable_dataset(survey(root, options))


def usable_dataset(result: Survey) -> DataSet:
    """Return the data set of a survey and log its warnings. Raises DataError with all errors of the survey."""
    errors = [fault for fault in result.faults if fault.severity == "error"]
    if result.dataset is None or errors:
        raise dataset_error(result.root, result.name, errors or result.faults)
    for group in group_faults(result.faults):
        more = f" (and {len(group.faults) - 1} more)" if len(group.faults) > 1 else ""
        logger.warning("%s: %s%s", group.kind, group.faults[0], more)
    return result.dataset


def survey(root: Path | str, options: ReadingOptions = BY_FILES) -> Survey:
    """Recognise the layout of `root`, a folder or an archive, as `find_dataset` does.

    Return the usable samples together with all faults.

    Raises DataError only if `root` is not a folder with a known layout.
    """
    root = Path(root)
    given = root, options
    if is_archive(root):
        root = unpack(root)
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root}: is not a folder; give the data set's folder", code="not-a-folder")
        raise DataError(f"{root}: does not exist; give the data set's folder", code="missing-folder")
    faults: list[Fault] = []
    options = find_options(root, options, faults)
    recognised = _recognise(root, options)
    if recognised is None:
        raise _unknown_layout(root)
    name, build = recognised
    dataset = build(faults)
    if not options.outside:
        dataset = keep_inside(root, dataset, faults)
    folder = dataset.root if dataset is not None else root
    faults += [fault for fault in check_description(folder) if fault not in faults]
    if dataset is not None:
        faults += find_unused(root, dataset, name, given[1])
        if options.unlabelled is not None:
            dataset = cover_unlabelled(dataset, options.unlabelled)
        dataset = separate_splits(apply_lists(detect_channels(dataset, faults), faults), faults)
        dataset = replace(divide(dataset, options), options=options)
        if dataset.labels.num_classes == 1 and not (faults and dataset.labels.class_names[0] in BACKGROUNDS):
            faults.append(_one_class_fault(dataset))
        faults += _inferred_faults(dataset, *given) if options.strict else ()
    return Survey(root, name, dataset, tuple(faults))


def _recognise(root: Path, options: ReadingOptions = BY_FILES) -> Recognised | None:
    """Return the layout's name and its reader, which adds faults to a list and returns the samples without faults."""
    if options.images is not None:
        return LAYOUT, partial(read_found, root, find_groups(root, options), options)
    if is_partly_labelled(root):
        return "partly labelled folder", partial(read_partly, root, options)
    recognised = recognise_masks(root, options)
    if recognised is not None:
        return recognised
    voc = find_voc(root)
    groups = find_groups(root) if voc is not None and not voc.has_lists else []
    if any(group.masks for group in groups):
        return LAYOUT, partial(read_found, root, groups, options)
    if voc is not None:
        return voc.name, partial(read_voc, voc)
    if any((root / f"{split}annot").is_dir() for split in SPLITS):
        labels = name_published(root, CAMVID_LABELS)
        if labels is None:
            return "folder", partial(_read_annotated_splits, root, options)
        return "CamVid", partial(_camvid, root, labels)
    folder = "folder", partial(read_folder, root, options)
    if is_folder(root):
        return folder
    recognised = recognise_annotations(root)
    if recognised is not None:
        return recognised
    groups = find_groups(root)
    if groups:
        return LAYOUT, partial(read_found, root, groups, options)
    recognised = recognise_texts(root)
    return recognised or (folder if (root / "images").is_dir() else None)


def _unknown_layout(root: Path) -> DataError:
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    held = ", ".join(entries[:10]) + (f" and {len(entries) - 10} more" if len(entries) > 10 else "")
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and _recognise(path)]
    hint = f" Perhaps you mean {inside[0]}." if inside else ""
    message = f"{root}: has no layout that fullconv knows; it holds {held or 'nothing'}.{hint}"
    return DataError(message, details=EXPECTED, code="unknown-layout")


def _camvid(root: Path, labels: LabelSet, faults: list[Fault]) -> DataSet:
    about = "the classes are the eleven of CamVid, and the value 11 is ignored; classes.txt gives others"
    splits = _pair_annotated(root, faults, IMAGE_SUFFIXES)
    remap = ((11, IGNORE_INDEX),)
    return DataSet("camvid", root, labels, splits, remap=remap, about=about, class_keys=("names",))


def _read_annotated_splits(root: Path, options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read the folders of CamVid with classes that a file names."""
    return label_splits(root, _pair_annotated(root, faults, MASK_SUFFIXES), options, faults)


def _pair_annotated(root: Path, faults: list[Fault], suffixes: Collection[str]) -> dict[str, tuple[Sample, ...]]:
    return {
        split: pair_files(root / split, root / f"{split}annot", faults, split, suffixes)
        for split in SPLITS
        if (root / f"{split}annot").is_dir() or (split != "test" and (root / split).is_dir())
    }


def _inferred_faults(dataset: DataSet, given: Path, options: ReadingOptions) -> list[Fault]:
    first, folder = ("unpack it, ", "FOLDER") if is_archive(given) else ("", shlex.quote(str(given)))
    command = f"fullconv check {folder}{replace(options, strict=False).to_arguments()} --write"
    remedy = f"{first}write it into dataset.yaml with `{command}`, or leave --strict out"
    return [Fault("inferred", dataset.root, f"this is inferred: {text}", remedy) for text in dataset.inferences]


def _one_class_fault(dataset: DataSet) -> Fault:
    problem = f"has only one class, {dataset.labels.class_names[0]!r}"
    return Fault(
        "class-names", dataset.root, problem, "name the background as a class, and write its id into the masks"
    )

"""Data sets written in the layouts that other tools read, exactly: reading them gives the same label maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.choices import WrittenLayout
from fullconv.data.channels import describe_pixels
from fullconv.data.classes import write_description
from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.formats import cvat
from fullconv.data.formats.assembly import IGNORED, classes_of
from fullconv.data.formats.coco import UNCOVERED
from fullconv.data.formats.labelme import LABELS_FILE
from fullconv.data.formats.rle import count_runs, pack_counts
from fullconv.data.formats.shapes import fill_rings
from fullconv.data.splits import SPLITS
from fullconv.errors import DataError, UsageError
from fullconv.faults import Fault
from fullconv.files import atomic_folder, copy_file, write_json, write_text
from fullconv.images import image_size, write_label_map
from fullconv.images.polygons import Region, find_regions
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["LAYOUTS", "convert"]

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Item:
    """A sample on its way: the split and name that its files get."""

    split: str
    name: str
    sample: Sample


@dataclass(frozen=True)
class _Writer:
    """A layout: where an image goes, what is written of a target, and what is written at the end of all records.

    `finish` returns what dataset.yaml says of the classes.
    """

    image: Callable[[_Item], Path]
    target: Callable[[Path, _Item, UInt8, LabelSet], Any]
    finish: Callable[[Path, LabelSet, Sequence[tuple[_Item, Any]]], dict[str, Any]]


def convert(
    dataset: DataSet,
    out: Path,
    to: WrittenLayout,
    splits: Sequence[str] = SPLITS,
    on_done: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Write the splits that exist to the folder `out` in the layout `to`; return the number of samples of each.

     Images are copied byte by byte. `find_dataset(out)` gives the same splits,
    class names, images and label maps. All is written beside `out` and gets its name at the end, so `out` is whole or
    not there. `on_done` is called after each sample.

    Raises UsageError if `to` is unknown or `out` is not new or empty, DataError with all samples that cannot be read,
    and FullconvError if something cannot be written.
    """
    if to not in _WRITERS:
        raise UsageError(f"there is no layout {to!r} to write; choose from {', '.join(LAYOUTS)}", code="unknown-layout")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out}: is not an empty folder; name a new one, so that nothing is mixed or lost")
    items = _items(dataset, splits, to)
    _check_names(dataset.labels, to)
    with atomic_folder(out) as folder:
        _write(dataset, items, folder, _WRITERS[to], on_done)
    return {split: sum(item.split == split for item in items) for split in SPLITS if split in splits}


def _items(dataset: DataSet, splits: Sequence[str], to: str) -> list[_Item]:
    """The samples under names without folders; DataError if two write one file or no list can hold one."""
    items = [
        _Item(split, sample.name.replace("/", "_"), sample)
        for split in SPLITS
        if split in splits
        for sample in dataset.splits.get(split, ())
    ]
    if not items:
        dataset.split(splits[0])
    taken: dict[tuple[str, str], Path] = {}
    clashes = []
    for item in items:
        key = "" if to == "voc" else item.split, item.name
        if key in taken:
            clashes.append(
                f"{item.sample.image}: would be written under the same name as {taken[key]}; rename one"
                + (", or choose a layout with a folder for each split" if to == "voc" else "")
            )
        taken.setdefault(key, item.sample.image)
        if to != "folder" and not _is_utf8(_image_name(item)):
            shown = os.fsencode(item.sample.image).decode("utf-8", "backslashreplace")
            clashes.append(f"{shown}: has a name that is not UTF-8, which no list of files can hold; rename it")
    if clashes:
        raise DataError(f"{dataset.root}: cannot be written as {to}", details=clashes, code="file-names")
    return items


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_names(labels: LabelSet, to: str) -> None:
    """DataError for names of classes that would be read as something else."""
    refused = [
        f"the class {name!r} cannot be written as {to}; rename it"
        for name in labels.class_names
        if name == IGNORED
        or (to != "coco" and (name != name.strip() or len(name.splitlines()) != 1))
        or (to == "voc" and name.startswith("#"))
    ]
    if refused:
        raise DataError("these names mean something else in files", details=refused, code="class-names")


def _write(
    dataset: DataSet, items: Sequence[_Item], folder: Path, writer: _Writer, on_done: Callable[[], None] | None
) -> None:
    faults: list[Fault] = []
    records = []
    for item in items:
        try:
            target, size = dataset.read_mask(item.sample), image_size(item.sample.image)
            if target.shape != size:
                raise DataError.of(size_fault(item.sample, size, target.shape))
        except DataError as error:
            faults += error.faults_at(item.sample.target)
        else:
            copy_file(item.sample.image, folder / writer.image(item))
            records.append((item, writer.target(folder, item, target, dataset.labels)))
        if on_done is not None:
            on_done()
    if faults:
        raise DataError(f"{dataset.root}: cannot be converted", faults)
    told = writer.finish(folder, dataset.labels, records)
    told |= describe_pixels(dataset, (item.sample.image for item in items))
    if told:
        write_description(folder, told)


def _image_name(item: _Item) -> str:
    return item.name + item.sample.image.suffix


def _folder_image(item: _Item) -> Path:
    return Path("images", item.split, _image_name(item))


def _folder_target(folder: Path, item: _Item, target: UInt8, labels: LabelSet) -> None:
    write_label_map(folder / "masks" / item.split / f"{item.name}.png", target, labels)


def _folder_finish(folder: Path, labels: LabelSet, records: Sequence[tuple[_Item, Any]]) -> dict[str, Any]:
    return {"names": list(labels.class_names), "palette": [list(color) for color in labels.palette]}


def _voc_image(item: _Item) -> Path:
    return Path(cvat.IMAGES, _image_name(item))


def _voc_target(folder: Path, item: _Item, target: UInt8, labels: LabelSet) -> None:
    write_label_map(folder / cvat.MASKS / f"{item.name}.png", target, labels)


def _voc_finish(folder: Path, labels: LabelSet, records: Sequence[tuple[_Item, Any]]) -> dict[str, Any]:
    for split in SPLITS:
        names = [item.name for item, _ in records if item.split == split]
        if names:
            write_text(folder / cvat.LISTS / f"{split}.txt", "".join(f"{name}\n" for name in names))
    colors = (",".join(map(str, color)) for color in labels.palette)
    lines = [f"{name}:{color}::\n" for name, color in zip(labels.class_names, colors, strict=True)]
    write_text(folder / cvat.LABEL_MAP, "# label:color_rgb:parts:actions\n" + "".join(lines))
    return {}


def _shape_labels(labels: LabelSet) -> tuple[dict[int, str], int]:
    """The names by label, the ignored one too, and what pixels without a shape are when they are read."""
    names = dict(enumerate(labels.class_names)) | {IGNORE_INDEX: IGNORED}
    return names, classes_of(labels.class_names, complete=True).uncovered


def _coco_target(folder: Path, item: _Item, target: UInt8, labels: LabelSet) -> list[dict[str, Any]]:
    """Annotations without image and id: polygons, and for regions with holes runs."""
    _, uncovered = _shape_labels(labels)
    return [_coco_region(region, target.shape) for region in find_regions(target) if region.label != uncovered]


def _coco_region(region: Region, shape: tuple[int, ...]) -> dict[str, Any]:
    outer = region.rings[0]
    (left, top), (right, bottom) = outer.min(0).tolist(), outer.max(0).tolist()
    segmentation: Any = [outer.ravel().tolist()]
    if len(region.rings) > 1:
        mask = np.zeros(shape, bool)
        patch = fill_rings(region.rings, (shape[0], shape[1]))
        mask[top:bottom, left:right] = patch.mask
        segmentation = {"size": list(shape), "counts": pack_counts(count_runs(mask))}
    box = [left, top, right - left, bottom - top]
    found = {"category_id": region.label + 1, "iscrowd": 0, "area": region.pixels, "bbox": box}
    return found | {"segmentation": segmentation}


def _coco_finish(folder: Path, labels: LabelSet, records: Sequence[tuple[_Item, Any]]) -> dict[str, Any]:
    names, uncovered = _shape_labels(labels)
    categories = [{"id": label + 1, "name": name} for label, name in names.items()]
    info = {"description": "pixels without an annotation are " + names[uncovered], UNCOVERED: names[uncovered]}
    for split in SPLITS:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for item, found in records:
            if item.split != split:
                continue
            height, width = image_size(item.sample.image)
            number = len(images) + 1
            images.append({"id": number, "file_name": _image_name(item), "width": width, "height": height})
            annotations += [{"id": len(annotations) + 1 + i, "image_id": number} | one for i, one in enumerate(found)]
        values = {"info": info, "images": images, "categories": categories, "annotations": annotations}
        if images:
            write_json(folder / "annotations" / f"{split}.json", values)
    return {}


def _labelme_image(item: _Item) -> Path:
    return Path(item.split, _image_name(item))


def _labelme_target(folder: Path, item: _Item, target: UInt8, labels: LabelSet) -> None:
    """Outer rings from the largest to the smallest, because labelme has no holes and draws later shapes on top."""
    names, uncovered = _shape_labels(labels)
    shapes = [
        {
            "label": names[region.label],
            "points": region.rings[0].astype(float).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for region in _covering(target, uncovered)
    ]
    values: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    values |= {"imagePath": _image_name(item), "imageData": None}
    values |= {"imageHeight": target.shape[0], "imageWidth": target.shape[1]}
    write_json(folder / item.split / f"{item.name}.json", values)


def _covering(target: UInt8, uncovered: int) -> list[Region]:
    """The regions to draw, outer rings only: those that are `uncovered` where another one's ring covers them."""
    size = (target.shape[0], target.shape[1])
    found = sorted(find_regions(target), key=lambda region: region.filled_area, reverse=True)
    covered = np.zeros(size, bool)
    for region in found:
        if region.label != uncovered and len(region.rings) > 1:
            patch = fill_rings(region.rings[:1], size)
            height, width = patch.mask.shape
            covered[patch.top : patch.top + height, patch.left : patch.left + width] |= patch.mask
    kept = []
    for region in found:
        x, y = region.rings[0][0]  # a ring begins with the upper side of one of its pixels
        if region.label != uncovered or covered[y, x]:
            kept.append(region)
    return kept


def _labelme_finish(folder: Path, labels: LabelSet, records: Sequence[tuple[_Item, Any]]) -> dict[str, Any]:
    write_text(folder / LABELS_FILE, "".join(f"{name}\n" for name in (IGNORED, *labels.class_names)))
    return {}


_WRITERS: dict[WrittenLayout, _Writer] = {
    "folder": _Writer(_folder_image, _folder_target, _folder_finish),
    "voc": _Writer(_voc_image, _voc_target, _voc_finish),
    "coco": _Writer(_folder_image, _coco_target, _coco_finish),
    "labelme": _Writer(_labelme_image, _labelme_target, _labelme_finish),
}

LAYOUTS = tuple(_WRITERS)
"""The words for what `convert` writes."""

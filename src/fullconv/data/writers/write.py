"""Convert a data set to another layout without loss: `find_dataset` reads the same label maps from the result."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fullconv.choices import WrittenLayout
from fullconv.data.annotations.assembly import IGNORED
from fullconv.data.channels import describe_pixels
from fullconv.data.classes import write_description
from fullconv.data.dataset import DataSet, size_fault
from fullconv.data.splits import SPLITS
from fullconv.data.writers.coco import COCO
from fullconv.data.writers.folder import FOLDER
from fullconv.data.writers.labelme import LABELME
from fullconv.data.writers.layout_writer import Item, LayoutWriter
from fullconv.data.writers.names import name_file, name_key
from fullconv.data.writers.voc import VOC
from fullconv.errors import DataError, UsageError, faults_of
from fullconv.faults import Fault
from fullconv.files import atomic_folder, check_new_folder, copy_file
from fullconv.images import image_size
from fullconv.labels import LabelSet, fold_name

__all__ = ["LAYOUTS", "convert"]

LONGEST = 250
"""Bytes of a file name; file systems allow 255."""

logger = logging.getLogger(__name__)

_WRITERS: dict[WrittenLayout, LayoutWriter] = {"folder": FOLDER, "voc": VOC, "coco": COCO, "labelme": LABELME}

LAYOUTS = tuple(_WRITERS)
"""The layouts that `convert` writes."""


def convert(
    dataset: DataSet,
    out: Path,
    to: WrittenLayout,
    splits: Sequence[str] = SPLITS,
    on_done: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Write the existing splits to the folder `out` in the layout `to`, and return the number of samples of each.

    Images are copied byte by byte. `find_dataset(out)` returns the same splits, class names, images and label maps.
    A class with the colour of an earlier one gets an unused one. `out` is written atomically. `on_done` is called after
    each sample.

    Raises UsageError if `to` is unknown, or if `out` is not an empty folder or is inside the data, DataError with a
    fault for every sample that cannot be read, and FullconvError if a file cannot be written.
    """
    if to not in _WRITERS:
        raise UsageError(
            f"cannot write the layout {to!r}; choose from {', '.join(LAYOUTS)}", code="unknown-written-layout"
        )
    check_new_folder(out, dataset.root)
    items = _list_items(dataset, splits, to)
    _check_class_names(dataset.labels, to)
    with atomic_folder(out) as folder:
        _write(dataset, items, folder, _WRITERS[to], on_done)
    return {split: sum(item.split == split for item in items) for split in SPLITS if split in splits}


def _list_items(dataset: DataSet, splits: Sequence[str], to: str) -> list[Item]:
    """Return the samples with names without folders.

    Raises DataError if two samples would be written to one file, or if a list of files cannot contain a name.
    """
    items = [
        Item(split, name_file(sample.name), sample)
        for split in SPLITS
        if split in splits
        for sample in dataset.splits.get(split, ())
    ]
    if not items:
        dataset.split(splits[0])
    images: dict[tuple[str, str], Path] = {}
    problems = []
    for item in items:
        key = "" if to == "voc" else item.split, name_key(item.name)
        if key in images:
            problems.append(
                f"{item.sample.image}: would be written under the same name as {images[key]}; rename one"
                + (", or choose a layout with a folder for each split" if to == "voc" else "")
            )
        images.setdefault(key, item.sample.image)
        if len(os.fsencode(item.image_name)) > LONGEST:
            problems.append(f"{item.sample.image}: its name has more than {LONGEST} bytes; rename it")
        if to != "folder" and not _is_utf8(item.image_name):
            shown = os.fsencode(item.sample.image).decode("utf-8", "backslashreplace")
            problems.append(f"{shown}: has a name that is not UTF-8, which {to} cannot store; rename it")
    if problems:
        raise DataError(f"{dataset.root}: cannot be written as {to}", details=problems, code="file-names")
    renamed = [item for item in items if item.name != item.sample.name.replace("/", "_")]
    if renamed:
        first = f"{renamed[0].sample.name!r} is {renamed[0].name!r}"
        logger.info("%d name(s) are not valid on every system and are changed, first: %s", len(renamed), first)
    return items


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_class_names(labels: LabelSet, to: str) -> None:
    """Raise DataError for class names that would be read back as something else."""
    folded = [fold_name(name) for name in labels.class_names]
    repeated = {name for name in folded if folded.count(name) > 1}
    problems = [
        f"the class {name!r} cannot be written as {to}; rename it"
        for name in labels.class_names
        if name == IGNORED
        or (to != "coco" and (name != name.strip() or len(name.splitlines()) != 1))
        or (to == "voc" and name.startswith("#"))
        or (to in ("coco", "labelme") and fold_name(name) in repeated)  # which are one class there
    ]
    if problems:
        raise DataError(f"some class names have another meaning in {to}", details=problems, code="class-names")


def _write(
    dataset: DataSet, items: Sequence[Item], folder: Path, writer: LayoutWriter, on_done: Callable[[], None] | None
) -> None:
    labels = dataset.labels.with_distinct_colors()  # readers refuse classes of one colour
    faults: list[Fault] = []
    records = []
    for item in items:
        try:
            target, size = dataset.read_mask(item.sample), image_size(item.sample.image)
            if target.shape != size:
                raise DataError.of(size_fault(item.sample, size, target.shape))
        except Exception as error:  # one file never stops the others
            faults += faults_of(item.sample.target, error)
        else:
            copy_file(item.sample.image, folder / writer.image_path(item))
            records.append((item, writer.write_target(folder, item, target, labels)))
        if on_done is not None:
            on_done()
    if faults:
        raise DataError(f"{dataset.root}: cannot be converted", faults)
    description = writer.finish(folder, labels, records)
    description |= describe_pixels(dataset, (item.sample.image for item in items))
    if description:
        write_description(folder, description)

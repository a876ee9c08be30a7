"""Read COCO: one JSON file for each split, with polygons or run lengths."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter

from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import (
    IGNORED,
    assemble,
    class_fault,
    classes_of,
    pair_coordinates,
    shape_fault,
)
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.json_file import BadEntry, parse_entries, skipped_entry
from fullconv.data.annotations.rle import Runs
from fullconv.data.annotations.shapes import Rasterizer, Size, fill_each
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.dataset import DataSet
from fullconv.data.splits import SPLITS, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["UNCOVERED", "choose_files", "find_image", "image_folders", "name_of", "read_coco"]

UNCOVERED = "uncovered"
"""The key of `info` that names the class of pixels without an annotation; `IGNORED` if they are ignored."""


STUFF_OTHER = (183, "other")
"""The category of COCO's stuff for the pixels of things. Pixels without it and without stuff are not labelled."""


@dataclass(frozen=True)
class _Image:
    id: int | str
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class _Category:
    id: int
    name: str
    supercategory: str | None = None


@dataclass(frozen=True)
class _Annotation:
    image_id: int | str
    category_id: int
    id: int | str | None = None
    segmentation: list[list[FiniteFloat]] | Runs | None = None


@dataclass(frozen=True)
class _File:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    info: dict[str, Any] | list[Any] | None = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether pixels without annotation are ignored: `info` says so, or the file is COCO's stuff."""
        is_stuff = any((category.id, category.name) == STUFF_OTHER for category in self.categories)
        return is_stuff or (isinstance(self.info, dict) and self.info.get(UNCOVERED) == IGNORED)


_FILE = TypeAdapter(_File)


@dataclass(frozen=True)
class _Source:
    """A file, without the entries that do not follow the schema; `left_out` are the ids of their images."""

    path: Path
    content: _File
    left_out: frozenset[int | str]


def read_coco(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read COCO files; the name of a file, or of its folder, gives its split.

    Classes are the categories, ordered by id. Annotations of fewer pixels are painted over those of more; crowds are
    treated alike. Returns None, and adds faults, if there are no classes.
    """
    parsed: dict[str, _Source] = {}
    for split, path in choose_files(root, files, faults).items():
        read = parse_entries(path, _FILE, ("annotations", "images"), faults)
        if read is not None:
            content, bad = read
            left_out = frozenset(key for entry in bad for key in _leave_out(path, split, content, entry, faults))
            parsed[split] = _Source(path, content, left_out)
    categories = _read_categories(parsed.values(), faults)
    if not categories:
        if parsed:
            remedy = "export them with the names of the classes"
            faults.append(Fault("class-names", root, "the annotations contain no categories", remedy))
        return None
    try:
        classes = classes_of(list(categories.values()), all(source.content.complete for source in parsed.values()))
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    index = ImageIndex(root)
    splits = {split: _read_images(index, split, source, categories, faults) for split, source in parsed.items()}
    index.log()
    about = "of annotations that overlap, the one of fewer pixels is on top"
    return assemble("coco", root, splits, classes, faults, about, by_area=True)


def _leave_out(path: Path, split: str, content: _File, bad: BadEntry, faults: list[Fault]) -> list[int | str]:
    """Return the id of the image of an entry that was dropped, and add a warning; an error if it has no image."""
    value = bad.value.get("id" if bad.name == "images" else "image_id") if isinstance(bad.value, dict) else None
    names = {image.id: _name(image) for image in content.images}
    if not isinstance(value, int | str) or (bad.name == "annotations" and value not in names):
        remedy = "export the annotations again"
        faults.append(Fault("invalid-annotations", path, bad.problem, remedy, split=split or None))
        return []
    faults.append(skipped_entry(path, bad, names.get(value), split or None))
    return [value]


def choose_files(root: Path, files: Sequence[Path], faults: list[Fault]) -> dict[str, Path]:
    """Return one file for each split; of several, the one of instances."""
    grouped: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        folder = "" if path.parent == root else path.parent.name
        grouped[split_of(path.stem) or split_of(folder) or ""].append(path)
    chosen = {}
    for split, paths in grouped.items():
        instances = [path for path in paths if path.name.startswith("instances")] or paths
        if len(instances) > 1:
            names = ", ".join(path.name for path in instances[:4])
            what = f"belong to split {split!r}" if split else "name no split"
            problem = f"{len(instances)} files of annotations {what} ({names})"
            free = next((name for name in ("train", "val") if name not in grouped), "")
            stem = instances[1].stem
            new = stem.replace(split, free) if split and split in stem else f"{stem}_{free}"
            renamed = f"rename {instances[1]} to {new}.json, or " if free else ""
            remedy = f"{renamed}remove {' or '.join(str(path) for path in instances[:4])}"
            faults.append(Fault("ambiguous-split", instances[0].parent, problem, remedy, split=split or None))
        chosen[split] = instances[0]
    if "" in chosen and len(chosen) > 1:
        problem = "its name contains no split, but the names of other files do"
        free = next((name for name in SPLITS if name not in chosen), "")
        remedy = f"rename it to {chosen[''].stem}_{free}.json" if free else "remove it"
        faults.append(Fault("ambiguous-split", chosen[""], problem, remedy))
        del chosen[""]
    return chosen


def _read_categories(parsed: Iterable[_Source], faults: list[Fault]) -> dict[int, str]:
    """Return the names by id, ascending, of all files. Categories that only group others are left out."""
    names: dict[int, str] = {}
    groups, used = set(), set()
    for source in parsed:
        for category in source.content.categories:
            if names.setdefault(category.id, category.name) != category.name:
                problem = (
                    f"category {category.id} is {category.name!r} here, but {names[category.id]!r} in another place"
                )
                faults.append(Fault("class-mismatch", source.path, problem, "use one name for each category"))
            if category.supercategory != category.name:
                groups.add(category.supercategory)
        used |= {annotation.category_id for annotation in source.content.annotations}
    return {key: names[key] for key in sorted(names) if key in used or names[key] not in groups}


def _read_images(
    index: ImageIndex, split: str, source: _Source, categories: dict[int, str], faults: list[Fault]
) -> list[AnnotatedImage]:
    path, content = source.path, source.content
    without_area = WithoutArea(path, split or None)
    shapes, incomplete = _read_shapes(without_area, source, categories, faults)
    if len(shapes) < len(content.images):
        problem = f"{len(content.images) - len(shapes)} image(s) repeat the id of another"
        faults.append(Fault("duplicate-image", path, problem, "export it again", split=split or None))
    folders = image_folders(index.root, split, path)
    annotated = []
    for image in content.images:
        files = find_image(index, path, folders, image.file_name)
        if len(files) != 1:
            fault = _image_fault(path, image, folders[0], files)
            faults.append(replace(fault, sample=_name(image), split=split or None))
            continue
        name = _name(image)
        keeps = without_area.keeps(name, len(shapes[image.id]))
        size, complete = (image.height, image.width), image.id not in incomplete and keeps
        annotated.append(AnnotatedImage(name, files[0], path, size, tuple(shapes[image.id]), complete))
    faults += without_area.faults()
    return annotated


def _read_shapes(
    without_area: WithoutArea, source: _Source, categories: dict[int, str], faults: list[Fault]
) -> tuple[dict[int | str, list[tuple[str, Rasterizer]]], set[int | str]]:
    """Return the shapes of each image by its id, and the ids of images with shapes that cannot be used."""
    content = source.content
    shapes: dict[int | str, list[tuple[str, Rasterizer]]] = {image.id: [] for image in content.images}
    images = {image.id: image for image in content.images}
    incomplete: set[int | str] = set(source.left_out)
    path, split = without_area.path, without_area.split
    for number, annotation in enumerate(content.annotations):
        shown = f"annotation {annotation.id if annotation.id is not None else f'number {number}'}"
        image = images.get(annotation.image_id)
        if image is None and annotation.image_id in source.left_out:
            continue
        if image is None:
            problem = f"{shown} belongs to image {annotation.image_id}, which the file does not contain"
            faults.append(Fault("unknown-image", path, problem, "correct it, or export it again", split=split))
        elif annotation.category_id not in categories:
            problem = f"{shown} has category {annotation.category_id}, which no file defines"
            remedy = "correct it, or export it again"
            faults.append(Fault("unknown-class", path, problem, remedy, _name(image), split))
            incomplete.add(image.id)
        elif not annotation.segmentation:
            without_area.add("without segmentation", _name(image), shown)
        else:
            try:
                rasterizer = _make_rasterizer(annotation.segmentation, (image.height, image.width))
                if without_area.covers(rasterizer, _name(image), shown):
                    shapes[image.id].append((categories[annotation.category_id], rasterizer))
            except DataError as error:
                faults.append(shape_fault(path, shown, error, _name(image), split))
                incomplete.add(image.id)
    return shapes, incomplete


def _image_fault(path: Path, image: _Image, folder: Path, files: Sequence[Path]) -> Fault:
    """Return the fault of an image that is not in the data set, or whose name several files have."""
    if files:
        problem = f"its image {image.file_name!r} may be {files[0]} or {files[1]}"
        one, other = (os.path.relpath(file, folder).replace(os.sep, "/") for file in files[:2])
        return Fault("ambiguous-image", path, problem, f"write {one} or {other} as its file_name")
    return Fault("missing-image", path, f"its image {image.file_name!r} is not in {folder}", "put it there")


def _name(image: _Image) -> str:
    return name_of(image.file_name)


def name_of(file_name: str) -> str:
    """Return the sample's name: the path without suffix; the name alone if the path leads out of the data set."""
    path = file_name.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
        path = path.rpartition("/")[2]
    return path.rpartition(".")[0] or path or file_name


def _make_rasterizer(segmentation: list[list[float]] | Runs, size: Size) -> Rasterizer:
    if isinstance(segmentation, Runs):
        return segmentation.rasterizer(size)
    return partial(fill_each, tuple(pair_coordinates(polygon) for polygon in segmentation))


def image_folders(root: Path, split: str, path: Path) -> list[Path]:
    """Return the folders in which the images of an annotation file may be, the most likely first."""
    tag = path.stem.rpartition("_")[2]
    images = root / "images"
    folders = [images / tag, images / split, root / tag, root / split, images, root, path.parent, path.parent.parent]
    if path.parent.name != "annotations":
        folders.insert(0, path.parent)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def find_image(index: ImageIndex, source: Path, folders: Sequence[Path], name: str, reference: str = "") -> list[Path]:
    """Return the file that `source` names in the first of the folders that has it, or those of its name anywhere.

    Files are searched by the name of `reference`, if it is given.
    """
    relative, reference = name.replace("\\", "/"), reference or name
    try:
        found = next((folder / relative for folder in folders if (folder / relative).is_file()), None)
    except (OSError, ValueError):  # no file can have this name
        found = None
    if found is None:
        return index.find_foreign(source, reference)
    return [index.prefer_inside(source, reference, found)]

"""COCO: one JSON file for a split, with polygons, or runs of pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat, TypeAdapter

from fullconv.data.dataset import DataSet
from fullconv.data.formats.assembly import (
    IGNORED,
    AnnotatedImage,
    assemble,
    class_fault,
    classes_of,
    parse,
    shape_fault,
)
from fullconv.data.formats.rle import read_counts, run_area
from fullconv.data.formats.shapes import Area, Size, fill_each
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["UNCOVERED", "Runs", "read_coco"]

UNCOVERED = "uncovered"
"""The key of `info` that says what pixels without an annotation are, if it is `IGNORED` and not the background."""


@dataclass(frozen=True)
class Runs:
    """A mask by run lengths, plain or compressed; `size` is height and width."""

    counts: str | list[int]
    size: tuple[int, int]


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
        return isinstance(self.info, dict) and self.info.get(UNCOVERED) == IGNORED


_FILE = TypeAdapter(_File)


def read_coco(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """The data set of COCO files, each with the split that its name, or its folder's, tells.

    Classes are the categories by their ids. Annotations of fewer pixels are painted over those of more, crowds
    like others. Returns None, with faults, where there are no classes.
    """
    parsed: dict[str, tuple[Path, _File]] = {}
    for split, path in _by_split(root, files, faults).items():
        content = parse(path, _FILE, faults)
        if content is not None:
            parsed[split] = path, content
    categories = _categories(parsed.values(), faults)
    if not categories:
        if parsed:
            remedy = "export them with the names of the classes"
            faults.append(Fault("class-names", root, "the annotations have no categories", remedy))
        return None
    try:
        classes = classes_of(list(categories.values()), all(content.complete for _, content in parsed.values()))
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    splits = {
        split: _annotated(root, split, path, content, categories, faults) for split, (path, content) in parsed.items()
    }
    about = "of annotations that overlap, the one of fewer pixels is on top"
    return assemble("coco", root, splits, classes, faults, about, by_area=True)


def _by_split(root: Path, files: Sequence[Path], faults: list[Fault]) -> dict[str, Path]:
    """One file a split; of COCO's own files for one split, that of the instances."""
    grouped: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        folder = "" if path.parent == root else path.parent.name
        grouped[split_of(path.stem) or split_of(folder) or ""].append(path)
    found = {}
    for split, paths in grouped.items():
        instances = [path for path in paths if path.name.startswith("instances")] or paths
        if len(instances) > 1:
            names = ", ".join(path.name for path in instances[:4])
            what = f"split {split!r}" if split else "no split"
            problem = f"{len(instances)} files of annotations are of {what} ({names})"
            remedy = "name one train and one val, and remove others"
            faults.append(Fault("ambiguous-split", instances[0].parent, problem, remedy, split=split or None))
        found[split] = instances[0]
    if "" in found and len(found) > 1:
        problem = "its name says no split, while others do"
        faults.append(Fault("ambiguous-split", found[""], problem, "put train, val or test into its name"))
        del found[""]
    return found


def _categories(parsed: Iterable[tuple[Path, _File]], faults: list[Fault]) -> dict[int, str]:
    """Names by id, ascending, over all files; headings that only group other categories are left out."""
    names: dict[int, str] = {}
    groups, used = set(), set()
    for path, content in parsed:
        for category in content.categories:
            if names.setdefault(category.id, category.name) != category.name:
                problem = f"category {category.id} is {category.name!r}, but {names[category.id]!r} before"
                faults.append(Fault("class-mismatch", path, problem, "give a category one name in all files"))
            if category.supercategory != category.name:
                groups.add(category.supercategory)
        used |= {annotation.category_id for annotation in content.annotations}
    return {key: names[key] for key in sorted(names) if key in used or names[key] not in groups}


def _annotated(
    root: Path, split: str, path: Path, content: _File, categories: dict[int, str], faults: list[Fault]
) -> list[AnnotatedImage]:
    shapes, broken = _shapes(split, path, content, categories, faults)
    if len(shapes) < len(content.images):
        problem = f"{len(content.images) - len(shapes)} image(s) repeat the id of another"
        faults.append(Fault("duplicate-image", path, problem, "export it again", split=split or None))
    places = _folders(root, split, path)
    found = []
    for image in content.images:
        file = _find(places, image.file_name)
        if file is None:
            problem = f"its image {image.file_name!r} is not in {places[0]}"
            faults.append(Fault("missing-image", path, problem, "put it there", _name(image), split or None))
            continue
        size, whole = (image.height, image.width), image.id not in broken
        found.append(AnnotatedImage(_name(image), file, path, size, tuple(shapes[image.id]), whole))
    return found


def _shapes(
    split: str, path: Path, content: _File, categories: dict[int, str], faults: list[Fault]
) -> tuple[dict[int | str, list[tuple[str, Area]]], set[int | str]]:
    """The shapes of each image by its id, and the images of which some shapes cannot be used."""
    shapes: dict[int | str, list[tuple[str, Area]]] = {image.id: [] for image in content.images}
    images = {image.id: image for image in content.images}
    broken: set[int | str] = set()
    boxes = 0
    for number, annotation in enumerate(content.annotations):
        shown = f"annotation {annotation.id if annotation.id is not None else f'number {number}'}"
        image = images.get(annotation.image_id)
        if image is None:
            problem = f"{shown} is of the image {annotation.image_id}, which the file has not"
            faults.append(Fault("unknown-image", path, problem, "correct it, or export it again", split=split or None))
            continue
        area = None
        if annotation.category_id not in categories:
            problem = f"{shown} is of category {annotation.category_id}, which the file has not"
            remedy = "correct it, or export it again"
            faults.append(Fault("unknown-class", path, problem, remedy, _name(image), split or None))
        elif not annotation.segmentation:
            boxes += 1
        else:
            try:
                area = _area(annotation.segmentation, (image.height, image.width))
            except DataError as error:
                faults.append(shape_fault(path, shown, error, _name(image), split or None))
        if area is None:
            broken.add(image.id)
        else:
            shapes[image.id].append((categories[annotation.category_id], area))
    if boxes:
        problem = f"{boxes} annotation(s) have a box at most, no segmentation"
        remedy = "draw polygons or masks, or remove these"
        faults.append(Fault("unsupported-shape", path, problem, remedy, split=split or None))
    return shapes, broken


def _name(image: _Image) -> str:
    return image.file_name.replace("\\", "/").rpartition(".")[0] or image.file_name


def _area(segmentation: list[list[float]] | Runs, size: Size) -> Area:
    if isinstance(segmentation, Runs):
        if segmentation.size != size:
            height, width = segmentation.size
            problem = f"its runs are of {width}x{height} (width x height), its image is {size[1]}x{size[0]}"
            raise DataError(problem, code="damaged-shape")
        return partial(run_area, read_counts(segmentation.counts, size).astype(np.int32))
    if any(len(polygon) % 2 for polygon in segmentation):
        raise DataError("a polygon has an odd number of coordinates, where a corner has two", code="damaged-shape")
    return partial(fill_each, tuple(np.array(polygon).reshape(-1, 2) for polygon in segmentation))


def _folders(root: Path, split: str, path: Path) -> list[Path]:
    """Where the images of a file may lie, the likeliest place first."""
    tag = path.stem.rpartition("_")[2]
    images = root / "images"
    places = [images / tag, images / split, root / tag, root / split, images, root, path.parent, path.parent.parent]
    if path.parent.name != "annotations":
        places.insert(0, path.parent)
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _find(places: Sequence[Path], name: str) -> Path | None:
    relative = name.replace("\\", "/")
    try:
        return next((place / relative for place in places if (place / relative).is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None

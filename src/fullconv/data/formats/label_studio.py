"""Read Label Studio: one JSON file with a list of tasks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import Field, FiniteFloat, TypeAdapter

from fullconv.arrays import Float64
from fullconv.data.dataset import DataSet
from fullconv.data.formats.assembly import AnnotatedImage, assemble, class_fault, classes_of, parse
from fullconv.data.formats.rle import rasterize_brush
from fullconv.data.formats.shapes import Rasterizer, Size, ellipse, fill_rings, rectangle
from fullconv.data.pairing import is_image
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, MAX_PIXELS

__all__ = ["read_label_studio"]

Side = Annotated[int, Field(gt=0, le=MAX_PIXELS)]
"""Height or width of an image in pixels."""

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True)
class _Value:
    points: list[tuple[FiniteFloat, FiniteFloat]] = field(default_factory=list)
    x: FiniteFloat = 0.0
    y: FiniteFloat = 0.0
    width: FiniteFloat = 0.0
    height: FiniteFloat = 0.0
    radiusX: FiniteFloat = 0.0
    radiusY: FiniteFloat = 0.0
    rotation: FiniteFloat | None = 0.0
    rle: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    polygonlabels: list[str] = field(default_factory=list)
    brushlabels: list[str] = field(default_factory=list)
    rectanglelabels: list[str] = field(default_factory=list)
    ellipselabels: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return self.polygonlabels or self.brushlabels or self.rectanglelabels or self.ellipselabels or self.labels


@dataclass(frozen=True)
class _Result:
    type: str = ""
    value: _Value = field(default_factory=_Value)
    original_width: Side | None = None
    original_height: Side | None = None


@dataclass(frozen=True)
class _Annotation:
    result: list[_Result]
    was_cancelled: bool | None = False
    ground_truth: bool | None = False


@dataclass(frozen=True)
class _Task:
    data: dict[str, Any]
    annotations: list[_Annotation]
    id: int | str | None = None


_FILE = TypeAdapter(list[_Task])


def read_label_studio(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read exports in Label Studio's JSON; the images may be anywhere in `root`.

    Classes are all labels, ordered by name. Later regions are painted over earlier ones. If a task has several
    annotations, the one marked as ground truth is read, or the last one. Tasks without an annotation are left out.
    Returns None, and adds faults, if there are no classes.
    """
    images: dict[str, list[Path]] = defaultdict(list)
    for image in sorted(root.rglob("*")):
        if is_image(image, BAND_SUFFIXES):
            images[image.name].append(image)
    splits: dict[str, list[AnnotatedImage]] = {}
    left_out = 0
    for path in files:
        tasks = parse(path, _FILE, faults) or []
        pairs = [(task, annotation) for task in tasks if (annotation := _choose_annotation(task)) is not None]
        left_out += len(tasks) - len(pairs)
        split = split_of(path.stem) or ""
        entries = (_read_task(images, path, task, annotation, faults) for task, annotation in pairs)
        splits[split] = [*splits.get(split, ()), *(entry for entry in entries if entry is not None)]
    if "" in splits and len(splits) > 1:
        problem = "some exports are named after a split and others are not"
        faults.append(Fault("ambiguous-split", root, problem, "put train, val or test into the name of each file"))
        del splits[""]
    names = {label for entries in splits.values() for entry in entries for label, _ in entry.shapes}
    try:
        classes = classes_of(sorted(names))
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    about = "of regions that overlap, the one that is later in the file is on top"
    about += f"; {left_out} task(s) without an annotation are left out" if left_out else ""
    return assemble("label_studio", root, splits, classes, faults, about)


def _choose_annotation(task: _Task) -> _Annotation | None:
    submitted = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    true = [annotation for annotation in submitted if annotation.ground_truth]
    return next(reversed(true or submitted), None)


def _read_task(
    images: dict[str, list[Path]], path: Path, task: _Task, annotation: _Annotation, faults: list[Fault]
) -> AnnotatedImage | None:
    split = split_of(path.stem)
    reference = _image_reference(task)
    if reference is None:
        problem = f"task {task.id} names no image"
        faults.append(Fault("missing-image", path, problem, "export tasks of images", split=split))
        return None
    candidates = _find_images(images, reference)
    if len(candidates) != 1:
        what = f"exists {len(candidates)} times in the folder" if candidates else "is not in the folder"
        problem = f"task {task.id}: its image {reference} {what}"
        remedy = "put it there once, with the name that it was uploaded with"
        faults.append(Fault("ambiguous-image" if candidates else "missing-image", path, problem, remedy, split=split))
        return None
    image = candidates[0]
    stated: Size | None = None
    shapes = []
    before = len(faults)
    for number, result in enumerate(annotation.result, 1):
        size = (result.original_height, result.original_width)
        if not result.type.endswith("labels"):
            continue  # a choice, or an outline that a result of "labels" repeats
        try:
            if size[0] is None or size[1] is None:
                raise DataError("has no original_width and original_height", code="damaged-shape")
            stated = size[0], size[1]
            rasterizer = _make_rasterizer(result, stated)
            if len(result.value.names) != 1:
                problem = f"has {' and '.join(result.value.names) or 'no label'}, but a region must have one label"
                raise DataError(problem, code="unknown-class")
            shapes.append((result.value.names[0], rasterizer))
        except DataError as error:
            problem = f"task {task.id}: region {number} {error}"
            faults.append(Fault(error.kind, path, problem, "correct or remove the region", image.stem, split))
    return AnnotatedImage(image.stem, image, path, stated, tuple(shapes), len(faults) == before)


def _image_reference(task: _Task) -> str | None:
    """Return the path of the image that a task refers to: from a URL, or from `?d=` for local files."""
    values = [value for _, value in sorted(task.data.items(), key=lambda item: item[0] != "image")]
    for value in values:
        if not isinstance(value, str):
            continue
        parts = urlsplit(value)
        local = parse_qs(parts.query).get("d", [""])[0]
        name = local or unquote(parts.path)
        if PurePosixPath(name).suffix.lower() in BAND_SUFFIXES:
            return name
    return None


def _find_images(images: dict[str, list[Path]], reference: str) -> list[Path]:
    """Return the files that `reference` may mean: with its name, or without the eight digits that an upload adds.

    Of several files, those are returned that share most folders at the end of the path.
    """
    wanted = PurePosixPath(reference.replace("\\", "/"))
    files = images.get(wanted.name, []) or images.get(_UPLOAD_PREFIX.sub("", wanted.name), [])
    if len(files) < 2:
        return files
    shared = [_count_shared_folders(path, wanted) for path in files]
    return [path for path, count in zip(files, shared, strict=True) if count == max(shared)]


def _count_shared_folders(path: Path, wanted: PurePosixPath) -> int:
    both = zip(path.parts[-2::-1], wanted.parts[-2::-1], strict=False)
    return next((count for count, (one, other) in enumerate(both) if one != other), len(wanted.parts) - 1)


def _make_rasterizer(result: _Result, size: Size) -> Rasterizer:
    """Return the rasterizer of a region, whose positions are in percent of the image's sides.

    Raises DataError for regions that cannot cover pixels.
    """
    value = result.value
    scale: Float64 = np.array([size[1], size[0]], np.float64) / 100
    x, y = (value.x, value.y) * scale
    turn = value.rotation or 0.0
    if value.rle:
        try:
            return partial(rasterize_brush, bytes(value.rle))
        except ValueError:
            raise DataError("has a brush mask that is not a list of bytes", code="damaged-shape") from None
    if value.points or result.type in ("polygonlabels", "brushlabels"):
        return partial(fill_rings, (np.array(value.points).reshape(-1, 2) * scale,))
    if (value.width > 0 and value.height > 0) or result.type == "rectanglelabels":
        width, height = (value.width, value.height) * scale
        return partial(fill_rings, (rectangle(x, y, width, height, turn),))
    if (value.radiusX > 0 and value.radiusY > 0) or result.type == "ellipselabels":
        radius_x, radius_y = (value.radiusX, value.radiusY) * scale
        return partial(fill_rings, (ellipse(x, y, radius_x, radius_y, turn),))
    raise DataError(f"is of type {result.type}, which covers no pixels", code="unsupported-shape")

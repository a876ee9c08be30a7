"""Read Label Studio: one JSON file with a list of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, FiniteFloat, TypeAdapter

from fullconv.arrays import Float64
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of
from fullconv.data.annotations.boxes import Boxes
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.json_file import parse_entries, skipped_entry
from fullconv.data.annotations.label_studio_images import image_references, match_keys, rename_remedy
from fullconv.data.annotations.png_mask import png_rasterizer
from fullconv.data.annotations.rle import rasterize_brush
from fullconv.data.annotations.shapes import Patch, Pixels, Rasterizer, Size, ellipse, fill_rings, rectangle
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.dataset import DataSet
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import MAX_PIXELS

__all__ = ["read_label_studio"]

Side = Annotated[int, Field(gt=0, le=MAX_PIXELS)]
"""Height or width of an image in pixels."""

WITHOUT_AREA = ("keypointlabels", "vectorlabels")
"""Types of regions that cover no pixel."""

PNG_URL = "data:image/png;base64,"
"""What precedes the PNG of a bitmask."""


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
    imageDataURL: str = ""
    labels: list[str] = field(default_factory=list)
    polygonlabels: list[str] = field(default_factory=list)
    brushlabels: list[str] = field(default_factory=list)
    bitmasklabels: list[str] = field(default_factory=list)
    rectanglelabels: list[str] = field(default_factory=list)
    ellipselabels: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        painted = self.brushlabels or self.bitmasklabels
        return self.polygonlabels or painted or self.rectanglelabels or self.ellipselabels or self.labels


@dataclass(frozen=True)
class _Result:
    type: str = ""
    value: _Value = field(default_factory=_Value)
    original_width: Side | None = None
    original_height: Side | None = None
    to_name: str = ""
    item_index: int | None = None

    @property
    def is_box(self) -> bool:
        value = self.value
        return not value.rle and not value.points and (value.width > 0 and value.height > 0)


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
    reader = _Reader(ImageIndex(root), Boxes(), faults)
    splits: dict[str, list[AnnotatedImage]] = {}
    left_out = 0
    for path in files:
        tasks, bad = parse_entries(path, _FILE, ("",), faults) or ([], [])
        faults += [skipped_entry(path, entry, None, split_of(path.stem)) for entry in bad]
        pairs = [(task, annotation) for task in tasks if (annotation := _choose_annotation(task)) is not None]
        left_out += len(tasks) - len(pairs)
        split = split_of(path.stem) or ""
        splits[split] = [*splits.get(split, ()), *reader.read(path, pairs)]
    faults += reader.boxes.faults
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
    about = "of regions that overlap, the one that is later in the file is on top" + reader.boxes.about
    about += f"; {left_out} task(s) without an annotation are left out" if left_out else ""
    return assemble("label_studio", root, splits, classes, faults, about)


def _choose_annotation(task: _Task) -> _Annotation | None:
    submitted = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    true = [annotation for annotation in submitted if annotation.ground_truth]
    return next(reversed(true or submitted), None)


@dataclass(frozen=True)
class _Reader:
    """Reads the tasks of files. Faults are added to `faults`."""

    index: ImageIndex
    boxes: Boxes
    faults: list[Fault]

    def read(self, path: Path, pairs: Sequence[tuple[_Task, _Annotation]]) -> Iterator[AnnotatedImage]:
        """Yield the images of a file's tasks."""
        split = split_of(path.stem)
        without_area = WithoutArea(path, split)
        targets = {
            result.to_name for _, annotation in pairs for result in annotation.result if result.type.endswith("labels")
        }
        keys = list(dict.fromkeys(key for task, _ in pairs for key in image_references(task.data)))
        try:
            key_of = match_keys(targets, keys)
        except DataError as error:
            remedy = rename_remedy(path, targets, keys)
            self.faults.append(Fault("ambiguous-image", path, str(error), remedy, split=split))
            return
        for task, annotation in pairs:
            references = image_references(task.data)
            used = [key for key in references if key in key_of.values()] if targets else list(references)[:1]
            if not used:
                problem = f"task {task.id} names no image"
                self.faults.append(Fault("missing-image", path, problem, "export tasks of images", split=split))
            by_image = {(key, number): reference for key in used for number, reference in enumerate(references[key])}
            results: dict[tuple[str, int], list[tuple[int, _Result]]] = {image: [] for image in by_image}
            for number, result in enumerate(annotation.result, 1):
                if result.type.endswith("labels"):  # others are choices, or outlines that a result of "labels" repeats
                    image = key_of.get(result.to_name, ""), result.item_index or 0
                    results.setdefault(image, []).append((number, result))
            for image, reference in by_image.items():
                file = self._find_image(path, task, reference)
                if file is not None:
                    yield self._read_image(without_area, task, file, results[image])
            self._report_lost(path, task, results.keys() - by_image.keys() if used else ())
        self.faults.extend(without_area.faults())

    def _report_lost(self, path: Path, task: _Task, images: Iterable[tuple[str, int]]) -> None:
        for key, number in sorted(images):
            problem = f"task {task.id} has regions on image {number + 1} of {key!r}, which is not in its data"
            split = split_of(path.stem)
            self.faults.append(Fault("missing-image", path, problem, "export the task again", split=split))

    def _find_image(self, path: Path, task: _Task, reference: str) -> Path | None:
        candidates = self.index.find(reference, uploaded=True)
        if len(candidates) == 1:
            return candidates[0]
        what = f"exists {len(candidates)} times in the folder" if candidates else "is not in the folder"
        problem = f"task {task.id}: its image {reference} {what}"
        remedy = "put it there once, with the name that it was uploaded with"
        kind = "ambiguous-image" if candidates else "missing-image"
        self.faults.append(Fault(kind, path, problem, remedy, split=split_of(path.stem)))
        return None

    def _read_image(
        self, without_area: WithoutArea, task: _Task, image: Path, results: Sequence[tuple[int, _Result]]
    ) -> AnnotatedImage:
        """Return the image with its shapes; faults of single regions are added to `faults`."""
        path, split = without_area.path, without_area.split
        stated: Size | None = None
        shapes: list[tuple[str, Rasterizer]] = []
        rectangles = []
        before = len(self.faults)
        for number, result in results:
            if result.type in WITHOUT_AREA:
                without_area.add(result.type.removesuffix("labels"), image.stem, f"task {task.id}: region {number}")
                continue
            size = (result.original_height, result.original_width)
            try:
                if size[0] is None or size[1] is None:
                    raise DataError("has no original_width and original_height", code="damaged-shape")
                stated = size[0], size[1]
                rasterizer = _make_rasterizer(result, stated)
                if len(result.value.names) != 1:
                    problem = f"has {' and '.join(result.value.names) or 'no label'}, but a region must have one label"
                    raise DataError(problem, code="unknown-class")
                if without_area.covers(rasterizer, image.stem, f"task {task.id}: region {number}"):
                    rectangles += [len(shapes)] if result.is_box else []
                    shapes.append((result.value.names[0], rasterizer))
            except DataError as error:
                problem = f"task {task.id}: region {number} {error}"
                remedy = "correct or remove the region"
                self.faults.append(Fault(error.kind, path, problem, remedy, image.stem, split))
        complete = without_area.keeps(image.stem, len(shapes)) and len(self.faults) == before
        if stated is not None and rectangles:
            shapes = self.boxes.drop(shapes, rectangles, stated, path, image)
        return AnnotatedImage(image.stem, image, path, stated, tuple(shapes), complete, relative=True)


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
    if value.imageDataURL or result.type == "bitmasklabels":
        return partial(_fill_bitmask, png_rasterizer(value.imageDataURL.removeprefix(PNG_URL), 0, 0))
    if value.points or result.type in ("polygonlabels", "brushlabels"):
        return partial(fill_rings, (np.array(value.points).reshape(-1, 2) * scale,))
    if (value.width > 0 and value.height > 0) or result.type == "rectanglelabels":
        width, height = (value.width, value.height) * scale
        return partial(fill_rings, (rectangle(x, y, width, height, turn),))
    if (value.radiusX > 0 and value.radiusY > 0) or result.type == "ellipselabels":
        radius_x, radius_y = (value.radiusX, value.radiusY) * scale
        return partial(fill_rings, (ellipse(x, y, radius_x, radius_y, turn),))
    raise DataError(f"is of type {result.type}, which covers no pixels", code="unsupported-shape")


def _fill_bitmask(rasterize: Rasterizer, size: Size) -> Pixels:
    """Return the pixels of a mask that has the size of the image."""
    pixels = rasterize(size)
    if not isinstance(pixels, Patch) or pixels.mask.shape != size:
        raise DataError("has a bitmask of another size than the image", code="damaged-shape")
    return pixels

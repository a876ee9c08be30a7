"""Read labelme: a JSON file for each image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import FiniteFloat, TypeAdapter

from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import IGNORED, Classes, assemble, class_fault, classes_of
from fullconv.data.annotations.boxes import Boxes
from fullconv.data.annotations.embedded import extract_image
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.json_file import parse_each
from fullconv.data.annotations.png_mask import png_rasterizer
from fullconv.data.annotations.shapes import Rasterizer, ellipse, fill_rings
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.dataset import DataSet
from fullconv.data.splits import SPLITS, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import is_given, read_file
from fullconv.images.decoders.npy import ARRAY_SUFFIX

__all__ = ["LABELS_FILE", "read_labelme"]

LABELS_FILE = "labels.txt"
"""The list of labels for labelme's option `--labels`: the classes, ordered by id."""

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Types of shapes that cover no pixel."""

BOXES = ("rectangle", "rotation")
"""Types of boxes; X-AnyLabeling writes the four corners of both."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shape:
    label: str
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str | None = "polygon"
    mask: str | None = None


@dataclass(frozen=True)
class _File:
    shapes: list[_Shape]
    imagePath: str
    imageHeight: int | None = None
    imageWidth: int | None = None
    imageData: str | None = None


_FILE = TypeAdapter(_File)


def read_labelme(root: Path, files: dict[str, list[Path]], faults: list[Fault]) -> DataSet | None:
    """Read labelme's files; the keys of `files` are folders in `root`.

    Classes are those of `LABELS_FILE` in `root`, or all labels, ordered by name. Later shapes are painted over earlier
    ones. Images without a file are left out. Returns None, and adds faults, if there are no classes.
    """
    splits: dict[str, list[AnnotatedImage]] = {}
    index, boxes = ImageIndex(root), Boxes()
    for folder, paths in files.items():
        split = split_of(folder)
        splits[split or ""] = [*splits.get(split or "", ()), *_read_images(index, paths, split, boxes, faults)]
    faults += boxes.faults
    index.log()
    if "" in splits and len(splits) > 1:
        problem = "contains labelme files next to the folders of splits"
        remedy = f"move the files into one of {', '.join(SPLITS)}"
        faults.append(Fault("ambiguous-split", root, problem, remedy))
        del splits[""]
    try:
        classes = _read_classes(root / LABELS_FILE, [entry for entries in splits.values() for entry in entries])
    except DataError as error:
        faults += error.faults_at(root)
        return None
    about = "of shapes that overlap, the one that is later in the file is on top" + boxes.about
    return assemble("labelme", root, splits, classes, faults, about)


def _read_classes(path: Path, entries: Sequence[AnnotatedImage]) -> Classes:
    if not is_given(path):
        try:
            return classes_of(sorted({label for entry in entries for label, _ in entry.shapes}))
        except DataError as error:
            raise DataError.of(class_fault(path.parent, error)) from None
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("class-names", path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8")
        raise DataError.of(fault) from None
    names = [line.strip() for line in lines if line.strip()]
    try:
        return classes_of(names, complete=IGNORED in names)
    except DataError as error:
        raise DataError.of(class_fault(path, error)) from None


def _read_images(
    index: ImageIndex, paths: Sequence[Path], split: str | None, boxes: Boxes, faults: list[Fault]
) -> list[AnnotatedImage]:
    annotated = []
    embedded: list[Path] = []
    for path, parsed in parse_each(paths, _FILE, ("shapes",), split, faults):
        image = _find_image(index, path, parsed.imagePath)
        if image is not None:
            image = index.prefer_inside(path, parsed.imagePath, image)
        else:
            try:
                image = _find_elsewhere(index, path, parsed, embedded)
            except DataError as error:
                faults += [replace(fault, sample=path.stem, split=split) for fault in error.faults_at(path)]
                continue
        annotated.append(_read_shapes(path, image, parsed, split, boxes, faults))
    if embedded:
        message = "%s: %d image(s) are read from imageData, because there are no image files, first %s"
        logger.info(message, index.root, len(embedded), embedded[0].name)
    return annotated


def _read_shapes(
    path: Path, image: Path, parsed: _File, split: str | None, boxes: Boxes, faults: list[Fault]
) -> AnnotatedImage:
    shapes: list[tuple[str, Rasterizer]] = []
    rectangles = []
    without_area = WithoutArea(path, split)
    before = len(faults)
    for number, shape in enumerate(parsed.shapes, 1):
        if shape.shape_type in WITHOUT_AREA:
            without_area.add(shape.shape_type, path.stem, f"shape {number} ({shape.label})")
            continue
        try:
            rasterizer = _make_rasterizer(shape)
        except DataError as error:
            problem = f"shape {number} ({shape.label}) {error}"
            is_unknown = error.code == "unsupported-shape"
            remedy = "draw a polygon, or remove the shape" if is_unknown else "draw the shape again"
            faults.append(Fault(error.kind, path, problem, remedy, path.stem, split))
            continue
        if not without_area.covers(rasterizer, path.stem, f"shape {number} ({shape.label})"):
            continue
        rectangles += [len(shapes)] if shape.shape_type in BOXES else []
        shapes.append((shape.label, rasterizer))
    stated = parsed.imageHeight, parsed.imageWidth
    size = None if stated[0] is None or stated[1] is None else (stated[0], stated[1])
    complete = without_area.keeps(path.stem, len(shapes)) and len(faults) == before
    faults += without_area.faults()
    if size is not None and rectangles:
        shapes = boxes.drop(shapes, rectangles, size, path, image)
    return AnnotatedImage(path.stem, image, path, size, tuple(shapes), complete)


def _find_image(index: ImageIndex, path: Path, image_path: str) -> Path | None:
    """Return the image at `image_path`, or the image next to the file with its stem: both may have been renamed."""
    try:
        image = path.parent / image_path.replace("\\", "/")
        if image.is_file():
            return image.resolve() if ".." in image.parts else image
    except (OSError, ValueError):  # no file can have this name
        pass
    return min(index.find_next_to(path), key=lambda other: (other.suffix.lower() == ARRAY_SUFFIX, other), default=None)


def _find_elsewhere(index: ImageIndex, path: Path, parsed: _File, embedded: list[Path]) -> Path:
    """Return the image in another folder with the name in `imagePath`, or the image in the file. Raises DataError."""
    files = index.find_foreign(path, parsed.imagePath)
    if len(files) != 1:  # folders of the same name, as in json/train and images/train, decide
        name = parsed.imagePath.replace("\\", "/").rpartition("/")[2]
        files = index.find_foreign(path, f"{path.parent}/{name}") or index.find_stem(path)
    if len(files) == 1:
        return files[0]
    if parsed.imageData:
        embedded.append(path)
        return extract_image(path, parsed.imageData)
    if files:
        problem = f"its image {parsed.imagePath!r} may be {files[0]} or {files[1]}"
        fault = Fault("ambiguous-image", path, problem, "correct imagePath, or remove the other files")
    else:
        problem = f"its image {parsed.imagePath!r} does not exist"
        fault = Fault("missing-image", path, problem, "put the image next to the file, or correct imagePath")
    raise DataError.of(fault)


def _make_rasterizer(shape: _Shape) -> Rasterizer:
    """Return the rasterizer of a shape. Raises DataError, without the name of the file, if it cannot cover pixels."""
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    kind = shape.shape_type or "polygon"
    if kind in ("polygon", "rotation") or (kind == "rectangle" and len(points) == 4):
        return partial(fill_rings, (points,))
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return partial(fill_rings, (np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),))
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return partial(fill_rings, (ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius),))
    if kind == "mask" and shape.mask is not None and len(points) == 2:
        left, top = np.rint(points[0]).astype(int).tolist()
        return png_rasterizer(shape.mask, top, left)
    if kind in ("rectangle", "circle", "mask"):
        raise DataError(f"is a {kind} of {len(points)} points, which covers no pixels", code="damaged-shape")
    raise DataError(f"is a {kind}, which covers no pixels", code="unsupported-shape")

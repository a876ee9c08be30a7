"""Read Datumaro, which CVAT exports, too: one JSON file for each subset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pydantic import FiniteFloat, TypeAdapter

from fullconv.arrays import Float64
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of, pair_coordinates
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.json_file import parse_entries, skipped_entry
from fullconv.data.annotations.rle import Runs
from fullconv.data.annotations.shapes import Rasterizer, Size, ellipse, fill_rings
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.dataset import DataSet
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import IMAGE_SUFFIXES, image_size
from fullconv.images.decoders.npy import ARRAY_SUFFIX

__all__ = ["read_datumaro"]

WITHOUT_PIXELS = ("label", "caption")
"""Types of annotations that describe the whole image."""

BOXES = ("bbox", "rotated_bbox")
"""Types of annotations that are never filled, because they are boxes around objects."""

WITHOUT_AREA = (*BOXES, "points", "polyline", "skeleton", "cuboid_2d", "cuboid_3d")
"""Types of annotations that cover no pixel."""

AREAS = ("mask", "polygon", "ellipse")
"""Types of annotations that cover pixels."""


@dataclass(frozen=True)
class _Label:
    name: str


@dataclass(frozen=True)
class _Labels:
    labels: list[_Label]


@dataclass(frozen=True)
class _Categories:
    label: _Labels


@dataclass(frozen=True)
class _Media:
    path: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Annotation:
    type: str
    label_id: int | None = None
    group: int | None = 0
    z_order: int | None = 0
    points: list[FiniteFloat] = field(default_factory=list)
    rle: Runs | None = None


@dataclass(frozen=True)
class _Item:
    id: str
    annotations: list[_Annotation]
    image: _Media | None = None


@dataclass(frozen=True)
class _File:
    categories: _Categories
    items: list[_Item]


_FILE = TypeAdapter(_File)


def read_datumaro(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read `annotations/<subset>.json` and `images/<subset>`.

    Classes are the labels in their order. Annotations are painted by `z_order`, then in file order. Boxes of a group
    with a mask, polygon or ellipse are left out. Returns None, and adds faults, if there are no classes.
    """
    splits: dict[str, list[AnnotatedImage]] = {}
    index = ImageIndex(root)
    names: dict[Path, list[str]] = {}
    for path in files:
        parsed = parse_entries(path, _FILE, ("items",), faults)
        if parsed is None:
            continue
        content, bad = parsed
        faults += [skipped_entry(path, entry, None, split_of(path.stem)) for entry in bad]
        names[path] = [label.name for label in content.categories.label.labels]
        split = split_of(path.stem) or ""
        splits[split] = [*splits.get(split, ()), *_read_images(index, path, content, names[path], faults)]
    index.log()
    if "" in splits and len(splits) > 1:
        remedy = "put train, val or test into the name of each file"
        faults.append(Fault("ambiguous-split", root, "some names of subsets contain no split", remedy))
        del splits[""]
    remedy = "export all subsets of one project"
    faults += [
        Fault("class-mismatch", path, f"its labels differ from those of {files[0].name}", remedy)
        for path in names
        if names[path] != next(iter(names.values()))
    ]
    try:
        classes = classes_of(next(iter(names.values()), []))
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    about = "of annotations that overlap, the one of the higher z_order, or the later one, is on top"
    return assemble("datumaro", root, splits, classes, faults, about)


def _read_images(
    index: ImageIndex, path: Path, content: _File, names: list[str], faults: list[Fault]
) -> list[AnnotatedImage]:
    annotated = []
    split = split_of(path.stem)
    without_area = WithoutArea(path, split)
    for item in content.items:
        image = _find_image(index, path, item)
        if image is None:
            problem = f"the image of item {item.id!r} is not in {index.root / 'images' / path.stem}"
            faults.append(Fault("missing-image", path, problem, "export it with the images", item.id, split))
            continue
        size = item.image.size if item.image is not None else None
        try:
            shapes, shape_faults = _read_shapes(without_area, item, size or image_size(image), names)
        except DataError as error:
            faults += [replace(fault, sample=item.id, split=split) for fault in error.faults_at(image)]
            continue
        faults += [replace(fault, split=split) for fault in shape_faults]
        if without_area.keeps(item.id, len(shapes)) and not shape_faults:
            annotated.append(AnnotatedImage(item.id, image, path, size, shapes))
    faults += without_area.faults()
    return annotated


def _read_shapes(
    without_area: WithoutArea, item: _Item, size: Size, names: list[str]
) -> tuple[tuple[tuple[str, Rasterizer], ...], list[Fault]]:
    """Return the shapes from the lowest to the topmost, and a fault for each shape that cannot be used."""
    faults = []
    shapes = []
    groups = {entry.group for entry in item.annotations if entry.type in AREAS} - {0, None}
    for number, entry in enumerate(sorted(item.annotations, key=lambda entry: entry.z_order or 0), 1):
        if entry.type in WITHOUT_PIXELS or (entry.type in BOXES and entry.group in groups):
            continue
        if entry.type in WITHOUT_AREA:
            without_area.add(entry.type, item.id, f"annotation {number}")
            continue
        try:
            if entry.label_id is None or not 0 <= entry.label_id < len(names):
                problem = f"its label_id is {entry.label_id}, but there are {len(names)} labels"
                raise DataError(problem, code="unknown-class")
            rasterizer = _make_rasterizer(entry, size)
            if without_area.covers(rasterizer, item.id, f"annotation {number}"):
                shapes.append((names[entry.label_id], rasterizer))
        except DataError as error:
            problem = f"item {item.id!r}: annotation {number} ({entry.type}): {error}"
            faults.append(Fault(error.kind, without_area.path, problem, "correct or remove the annotation", item.id))
    return tuple(shapes), faults


def _make_rasterizer(entry: _Annotation, size: Size) -> Rasterizer:
    if entry.type == "polygon":
        return partial(fill_rings, (pair_coordinates(entry.points),))
    if entry.type == "mask" and entry.rle is not None:
        return entry.rle.rasterizer(size)
    if entry.type == "ellipse":
        return partial(fill_rings, (_ellipse(entry.points),))
    raise DataError("only polygons, masks and ellipses cover pixels", code="unsupported-shape")


def _ellipse(box: Sequence[float]) -> Float64:
    """Return the ellipse in a box, which is given by its left, top, right and bottom side."""
    if len(box) != 4:
        raise DataError(f"it has {len(box)} numbers, but the box of an ellipse has four", code="damaged-shape")
    left, top, right, bottom = box
    return ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


def _find_image(index: ImageIndex, source: Path, item: _Item) -> Path | None:
    """Return the image at its path, or else the only one in the data set with the path's name."""
    image_path = item.image.path if item.image is not None else ""
    folders = [index.root / "images" / source.stem, index.root / "images", index.root]
    names = [image_path] if image_path else []
    names += [item.id + suffix for suffix in (*sorted(IMAGE_SUFFIXES), ARRAY_SUFFIX)]
    try:
        image = next((folder / name for name in names for folder in folders if (folder / name).is_file()), None)
    except (OSError, ValueError):  # no file can have this name
        return None
    if image is None and image_path:
        files = index.find_foreign(source, image_path)
        return files[0] if len(files) == 1 else None
    return image if image is None else index.prefer_inside(source, image_path or image.name, image)

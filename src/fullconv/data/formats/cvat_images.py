"""Read "CVAT for images 1.1", CVAT's default export: one XML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fullconv.arrays import Float64
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of
from fullconv.data.annotations.boxes import Boxes
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.shapes import Patch, Rasterizer, Size, ellipse, fill_rings
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.annotations.xml_file import parse_xml
from fullconv.data.dataset import DataSet
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import open_regular

__all__ = ["is_cvat_images", "read_cvat_images"]

SHAPES = ("polygon", "mask", "box", "ellipse")
"""Elements that cover pixels."""

WITHOUT_AREA = ("points", "polyline", "cuboid", "skeleton")

LARGEST_BOX = 4
"""The box of a mask has at most this many times the pixels of its image; what is outside of the image is cut off."""

HEAD = 2**16
"""Bytes of a file that are searched to recognise it; the labels of a project come first."""

Attributes = dict[str, str]


@dataclass
class _Image:
    attributes: Attributes
    shapes: list[tuple[str, Attributes]] = field(default_factory=list)


@dataclass
class _Document:
    """What a file contains, filled in while it is parsed."""

    labels: list[str] = field(default_factory=list)
    images: list[_Image] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    text: str = ""

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "image" and self.path == ["annotations"]:
            self.images.append(_Image(attributes))
        elif self.path == ["annotations", "image"] and name in (*SHAPES, *WITHOUT_AREA):
            self.images[-1].shapes.append((name, attributes))
        self.path.append(name)
        self.text = ""

    def end(self, name: str) -> None:
        if self.path[-3:] == ["labels", "label", "name"]:
            self.labels.append(self.text.strip())
        self.path.pop()

    def add_text(self, text: str) -> None:
        self.text += text if self.path[-3:] == ["labels", "label", "name"] else ""


def is_cvat_images(path: Path) -> bool:
    """Return whether an XML file looks like this format; its reader checks it later."""
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return b"<annotations" in head and (b"<image " in head or b"<meta>" in head) and b"<track " not in head


def read_cvat_images(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read XML files; the images may be anywhere in `root`.

    Classes are the labels of the project in their order, or all labels, ordered by name. Shapes are painted by
    `z_order`, then in file order. Returns None, and adds faults, if there are no classes.
    """
    splits: dict[str, list[AnnotatedImage]] = {}
    labels: list[str] = []
    index, boxes = ImageIndex(root), Boxes()
    for path in files:
        try:
            document = _parse(path)
        except DataError as error:
            faults += error.faults_at(path)
            continue
        labels += [label for label in document.labels if label not in labels]
        without_area = WithoutArea(path, split_of(path.stem))
        for image in document.images:
            split = split_of(image.attributes.get("subset", "")) or split_of(path.stem) or ""
            entry = _read_image(index, image, without_area, boxes, faults)
            splits.setdefault(split, []).extend([entry] if entry is not None else [])
        faults += without_area.faults()
    if "" in splits and len(splits) > 1:
        remedy = "put all images into subsets called train, val or test"
        faults.append(Fault("ambiguous-split", root, "some images are in a split, and others are not", remedy))
        del splits[""]
    faults += boxes.faults
    try:
        classes = classes_of(
            labels or sorted({label for entries in splits.values() for entry in entries for label, _ in entry.shapes})
        )
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    about = "of shapes that overlap, the one of the higher z_order, or the later one, is on top" + boxes.about
    return assemble("cvat_images", root, splits, classes, faults, about)


def _parse(path: Path) -> _Document:
    document = _Document()
    parse_xml(path, document.start, document.end, document.add_text)
    return document


def _read_image(
    index: ImageIndex, image: _Image, without_area: WithoutArea, boxes: Boxes, faults: list[Fault]
) -> AnnotatedImage | None:
    path, split, reference = without_area.path, without_area.split, image.attributes.get("name", "")
    files = index.find(reference)
    if len(files) != 1:
        what = f"exists {len(files)} times in the folder" if files else "is not in the folder"
        kind = "ambiguous-image" if files else "missing-image"
        faults.append(Fault(kind, path, f"its image {reference!r} {what}", "put it there once", split=split))
        return None
    name = reference.rpartition(".")[0] or reference
    before = len(faults)
    shapes: list[tuple[str, Rasterizer]] = []
    rectangles = []
    size: Size | None = None
    try:
        size = int(image.attributes["height"]), int(image.attributes["width"])
    except (KeyError, ValueError):
        faults.append(Fault("invalid-annotations", path, f"{name} has no width and height", "export it again", name))
    ordered = sorted(enumerate(image.shapes, 1), key=lambda item: _z_order(item[1][1]))
    for number, (kind, attributes) in ordered:
        label = attributes.get("label", "")
        if kind in WITHOUT_AREA:
            without_area.add(kind, name, f"shape {number} ({label})")
            continue
        try:
            rasterizer = _make_rasterizer(kind, attributes)
        except (DataError, KeyError, ValueError, OverflowError):
            problem = f"shape {number} ({kind} of {label}) on {name} is damaged"
            faults.append(Fault("damaged-shape", path, problem, "draw the shape again", name, split))
            continue
        if not without_area.covers(rasterizer, name, f"shape {number} ({label})"):
            continue
        rectangles += [len(shapes)] if kind == "box" else []
        shapes.append((label, rasterizer))
    complete = without_area.keeps(name, len(shapes)) and len(faults) == before
    if size is not None and rectangles:
        shapes = boxes.drop(shapes, rectangles, size, path, files[0])
    return AnnotatedImage(name, files[0], path, size, tuple(shapes), complete)


def _z_order(attributes: Attributes) -> int:
    try:
        return int(attributes.get("z_order", "0"))
    except ValueError:
        return 0


def _make_rasterizer(kind: str, attributes: Attributes) -> Rasterizer:
    """Return the rasterizer of a shape. Raises KeyError or ValueError for attributes that are missing or wrong."""
    if kind == "polygon":
        points = [[float(value) for value in pair.split(",")] for pair in attributes["points"].split(";")]
        corners = np.array(points, np.float64).reshape(-1, 2)
        if not np.isfinite(corners).all():
            raise ValueError("a corner is not finite")
        return partial(fill_rings, (corners,))
    if kind == "mask":
        counts = [int(count) for count in attributes["rle"].split(",")]
        top, left, height, width = (int(attributes[key]) for key in ("top", "left", "height", "width"))
        if min(counts) < 0 or min(top, left, height, width) < 0 or sum(counts) != height * width:
            raise ValueError("the runs do not fit")
        return partial(_rasterize_rows, tuple(counts), top, left, (height, width))
    turn = float(attributes.get("rotation", "0"))
    keys = ("xtl", "ytl", "xbr", "ybr") if kind == "box" else ("cx", "cy", "rx", "ry")
    a, b, c, d = (float(attributes[key]) for key in keys)
    if not all(map(math.isfinite, (a, b, c, d, turn))):
        raise ValueError("a number is not finite")
    if kind == "ellipse":
        return partial(fill_rings, (ellipse(a, b, c, d, turn),))
    return partial(fill_rings, (_turned_box(a, b, c, d, turn),))


def _turned_box(left: float, top: float, right: float, bottom: float, degrees: float) -> Float64:
    """Return the corners of a box that is turned clockwise around its centre."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    if not degrees:
        return corners
    centre = corners.mean(axis=0)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turned: Float64 = (corners - centre) @ np.array([(cosine, sine), (-sine, cosine)]) + centre
    return turned


def _rasterize_rows(counts: tuple[int, ...], top: int, left: int, box: Size, size: Size) -> Patch:
    """Return the pixels of run lengths that go along the rows of a box; the first run is outside of the mask."""
    if box[0] * box[1] > LARGEST_BOX * size[0] * size[1]:
        raise DataError("has a mask that reaches outside of the image", code="damaged-shape")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(box)
    return Patch(top, left, inside[: max(0, size[0] - top), : max(0, size[1] - left)])

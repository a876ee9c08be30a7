"""labelme: a JSON file for each image."""

from __future__ import annotations

import base64
import glob
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import FiniteFloat, TypeAdapter

from fullconv.data.dataset import DataSet
from fullconv.data.formats.assembly import IGNORED, AnnotatedImage, Classes, assemble, class_fault, classes_of, parse
from fullconv.data.formats.shapes import Area, Floats, Patch, Size, ellipse, fill_rings
from fullconv.data.pairing import is_image
from fullconv.data.splits import SPLITS, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES
from fullconv.images.decoders.npy import ARRAY_SUFFIX

__all__ = ["LABELS_FILE", "read_labelme"]

LABELS_FILE = "labels.txt"
"""The list of labels that labelme is started with; here the classes in the order of their ids."""


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


_FILE = TypeAdapter(_File)


def read_labelme(root: Path, files: dict[str, list[Path]], faults: list[Fault]) -> DataSet | None:
    """The data set of labelme's files, by the folder below `root` that they lie in.

    Classes are those of `LABELS_FILE`, if `root` has it, or all labels by name. Later shapes are painted over earlier
    ones. Images without a file are left out. Returns None, with faults, where there are no classes.
    """
    splits: dict[str, list[AnnotatedImage]] = {}
    for folder, paths in files.items():
        split = split_of(folder) or ""
        splits[split] = [*splits.get(split, ()), *_annotated(root, paths, faults)]
    if "" in splits and len(splits) > 1:
        problem, remedy = (
            "has labelme files next to the folders of splits",
            f"move them into one of {', '.join(SPLITS)}",
        )
        faults.append(Fault("ambiguous-split", root, problem, remedy))
        del splits[""]
    try:
        classes = _classes(root / LABELS_FILE, [entry for entries in splits.values() for entry in entries])
    except DataError as error:
        faults += error.faults_at(root)
        return None
    about = "of shapes that overlap, the one that is later in the file is on top"
    return assemble("labelme", root, splits, classes, faults, about)


def _classes(path: Path, entries: Sequence[AnnotatedImage]) -> Classes:
    if not path.is_file():
        try:
            return classes_of(sorted({label for entry in entries for label, _ in entry.shapes}))
        except DataError as error:
            raise DataError.of(class_fault(path.parent, error)) from None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("class-names", path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8")
        raise DataError.of(fault) from None
    names = [line.strip() for line in lines if line.strip()]
    try:
        return classes_of(names, complete=IGNORED in names)
    except DataError as error:
        raise DataError.of(class_fault(path, error)) from None


def _annotated(root: Path, paths: Sequence[Path], faults: list[Fault]) -> list[AnnotatedImage]:
    found = []
    for path in paths:
        parsed = parse(path, _FILE, faults)
        if parsed is None:
            continue
        image = _image(path, parsed.imagePath)
        if image is None:
            problem = f"its image {parsed.imagePath!r} is not there"
            remedy = "put the image next to the file, or correct imagePath"
            faults.append(Fault("missing-image", path, problem, remedy, path.stem, split_of(path.parent.name)))
            continue
        shapes = []
        for number, shape in enumerate(parsed.shapes, 1):
            try:
                shapes.append((shape.label, _area(shape)))
            except DataError as error:
                problem = f"shape {number} ({shape.label}) {error}"
                split = split_of(path.parent.name)
                remedy = "draw a polygon, or remove it" if error.code == "unsupported-shape" else "draw it again"
                faults.append(Fault(error.kind, path, problem, remedy, path.stem, split))
        stated = parsed.imageHeight, parsed.imageWidth
        size = None if stated[0] is None or stated[1] is None else (stated[0], stated[1])
        found.append(AnnotatedImage(path.stem, image, path, size, tuple(shapes), len(shapes) == len(parsed.shapes)))
    return found


def _image(path: Path, named: str) -> Path | None:
    """Where labelme says, or beside the file under its stem, as after renaming both."""
    try:
        image = path.parent / named.replace("\\", "/")
        if image.is_file():
            return image.resolve() if ".." in image.parts else image
    except (OSError, ValueError):  # a name that no file can have
        pass
    named_alike = path.parent.glob(glob.escape(path.stem) + ".*")
    beside = [other for other in named_alike if is_image(other, BAND_SUFFIXES)]
    return min(beside, key=lambda other: (other.suffix.lower() == ARRAY_SUFFIX, other), default=None)


def _area(shape: _Shape) -> Area:
    """What a shape covers; DataError, without the name of the file, for what covers no pixels."""
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    kind = shape.shape_type or "polygon"
    if kind == "polygon":
        return partial(fill_rings, (points,))
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return partial(fill_rings, (np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),))
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return partial(fill_rings, (ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius),))
    if kind == "mask" and shape.mask is not None and len(points) == 2:
        return _mask_area(shape.mask, points)
    if kind in ("rectangle", "circle", "mask"):
        raise DataError(f"is a {kind} of {len(points)} points, which covers no pixels", code="damaged-shape")
    raise DataError(f"is a {kind}, which covers no pixels", code="unsupported-shape")


def _mask_area(text: str, points: Floats) -> Area:
    try:
        png = base64.b64decode(text, validate=True)
    except ValueError:
        raise DataError("has a mask that is not in base64", code="damaged-shape") from None
    left, top = np.rint(points[0]).astype(int).tolist()
    return partial(_png_area, png, top, left)


def _png_area(png: bytes, top: int, left: int, size: Size) -> Patch:
    """The pixels of a PNG that are not 0, its first pixel at (top, left)."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            fits = 0 <= top <= size[0] - image.height and 0 <= left <= size[1] - image.width
            mask = np.asarray(image.convert("L")) > 0 if fits else None
    except Exception:  # Pillow raises nearly everything on damaged input
        raise DataError("has a damaged mask", code="damaged-shape") from None
    if mask is None:
        raise DataError("has a mask that does not fit into the image", code="damaged-shape")
    return Patch(top, left, mask)

"""Read the XML files of MIT's LabelMe, one for each image, as that tool and CVAT ("LabelMe 3.0") write them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from fullconv.arrays import Float64
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of
from fullconv.data.annotations.boxes import Boxes
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.shapes import Patch, Rasterizer, Size, fill_rings
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.annotations.xml_file import read_xml
from fullconv.data.dataset import DataSet
from fullconv.data.pairing import is_image
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import list_files, read_file
from fullconv.images import BAND_SUFFIXES, open_with_pillow
from fullconv.images.decoders.open_pillow import decoding_errors

__all__ = ["find_labelme_xml", "read_labelme_xml"]

ANNOTATIONS, IMAGES, MASKS = "annotations", "Images", "Masks"
"""LabelMe's folders: what is `Annotations/x/a.xml` belongs to `Images/x/a.jpg`."""

PROBED = 20


def find_labelme_xml(root: Path) -> list[Path]:
    """Return the XML files of all folders of which one of the first is LabelMe's."""
    files: list[Path] = []
    for folder in list_files(root).folders:
        paths = [folder.path / name for name in folder.having((".xml",))]
        files += paths if any(map(_is_labelme_xml, islice(paths, PROBED))) else []
    return files


def read_labelme_xml(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read LabelMe's files; the names of their folders give the splits.

    Classes are all labels, ordered by name. Deleted objects, parts and attributes are not used; later objects are
    painted over earlier ones. Returns None, and adds faults, if there are no classes.
    """
    splits: dict[str, list[AnnotatedImage]] = {}
    index, boxes = ImageIndex(root), Boxes()
    is_unique = len({path.stem for path in files}) == len(files)
    for path in files:
        parts = path.parent.relative_to(root).parts
        split = next((split for part in reversed(parts) if (split := split_of(part))), None)
        shown = [part for part in parts if part.casefold() != ANNOTATIONS]
        name = path.stem if is_unique else "/".join((*shown, path.stem))
        try:
            entry = _read_file(index, path, name, split, boxes, faults)
        except DataError as error:
            faults += error.faults_at(path)
            continue
        splits.setdefault(split or "", []).extend([entry] if entry is not None else [])
    faults += boxes.faults
    index.log()
    if "" in splits and len(splits) > 1:
        problem, remedy = "some annotations are in folders of splits, and others are not", "move them into one of them"
        faults.append(Fault("ambiguous-split", root, problem, remedy))
        del splits[""]
    labels = sorted({label for entries in splits.values() for entry in entries for label, _ in entry.shapes})
    try:
        classes = classes_of(labels)
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    about = "of objects that overlap, the one that is later in the file is on top" + boxes.about
    return assemble("labelme_xml", root, splits, classes, faults, about)


def _is_labelme_xml(path: Path) -> bool:
    try:
        content = read_file(path)
    except OSError:
        return False
    shapes = b"<pt>" in content or b"<segm>" in content
    return b"<annotation>" in content and b"<object>" in content and shapes


def _read_file(
    index: ImageIndex, path: Path, name: str, split: str | None, boxes: Boxes, faults: list[Fault]
) -> AnnotatedImage | None:
    document = read_xml(path)
    file_name, folder = _text(document, "filename") or path.stem, _text(document, "folder")
    images = _find_images(index, path, folder, file_name)
    if len(images) != 1:
        fault = Fault("missing-image", path, f"its image {file_name!r} does not exist", "put it into the data set")
        if images:
            problem = f"its image {file_name!r} may be {images[0]} or {images[1]}"
            fault = Fault("ambiguous-image", path, problem, "correct filename and folder, or remove the other files")
        faults.append(fault)
        return None
    size = _size(document)
    shapes: list[tuple[str, Rasterizer]] = []
    rectangles = []
    without_area = WithoutArea(path, split)
    before = len(faults)
    for number, each in enumerate(document.findall("object"), 1):
        if _text(each, "deleted") == "1":
            continue
        label = _text(each, "name")
        try:
            rasterizer = _make_rasterizer(index.root, path, each)
            if not label:
                raise DataError("has no name", code="unknown-class")
        except DataError as error:
            problem, remedy = f"object {number} ({label}) {error}", "draw it again"
            faults.append(Fault(error.kind, path, problem, remedy, name, split))
            continue
        if not without_area.covers(rasterizer, name, f"object {number} ({label})"):
            continue
        rectangles += [len(shapes)] if _text(each, "type") == "bounding_box" else []
        shapes.append((label, rasterizer))
    complete = without_area.keeps(name, len(shapes)) and len(faults) == before
    faults += without_area.faults()
    if size is not None and rectangles:
        shapes = boxes.drop(shapes, rectangles, size, path, images[0])
    return AnnotatedImage(name, images[0], path, size, tuple(shapes), complete)


def _find_images(index: ImageIndex, path: Path, folder: str, file_name: str) -> list[Path]:
    """Return the image next to the file, or in the folder of `Images` that is its folder of `Annotations`, or any."""
    places = [path.parent, *_siblings(path.parent, IMAGES), index.root / IMAGES / folder]
    for place in places:
        image = place / file_name
        if is_image(image, BAND_SUFFIXES) and image.is_file():
            return [index.prefer_inside(path, f"{folder}/{file_name}", image)]
    return index.find_foreign(path, f"{folder}/{file_name}") or index.find_stem(path)


def _siblings(folder: Path, name: str) -> list[Path]:
    """Return the folder with `name` in place of LabelMe's `Annotations`, if that is part of its path."""
    parts = folder.parts
    positions = [position for position, part in enumerate(parts) if part.casefold() == ANNOTATIONS]
    return [Path(*parts[:position], name, *parts[position + 1 :]) for position in reversed(positions)]


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _size(document: Element) -> Size | None:
    try:
        height, width = (int(_text(document, f"imagesize/{key}")) for key in ("nrows", "ncols"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _make_rasterizer(root: Path, path: Path, each: Element) -> Rasterizer:
    """Return the rasterizer of an object. Raises DataError, worded to follow the object's name."""
    polygon, segmentation = each.find("polygon"), each.find("segm")
    if polygon is not None:
        return partial(fill_rings, (_corners(polygon),))
    if segmentation is None:
        raise DataError("has neither polygon nor mask", code="damaged-shape")
    name = _text(segmentation, "mask")
    relative = path.parent.relative_to(root)
    places = [path.parent / MASKS, path.parent, *_siblings(path.parent, MASKS), root / MASKS / relative]
    mask = next((place / name for place in places if name and (place / name).is_file()), None)
    if mask is not None and not mask.resolve().is_relative_to(root.resolve()):
        raise DataError(f"has the mask {name!r}, which lies outside of the data set", code="outside-data")
    if mask is None:
        raise DataError(f"has the mask {name!r}, which does not exist", code="missing-file")
    return partial(_read_mask, mask)


def _corners(polygon: Element) -> Float64:
    try:
        corners = np.array([(float(_text(pt, "x")), float(_text(pt, "y"))) for pt in polygon.findall("pt")], np.float64)
    except ValueError:
        raise DataError("has a corner that is not a number", code="damaged-shape") from None
    if not np.isfinite(corners).all():
        raise DataError("has a corner that is not a number", code="damaged-shape")
    return corners.reshape(-1, 2)


def _read_mask(path: Path, size: Size) -> Patch:
    """Return the pixels of a mask file of the image's size that are not 0."""
    with open_with_pillow(path) as image, decoding_errors(path):
        mask = np.asarray(image.convert("L")) > 0
    if mask.shape != size:
        raise DataError(f"has the mask {path.name} of another size than the image", code="damaged-shape")
    return Patch(0, 0, mask)

"""Read Supervisely projects: meta.json, and the folders `img` and `ann` of each dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import FiniteFloat, TypeAdapter

from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of
from fullconv.data.annotations.json_file import parse, parse_each
from fullconv.data.annotations.png_mask import png_rasterizer
from fullconv.data.annotations.shapes import Rasterizer, fill_rings
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.dataset import DataSet
from fullconv.data.pairing import is_image, normalize_stem
from fullconv.data.splits import split_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.images import BAND_SUFFIXES

__all__ = ["find_projects", "read_supervisely"]

META = "meta.json"

WITHOUT_AREA = (
    "rectangle",
    "point",
    "polyline",
    "line",
    "graph",
    "cuboid",
    "cuboid_2d",
    "oriented_bbox",
    "multichannel",
)
"""Types of objects, and shapes of classes, that cover no pixel: a box around an object is not its area."""

PROBED = 20

Ring = list[tuple[FiniteFloat, FiniteFloat]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Class:
    title: str
    shape: str = ""


@dataclass(frozen=True)
class _Meta:
    classes: list[_Class]


@dataclass(frozen=True)
class _Size:
    height: int
    width: int


@dataclass(frozen=True)
class _Points:
    exterior: Ring = field(default_factory=list)
    interior: list[Ring] = field(default_factory=list)


@dataclass(frozen=True)
class _Bitmap:
    data: str
    origin: tuple[int, int]


@dataclass(frozen=True)
class _Object:
    classTitle: str
    geometryType: str = ""
    points: _Points | None = None
    bitmap: _Bitmap | None = None


@dataclass(frozen=True)
class _Tag:
    name: str


@dataclass(frozen=True)
class _File:
    size: _Size
    objects: list[_Object]
    tags: list[_Tag | str] = field(default_factory=list)


_META, _FILE = TypeAdapter(_Meta), TypeAdapter(_File)


def find_projects(root: Path) -> list[Path]:
    """Return the folders `ann` below `root` with annotations of Supervisely and a folder `img` next to them."""
    depths = ("ann", "*/ann", "*/*/ann", "*/*/*/ann")
    folders = sorted(folder for pattern in depths for folder in root.glob(pattern) if (folder.parent / "img").is_dir())
    return [folder for folder in folders if any(map(_is_annotation, islice(folder.glob("*.json"), PROBED)))]


def read_supervisely(root: Path, folders: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read the annotations in `folders`; the images are in `img` next to each.

    Classes are those of meta.json in their order, without those whose shape covers no pixel; or all labels, ordered by
    name. The split is that of a dataset's name, or that of an image's tag. Later objects are painted over earlier ones.
    Returns None, and adds faults, if there are no classes.
    """
    meta = _read_meta(root, folders, faults)
    if meta is None:
        return None
    shapes_of = {each.title: each.shape for each in meta.classes}
    splits: dict[str, list[AnnotatedImage]] = {}
    for folder in folders:
        parts = folder.parent.relative_to(root).parts
        split = next((split for part in reversed(parts) if (split := split_of(part))), None)
        prefix = "/".join((*(part for part in parts if part != "datasets"), "")) if len(folders) > 1 else ""
        _read_folder(folder, split, prefix, shapes_of, splits, faults)
    if "" in splits and len(splits) > 1:
        problem = f"{len(splits[''])} images have no split, but others do, first {splits[''][0].image}"
        remedy = "give every image a tag train, val or test, or name the datasets so"
        faults.append(Fault("ambiguous-split", root, problem, remedy))
        del splits[""]
    without = [each.title for each in meta.classes if each.shape in WITHOUT_AREA]
    used = {label for entries in splits.values() for entry in entries for label, _ in entry.shapes}
    names = [each.title for each in meta.classes if each.title in used or each.title not in without] or sorted(used)
    try:
        classes = classes_of(names)
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    about = "of objects that overlap, the later one is on top"
    left = [title for title in without if title not in used]
    if left:
        sentence = f"classes of boxes, points and lines are left out: {', '.join(left)}"
        logger.info(f"{root}: {sentence}")
        about += f"; {sentence}"
    return assemble("supervisely", root, splits, classes, faults, about)


def _is_annotation(path: Path) -> bool:
    try:
        content = read_file(path)
    except OSError:
        return False
    return all(mark in content for mark in (b'"objects"', b'"size"'))


def _read_meta(root: Path, folders: Sequence[Path], faults: list[Fault]) -> _Meta | None:
    """Return the classes of all meta.json above the folders; none if there is no such file."""
    places = dict.fromkeys(
        parent for folder in folders for parent in folder.parents if parent == root or root in parent.parents
    )
    classes: dict[str, _Class] = {}
    for place in reversed([*places]):
        if (place / META).is_file():
            meta = parse(place / META, _META, faults)
            if meta is None:
                return None
            classes |= {each.title: each for each in meta.classes if each.title not in classes}
    return _Meta(list(classes.values()))


def _read_folder(
    folder: Path,
    split: str | None,
    prefix: str,
    shapes_of: dict[str, str],
    splits: dict[str, list[AnnotatedImage]],
    faults: list[Fault],
) -> None:
    files = [path for path in sorted((folder.parent / "img").iterdir()) if is_image(path, BAND_SUFFIXES)]
    images = {normalize_stem(path.name): path for path in files}
    by_stem = {normalize_stem(path.stem): path for path in files}
    without_area = WithoutArea(folder, split)
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    for path, content in parse_each(paths, _FILE, ("objects",), split, faults):
        image = images.get(normalize_stem(path.stem)) or by_stem.get(normalize_stem(path.stem))
        if image is None:
            problem, remedy = f"its image {path.stem!r} is not in {folder.parent / 'img'}", "export with the images"
            faults.append(Fault("missing-image", path, problem, remedy, prefix + Path(path.stem).stem, split))
            continue
        name = prefix + image.stem
        shapes, complete = _read_objects(path, name, content, shapes_of, without_area, faults)
        complete = without_area.keeps(name, len(shapes)) and complete
        size = (content.size.height, content.size.width)
        entry = AnnotatedImage(name, image, path, size, tuple(shapes), complete)
        splits.setdefault(split or _split_of_tags(content) or "", []).append(entry)
    faults += without_area.faults()


def _split_of_tags(content: _File) -> str | None:
    """Return the split that the tags of an image name, if it is one."""
    names = [tag if isinstance(tag, str) else tag.name for tag in content.tags]
    splits = {split for name in names if (split := split_of(name))}
    return splits.pop() if len(splits) == 1 else None


def _read_objects(
    path: Path, name: str, content: _File, shapes_of: dict[str, str], without_area: WithoutArea, faults: list[Fault]
) -> tuple[list[tuple[str, Rasterizer]], bool]:
    """Return the shapes of a file, and whether all of its objects could be used."""
    shapes: list[tuple[str, Rasterizer]] = []
    before = len(faults)
    for number, each in enumerate(content.objects, 1):
        kind = each.geometryType or ("bitmap" if each.bitmap else shapes_of.get(each.classTitle, "polygon"))
        if kind in WITHOUT_AREA:
            without_area.add(kind, name, f"object {number} ({each.classTitle})")
            continue
        try:
            rasterizer = _make_rasterizer(kind, each)
            if without_area.covers(rasterizer, name, f"object {number} ({each.classTitle})"):
                shapes.append((each.classTitle, rasterizer))
        except DataError as error:
            problem = f"object {number} ({each.classTitle}) {error}"
            remedy = "draw it again" if error.code == "damaged-shape" else "draw a polygon or a mask"
            faults.append(Fault(error.kind, path, problem, remedy, name, without_area.split))
    return shapes, len(faults) == before


def _make_rasterizer(kind: str, each: _Object) -> Rasterizer:
    """Return the rasterizer of an object. Raises DataError, worded to follow the object's name."""
    if kind == "polygon" and each.points is not None:
        rings = tuple(
            np.array(ring, np.float64).reshape(-1, 2) for ring in (each.points.exterior, *each.points.interior)
        )
        return partial(fill_rings, rings)
    if kind == "bitmap" and each.bitmap is not None:
        left, top = each.bitmap.origin
        return png_rasterizer(each.bitmap.data, top, left, compressed=True)
    if kind in ("polygon", "bitmap"):
        raise DataError(f"is a {kind} without data", code="damaged-shape")
    raise DataError(f"is of type {kind!r}, which is not read", code="unsupported-shape")

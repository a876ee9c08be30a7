"""Read COCO panoptic: a JSON file for each split, and PNG files whose colours are the ids of segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from fullconv.arrays import UInt8
from fullconv.data.annotations.assembly import assemble_masks, class_fault
from fullconv.data.annotations.image_index import ImageIndex
from fullconv.data.annotations.json_file import parse
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.formats.coco import choose_files, find_image, image_folders, name_of
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import open_with_pillow
from fullconv.images.decoders.open_pillow import decoding_errors, load_upright
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["MARK", "read_coco_panoptic"]

MARK = b'"segments_info"'
"""The key by which a file of this format differs from one of instances."""

VOID = 0
"""The id of pixels without a segment."""


@dataclass(frozen=True)
class _Image:
    id: int | str
    file_name: str


@dataclass(frozen=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True)
class _Segment:
    id: int
    category_id: int
    iscrowd: int = 0


@dataclass(frozen=True)
class _Annotation:
    image_id: int | str
    file_name: str
    segments_info: list[_Segment]


@dataclass(frozen=True)
class _File:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_FILE = TypeAdapter(_File)


def read_coco_panoptic(root: Path, files: Sequence[Path], faults: list[Fault]) -> DataSet | None:
    """Read COCO panoptic files; the name of a file, or of its folder, gives its split.

    Classes are the categories, ordered by id. Pixels without a segment and those of crowds are ignored. Returns None,
    and adds faults, if there are no classes.
    """
    parsed: dict[str, tuple[Path, _File]] = {}
    for split, path in choose_files(root, files, faults).items():
        content = parse(path, _FILE, faults)
        if content is not None:
            parsed[split] = path, content
    names = _read_categories(parsed.values(), faults)
    try:
        labels = LabelSet.named([names[key] for key in sorted(names)]) if names else None
    except DataError as error:
        faults.append(class_fault(root, error))
        return None
    if labels is None:
        if parsed:
            remedy = "export them with the names of the classes"
            faults.append(Fault("class-names", root, "the annotations contain no categories", remedy))
        return None
    class_of = {key: index for index, key in enumerate(sorted(names))}
    index = ImageIndex(root)
    splits = {
        split: _read_samples(index, split, path, content, class_of, faults) for split, (path, content) in parsed.items()
    }
    index.log()
    about = "pixels without a segment, and segments that are crowds, are ignored"
    return assemble_masks("coco_panoptic", root, labels, splits, faults, about)


def _read_categories(parsed: Iterable[tuple[Path, _File]], faults: list[Fault]) -> dict[int, str]:
    names: dict[int, str] = {}
    for path, content in parsed:
        for category in content.categories:
            if names.setdefault(category.id, category.name) != category.name:
                problem = f"category {category.id} is {category.name!r} here, but {names[category.id]!r} elsewhere"
                faults.append(Fault("class-mismatch", path, problem, "use one name for each category"))
    return names


def _read_samples(
    index: ImageIndex, split: str, path: Path, content: _File, class_of: dict[int, int], faults: list[Fault]
) -> list[Sample]:
    images = {image.id: image for image in content.images}
    folders = image_folders(index.root, split, path)
    maps = [folder for folder in _map_folders(index.root, path) if folder.is_dir()]
    samples = []
    for annotation in content.annotations:
        image = images.get(annotation.image_id)
        if image is None:
            problem = f"a mask belongs to image {annotation.image_id}, which the file does not contain"
            faults.append(Fault("unknown-image", path, problem, "export it again", split=split or None))
            continue
        name = name_of(image.file_name)
        unknown = sorted({segment.category_id for segment in annotation.segments_info} - class_of.keys())
        if unknown:
            problem = f"image {image.file_name} has category {unknown[0]}, which no file defines"
            faults.append(Fault("unknown-class", path, problem, "export it again", name, split or None))
            continue
        pair = []
        for places, file_name, kind in (
            (folders, image.file_name, "missing-image"),
            (maps, annotation.file_name, "missing-mask"),
        ):
            found = find_image(index, path, places, file_name, _reference(places, file_name))
            if len(found) == 1:
                pair.append(found[0])
                continue
            problem = f"{file_name!r} is not in the data set"
            if found:
                kind, problem = "ambiguous-image", f"{file_name!r} may be {found[0]} or {found[1]}"
            faults.append(Fault(kind, path, problem, "put it there, or correct the name", name, split or None))
        if len(pair) == 2:
            ids = {s.id: IGNORE_INDEX if s.iscrowd else class_of[s.category_id] for s in annotation.segments_info}
            samples.append(Sample(name, pair[0], pair[1], partial(_read_map, pair[1], ids)))
    return samples


def _map_folders(root: Path, path: Path) -> list[Path]:
    """Return the folders in which the PNG files may be: named after the JSON file, next to it, or in the data set."""
    return [path.with_suffix(""), root / path.stem, root / "panoptic" / path.stem, path.parent]


def _reference(places: Sequence[Path], file_name: str) -> str:
    return f"{places[0].name}/{file_name}" if places and "/" not in file_name.replace("\\", "/") else file_name


def _read_map(path: Path, ids: dict[int, int]) -> UInt8:
    """Read a map of segment ids, R + 256 G + 65536 B, as H x W uint8 class ids and 255."""
    with open_with_pillow(path) as image, decoding_errors(path):
        rgb = np.asarray(load_upright(image).convert("RGB")).astype(np.int32)
    segments = rgb @ np.array([1, 256, 65536], np.int32)
    values, inverse = np.unique(segments, return_inverse=True)
    known = ids | {VOID: IGNORE_INDEX}
    unknown = [int(value) for value in values if int(value) not in known]
    if unknown:
        problem = f"holds the segment {unknown[0]}, which its JSON file does not list"
        raise DataError.of(Fault("unknown-label", path, problem, "export the annotations again"))
    table = np.array([known[int(value)] for value in values], np.uint8)
    return table[inverse].reshape(segments.shape)

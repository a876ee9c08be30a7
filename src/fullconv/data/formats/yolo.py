"""Read YOLO segmentation: a text file of polygons for each image, and data.yaml with names and splits."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.assembly import assemble, class_fault, classes_of
from fullconv.data.annotations.data_yaml import find_data_yaml, read_names_file
from fullconv.data.annotations.shapes import Rasterizer, fill_shares
from fullconv.data.annotations.without_area import WithoutArea
from fullconv.data.annotations.yolo_images import ImagesOfSplits, find_images
from fullconv.data.dataset import DataSet
from fullconv.data.pairing import normalize_stem
from fullconv.errors import DataError
from fullconv.faults import Fault, unreadable
from fullconv.files import list_files, read_file
from fullconv.images import BAND_SUFFIXES

__all__ = ["is_yolo", "read_yolo"]

BOX = 5
"""Numbers in the row of a box: class, centre, width and height."""

FEWEST = 7
"""Numbers in the row of the smallest polygon: class and three corners."""

OUTSIDE = 1.0
"""Corners may lie outside of the image by this share of its sides; larger numbers are pixels, not shares."""

PROBED = 20

LEFT_OUT = 0.1
"""At most this share of the label files may lack an image and be left out; more is a fault."""

_ROW = re.compile(r"\d++(\.0*+)?+(\s++[-+]?+(\d++(\.\d*+)?+|\.\d++)([eE][-+]?+\d++)?+){4,}+\s*+")
"""Possessive: with backtracking, a row of long numbers that ends in another character takes for ever."""


logger = logging.getLogger(__name__)


def is_yolo(root: Path) -> bool:
    """Return whether a folder has text files with rows of YOLO: in `labels`, or next to images of the same stem."""
    for folder in list_files(root).folders:
        texts = folder.having((".txt",))
        if not texts:
            continue
        if not any(part.casefold() == "labels" for part in folder.parts):
            stems = {normalize_stem(Path(name).stem) for name in folder.having(tuple(BAND_SUFFIXES))}
            texts = tuple(name for name in texts if normalize_stem(Path(name).stem) in stems)
        verdicts = (verdict for name in islice(texts, PROBED) if (verdict := _has_rows(folder.path / name)) is not None)
        if next(verdicts, False):
            return True
    return False


def read_yolo(root: Path, faults: list[Fault]) -> DataSet | None:
    """Read the images of each split with the text files in the folders that `LabelFolders` finds.

    Smaller shapes are painted over larger ones, as ultralytics does. Images without a file, or with an empty one, are
    background. Boxes have no area. Returns None, and adds faults, if there are no classes.
    """
    try:
        description = find_data_yaml(root)
        names = description.names if description is not None else _find_names(root)
    except DataError as error:
        faults += error.faults_at(root)
        return None
    if not names:
        problem = "has YOLO's label files, but no file that names the classes"
        remedy = "write data.yaml with a line such as `names: [roof, tree]`, in the order of the class numbers"
        faults.append(Fault("class-names", root, problem, remedy))
        return None
    try:
        classes = classes_of(names)
    except DataError as error:
        faults.append(class_fault(description.path if description is not None else root, error))
        return None
    images = find_images(root, description, faults)
    if images is None:
        return None
    _report_lonely(images, faults)
    rows = _Rows(names, description is not None and description.has_keypoints)
    splits = {split: list(_read_split(split, images, rows, faults)) for split in images.of_split}
    splits = {split: entries for split, entries in splits.items() if entries}
    sentences = ["of shapes that overlap, the one of fewer pixels is on top", *images.notes, *_notes(splits)]
    for note in sentences[1:]:
        logger.info(f"{root}: {note}")
    return assemble("yolo", root, splits, classes, faults, "; ".join(sentences), by_area=True)


def _find_names(root: Path) -> tuple[str, ...]:
    folders = [root, *(folder.path for folder in list_files(root).folders)]
    return next((names for folder in folders if (names := read_names_file(folder))), ())


def _has_rows(path: Path) -> bool | None:
    """Return whether all lines of a file are rows of YOLO; None if it is empty."""
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    rows = [line for line in lines if line.strip()]
    return all(_ROW.fullmatch(line.strip()) for line in rows) if rows else None


class _Rows:
    """Reads the rows of label files."""

    def __init__(self, names: Sequence[str], has_keypoints: bool) -> None:
        self.names = names
        self.has_keypoints = has_keypoints

    def read(
        self, path: Path, entry: str, without_area: WithoutArea, faults: list[Fault]
    ) -> list[tuple[str, Rasterizer]]:
        """Return the shapes of a file; boxes are counted, and damaged rows become faults."""
        shapes: list[tuple[str, Rasterizer]] = []
        lines = read_file(path).decode("utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            try:
                index, values = _numbers(fields)
            except DataError as error:
                remedy = "correct the line, or export the labels again"
                faults.append(Fault(error.kind, path, f"line {number} {error}", remedy, entry, without_area.split))
                continue
            if index >= len(self.names):
                problem = f"line {number} has class {index}, but the classes are 0 to {len(self.names) - 1}"
                remedy = "correct it, or name the class"
                faults.append(Fault("unknown-class", path, problem, remedy, entry, without_area.split))
            elif len(fields) == BOX or self.has_keypoints:
                without_area.add("box" if len(fields) == BOX else "keypoints", entry, f"line {number}")
            else:
                ring = np.array(values, np.float64).reshape(-1, 2)
                shapes.append((self.names[index], partial(fill_shares, ring)))
        return shapes


def _numbers(fields: Sequence[str]) -> tuple[int, list[float]]:
    """Return class and coordinates of a row. Raises DataError, worded to follow the line's number."""
    try:
        first, *values = map(float, fields)
    except ValueError:
        raise DataError(f"is not a row of numbers: {' '.join(fields)[:40]!r}", code="damaged-shape") from None
    if not math.isfinite(first) or first < 0 or first != int(first) or not all(map(math.isfinite, values)):
        raise DataError(f"is not a class and coordinates: {' '.join(fields)[:40]!r}", code="damaged-shape")
    if len(fields) != BOX and (len(fields) < FEWEST or len(values) % 2):
        raise DataError(f"has {len(values)} coordinates, which are neither a box nor a polygon", code="damaged-shape")
    if min(values) < -OUTSIDE or max(values) > 1 + OUTSIDE:
        farthest = max(values, key=abs)
        raise DataError(
            f"has the coordinate {farthest:g}, which is not a share of the image's side", code="damaged-shape"
        )
    return int(first), values


def _read_split(split: str, images: ImagesOfSplits, rows: _Rows, faults: list[Fault]) -> Iterator[AnnotatedImage]:
    """Yield the images of a split; nothing, and a note or a fault, if none of them has a label file."""
    files = [(name, image, images.labels.find_file(image)) for name, image in images.of_split[split]]
    labelled = [label for _, _, label in files if label.is_file()]
    if not labelled:
        _report_unlabelled(split, images, faults)
        return
    without_area = WithoutArea(labelled[0].parent, split or None)
    for name, image, label in files:
        if not label.is_file():
            yield AnnotatedImage(name, image, label, None, (), relative=True)
            continue
        before = len(faults)
        try:
            shapes = rows.read(label, name, without_area, faults)
        except OSError as error:
            faults.append(replace(unreadable(label, error), sample=name, split=split or None))
            continue
        complete = without_area.keeps(name, len(shapes)) and len(faults) == before
        yield AnnotatedImage(name, image, label, None, tuple(shapes), complete, relative=True)
    faults += without_area.faults()


def _report_unlabelled(split: str, images: ImagesOfSplits, faults: list[Fault]) -> None:
    count, folder = len(images.of_split[split]), images.of_split[split][0][1].parent
    if split == "test":
        images.notes.append(f"test is not used, because none of its {count} images has a label file")
        return
    problem = f"none of its {count} images has a label file in {images.labels.find(folder)}"
    faults.append(Fault("missing-mask", folder, problem, "put the label files there", split=split or None))


def _report_lonely(images: ImagesOfSplits, faults: list[Fault]) -> None:
    """Report label files without an image: a few in a note, many as a fault, and each that is near an image's name."""
    of_folder: dict[Path, dict[str, Path]] = defaultdict(dict)
    own = set()
    for named in images.of_split.values():
        for _, image in named:
            of_folder[images.labels.find(image.parent)][normalize_stem(image.stem)] = image
            own.add(image.parent)
    for folder, expected in of_folder.items():
        texts = images.labels.files(folder)
        lonely = [path for stem, path in texts.items() if stem not in expected and _has_rows(path)]
        similar = _find_similar(lonely, [image for stem, image in expected.items() if stem not in texts])
        for path, image in similar.items():
            problem = f"has no image, but {image} has no label file, and nearly this name"
            faults.append(Fault("orphan-mask", path, problem, "give both the same name"))
        lonely = [path for path in lonely if path not in similar]
        if not lonely or folder in own:  # other text files may lie among the images
            continue
        if len(lonely) <= max(1, LEFT_OUT * len(texts)):
            images.notes.append(f"{len(lonely)} label file(s) have no image and are not used, first {lonely[0]}")
            continue
        problem = f"{len(lonely)} of {len(texts)} label files have no image, first {lonely[0].name}"
        faults.append(Fault("orphan-mask", folder, problem, "add the images, or remove the label files"))


def _find_similar(files: Sequence[Path], images: Sequence[Path]) -> dict[Path, Path]:
    """Return the image of each label file whose name differs only in case or in what stands between words."""
    by_key = {key: image for image in images if (key := _letters(image.stem))}
    return {path: by_key[key] for path in files if (key := _letters(path.stem)) in by_key}


def _letters(stem: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKD", stem).casefold()).strip()


def _notes(splits: dict[str, list[AnnotatedImage]]) -> list[str]:
    entries = [entry for images in splits.values() for entry in images]
    background = [entry for entry in entries if entry.complete and not entry.shapes]
    if not background:
        return []
    return [
        f"{len(background)} of {len(entries)} images have no label file or an empty one, and are background, "
        f"first {background[0].name}"
    ]

"""From annotated images to a data set: class ids, splits, and what all formats of shapes check alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from fullconv.data.dataset import DataSet, Sample, is_stored_sideways
from fullconv.data.formats.shapes import Area, Size, draw
from fullconv.data.splits import SPLITS, split_by_hash
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import image_size
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = [
    "BACKGROUNDS",
    "IGNORED",
    "AnnotatedImage",
    "Classes",
    "Drawing",
    "assemble",
    "class_fault",
    "classes_of",
    "parse",
    "shape_fault",
]

IGNORED = "__ignore__"
"""The label of shapes whose pixels become `IGNORE_INDEX`, in labelme's tools too."""

BACKGROUNDS = ("background", "_background_")
"""Names, in any case of letters, of the class of pixels that no shape covers."""

SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its shapes, each a label and its area; `size` is the (height, width) that `source` says.

    `source` is the annotation file, and `size` None where it is silent. An image is not `whole` where some of its
    shapes cannot be used, which the faults tell.
    """

    name: str
    image: Path
    source: Path
    size: Size | None
    shapes: tuple[tuple[str, Area], ...]
    whole: bool = True


@dataclass(frozen=True, eq=False)
class Drawing:
    """The `reader` of a sample: draws the label map of an image of a size (height, width) from its shapes."""

    entry: AnnotatedImage
    size: Size
    classes: Classes
    by_area: bool

    def __call__(self) -> npt.NDArray[np.uint8]:
        """As `draw`, in the name of the file and the image."""
        shapes = [(self.classes.ids[label], area) for label, area in self.entry.shapes]
        try:
            return draw(self.size, shapes, self.classes.uncovered, self.by_area)
        except DataError as error:
            fault = shape_fault(self.entry.source, f"image {self.entry.image}", error, self.entry.name)
            raise DataError.of(fault) from None

    def empty(self) -> Iterator[Fault]:
        """Yield a fault for each label of which shapes cover no pixel; DataError for damaged ones."""
        empty = Counter(label for label, area in self.entry.shapes if not area(self.size).mask.any())
        for label, count in empty.items():
            shapes = "a shape" if count == 1 else f"{count} shapes"
            problem = f"{shapes} of {label!r} on {self.entry.image} cover{'s' * (count == 1)} no pixel"
            remedy = "draw again what is missing, or remove what is empty"
            yield Fault("empty-polygon", self.entry.source, problem, remedy, self.entry.name)


@dataclass(frozen=True)
class Classes:
    """The classes, the id of each label that shapes may have, and the label of pixels without a shape."""

    labels: LabelSet
    ids: dict[str, int]
    uncovered: int

    @property
    def about(self) -> str:
        """What happens to pixels without a shape, in words."""
        what = "are ignored" if self.uncovered == IGNORE_INDEX else f"are {self.labels.class_names[self.uncovered]}"
        return f"pixels that no shape covers {what}"


def classes_of(names: Sequence[str], complete: bool = False) -> Classes:
    """The classes of an ordered list of labels, in which `IGNORED` stands for no class.

    Pixels without a shape are of the class that is called as in `BACKGROUNDS`. Where there is none, it is put in front,
    unless the list is `complete`: then they are ignored. Raises DataError as `LabelSet` does.
    """
    known = [name for name in names if name != IGNORED]
    background = next((name for name in known if name.casefold() in BACKGROUNDS), None)
    if background is None and not complete:
        background = BACKGROUNDS[0]
        known.insert(0, background)
    labels = LabelSet.named(known)
    ids = {name: index for index, name in enumerate(known)}
    uncovered = IGNORE_INDEX if background is None else ids[background]
    return Classes(labels, ids | {IGNORED: IGNORE_INDEX}, uncovered)


def shape_fault(path: Path, place: str, error: DataError, sample: str | None = None, split: str | None = None) -> Fault:
    """Return what is wrong with a shape as a fault of its file; `place` says which shape, or of which image."""
    remedy = "draw the shape again, or export the annotations again"
    return Fault(error.kind, path, f"{place}: {error}", remedy, sample, split)


def class_fault(path: Path, error: DataError) -> Fault:
    """Return what is wrong with the names of the classes as a fault of the file or folder that has them."""
    return Fault("class-names", path, str(error), "correct the names of the classes")


def parse(path: Path, kind: TypeAdapter[T], faults: list[Fault]) -> T | None:
    """A JSON file as `kind` describes it; None, and faults that name the places, where it is not."""
    try:
        return kind.validate_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        faults.append(Fault("unreadable-file", path, problem, "check its permissions"))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = []
        for entry in found[:SHOWN]:
            place = ".".join(map(str, entry["loc"]))
            problems.append((f"at {place}: " if place else "") + entry["msg"][0].lower() + entry["msg"][1:])
        if len(found) > SHOWN:
            problems.append(f"{len(found) - SHOWN} more places are not as they should be")
        faults += [Fault("invalid-annotations", path, problem, "export it again") for problem in problems]
    return None


def assemble(
    layout: str,
    root: Path,
    splits: Mapping[str, Sequence[AnnotatedImage]],
    classes: Classes,
    faults: list[Fault],
    about: str,
    by_area: bool = False,
) -> DataSet:
    """The data set of annotated images whose files are there and have the size that the annotations say.

    `about` says which shape is on top. A split that is called by no name of a split is divided by a hash. What is wrong
    goes to `faults`, and its image is left out.
    """
    found: dict[str, tuple[Sample, ...]] = {}
    seen: dict[Path, Path] = {}
    for split, images in splits.items():
        kept = []
        for entry in images:
            sample, wrong = _sample(entry, classes, by_area, seen)
            faults += [replace(fault, sample=entry.name, split=split or None) for fault in wrong]
            kept += [sample] if sample is not None else []
        found[split] = tuple(kept)
    sentences = [classes.about, about]
    if not found.keys() & set(SPLITS):
        found = split_by_hash(tuple(sample for samples in found.values() for sample in samples))
        sentences.append("train and val are divided by a hash of the names")
    if not any(entry.shapes for images in splits.values() for entry in images) and not faults:
        remedy = "draw polygons or masks, and export them"
        faults.append(Fault("no-shapes", root, "no image has a shape that covers pixels", remedy))
    order = [split for split in SPLITS if split in found]
    splits_found = {split: found[split] for split in order}
    return DataSet(layout, root, classes.labels, splits_found, about="; ".join(sentences))


def _sample(
    entry: AnnotatedImage, classes: Classes, by_area: bool, seen: dict[Path, Path]
) -> tuple[Sample | None, list[Fault]]:
    """The sample of an annotated image, None where it cannot be used, and its faults."""
    faults: list[Fault] = []
    if entry.image in seen:
        problem = f"annotates {entry.image}, which {seen[entry.image]} does already"
        faults.append(Fault("duplicate-image", entry.source, problem, "keep one annotation of each image"))
    seen.setdefault(entry.image, entry.source)
    try:
        size = image_size(entry.image)
    except DataError as error:
        return None, [*faults, *error.faults_at(entry.image)]
    if entry.size is not None and entry.size != size:
        faults.append(_size_fault(entry, entry.size, size))
    unknown = sorted({label for label, _ in entry.shapes} - classes.ids.keys())
    if unknown:
        problem = f"has the label {unknown[0]!r}, which the list of classes has not"
        faults.append(Fault("unknown-class", entry.source, problem, "add it to the list, or correct the label"))
    if faults or not entry.whole:
        return None, faults
    return Sample(entry.name, entry.image, entry.source, Drawing(entry, size, classes, by_area)), faults


def _size_fault(entry: AnnotatedImage, said: Size, size: Size) -> Fault:
    """The image has another size (height, width) than its annotations say. No repair turns shapes."""
    problem = f"says that {entry.image} is {said[1]}x{said[0]} (width x height), but it is {size[1]}x{size[0]}"
    if is_stored_sideways(entry.image, said):
        problem += " when it is turned upright by its EXIF orientation, and the shapes are not"
        remedy = "remove the orientation from the file, or annotate the image upright"
        return Fault("exif-rotation", entry.source, problem, remedy, sure=False)
    remedy = "put back the image that was annotated, or export the annotations again"
    return Fault("size-mismatch", entry.source, problem, remedy)

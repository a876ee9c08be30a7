"""From annotated images to a data set: class ids, splits, and what all formats of shapes check alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from fullconv.data.dataset import DataSet, Sample, lies_turned
from fullconv.data.formats.shapes import Area, Size, draw
from fullconv.data.splits import SPLITS, hash_split
from fullconv.errors import DataError
from fullconv.images import image_size
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["BACKGROUNDS", "IGNORED", "AnnotatedImage", "Classes", "Drawing", "assemble", "classes_of", "parse"]

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
            raise DataError(f"{self.entry.source}: image {self.entry.image}: {error}") from None

    def empty(self) -> Iterator[str]:
        """A sentence for each label of which shapes cover no pixel; DataError for damaged ones."""
        empty = Counter(label for label, area in self.entry.shapes if not area(self.size).mask.any())
        for label, count in empty.items():
            shapes = "a shape" if count == 1 else f"{count} shapes"
            yield (
                f"{self.entry.source}: {shapes} of {label!r} on {self.entry.image} cover{'s' * (count == 1)} no pixel; "
                "draw again what is missing, or remove what is empty"
            )


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


def parse(path: Path, kind: TypeAdapter[T], faults: list[str]) -> T | None:
    """A JSON file as `kind` describes it; None, and faults that name the places, where it is not."""
    try:
        return kind.validate_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        faults.append(f"{path}: cannot be read ({error.strerror or error}); check its permissions")
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        for fault in found[:SHOWN]:
            place = ".".join(map(str, fault["loc"]))
            what = fault["msg"][0].lower() + fault["msg"][1:]
            faults.append(f"{path}: {f'at {place}: ' if place else ''}{what}; export it again")
        if len(found) > SHOWN:
            faults.append(f"{path}: {len(found) - SHOWN} more places are not as they should be; export it again")
    return None


def assemble(
    layout: str,
    root: Path,
    splits: Mapping[str, Sequence[AnnotatedImage]],
    classes: Classes,
    faults: list[str],
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
        samples = (_sample(entry, classes, by_area, seen, faults) for entry in images)
        found[split] = tuple(sample for sample in samples if sample is not None)
    sentences = [classes.about, about]
    if not found.keys() & set(SPLITS):
        found = hash_split(tuple(sample for samples in found.values() for sample in samples))
        sentences.append("train and val are divided by a hash of the names")
    if not any(entry.shapes for images in splits.values() for entry in images) and not faults:
        faults.append(f"{root}: no image has a shape that covers pixels; draw polygons or masks, and export them")
    order = [split for split in SPLITS if split in found]
    splits_found = {split: found[split] for split in order}
    return DataSet(layout, root, classes.labels, splits_found, about="; ".join(sentences))


def _sample(
    entry: AnnotatedImage, classes: Classes, by_area: bool, seen: dict[Path, Path], faults: list[str]
) -> Sample | None:
    before = len(faults)
    if entry.image in seen:
        faults.append(
            f"{entry.source}: annotates {entry.image}, which {seen[entry.image]} does already; "
            "keep one annotation of each image"
        )
    seen.setdefault(entry.image, entry.source)
    try:
        size = image_size(entry.image)
    except DataError as error:
        faults.append(str(error))
        return None
    if entry.size is not None and entry.size != size:
        found, remedy = "", "put back the image that was annotated, or export the annotations again"
        if lies_turned(entry.image, entry.size):
            found = " when it is turned upright by its EXIF orientation, and the shapes are not"
            remedy = "remove the orientation from the file, or annotate the image upright"
        faults.append(
            f"{entry.source}: says that {entry.image} is {entry.size[1]}x{entry.size[0]} (width x height), but it is "
            f"{size[1]}x{size[0]}{found}; {remedy}"
        )
    unknown = sorted({label for label, _ in entry.shapes} - classes.ids.keys())
    if unknown:
        faults.append(
            f"{entry.source}: has the label {unknown[0]!r}, which the list of classes has not; "
            "add it to the list, or correct the label"
        )
    if len(faults) > before or not entry.whole:
        return None
    return Sample(entry.name, entry.image, entry.source, Drawing(entry, size, classes, by_area))

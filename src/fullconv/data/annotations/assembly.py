"""Build a data set from annotated images: class ids, splits, and the checks that all formats of shapes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fullconv.arrays import Float64, UInt8
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.json_file import are_few
from fullconv.data.annotations.orientation import Frame, find_frames, frame_fault, make_upright, read_headers
from fullconv.data.annotations.shapes import Size, draw
from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.data.splits import SPLITS, UNDIVIDED
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import ImageHeader, image_size, read_header
from fullconv.labels import IGNORE_INDEX, LabelSet, fold_name

__all__ = [
    "BACKGROUNDS",
    "IGNORED",
    "Classes",
    "Drawing",
    "assemble",
    "assemble_masks",
    "class_fault",
    "classes_of",
    "pair_coordinates",
    "shape_fault",
]

IGNORED = "__ignore__"
"""The label of shapes whose pixels become `IGNORE_INDEX`, as in labelme's tools."""

BACKGROUNDS = ("background", "_background_")
"""Names of the class of pixels that no shape covers; case does not matter."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """The `reader` of a sample: draws the label map from the shapes.

    `size` is the height and width of the pixels that the shapes were drawn on. If these are the stored pixels,
    `orientation` is the EXIF orientation that makes them upright.
    """

    entry: AnnotatedImage
    size: Size
    classes: Classes
    by_area: bool
    orientation: int = 1

    def __call__(self) -> UInt8:
        """Return the label map, H x W uint8. Raises DataError, which names file and image, for a damaged shape."""
        shapes = [(self.classes.ids[label], rasterize) for label, rasterize in self.entry.shapes]
        try:
            label_map = draw(self.size, shapes, self.classes.uncovered, self.by_area)
            return make_upright(label_map, self.orientation)
        except DataError as error:
            fault = shape_fault(self.entry.source, f"image {self.entry.image}", error, self.entry.name)
            raise DataError.of(fault) from None

    def empty_shapes(self) -> Iterator[Fault]:
        """Yield a fault for each label with shapes that cover no pixel. Raises DataError for damaged shapes."""
        counts = Counter(label for label, rasterize in self.entry.shapes if not rasterize(self.size).pixels)
        for label, count in counts.items():
            shapes = "a shape" if count == 1 else f"{count} shapes"
            problem = f"{shapes} of {label!r} on {self.entry.image} cover{'s' * (count == 1)} no pixel"
            remedy = "draw missing objects again, or remove the empty shapes"
            yield Fault("empty-polygon", self.entry.source, problem, remedy, self.entry.name)


@dataclass(frozen=True)
class Classes:
    """The classes, the id of each label that shapes may have, and the id of pixels that no shape covers."""

    labels: LabelSet
    ids: dict[str, int]
    uncovered: int

    def label_of(self, written: str) -> str:
        """Return the label of a class for what a shape has: names that differ only by case or blanks are one class."""
        if written in self.ids:
            return written
        folded = fold_name(written)
        return next((name for name in self.ids if fold_name(name) == folded), written)

    @property
    def about(self) -> str:
        """Return a sentence on the pixels that no shape covers."""
        if self.uncovered == IGNORE_INDEX:
            return "pixels that no shape covers are ignored"
        return f"pixels that no shape covers are {self.labels.class_names[self.uncovered]}"


def classes_of(names: Sequence[str], complete: bool = False) -> Classes:
    """Return the classes of an ordered list of labels; the label `IGNORED` is not a class.

    Labels that differ only by case or blanks are one class, with the first one's name.

    Pixels that no shape covers belong to the class with a name in `BACKGROUNDS`. If the list has none, "background" is
    inserted as class 0; if the list is `complete`, these pixels are ignored instead. Raises DataError as `LabelSet`
    does.
    """
    first: dict[str, str] = {}
    for name in names:
        if name != IGNORED:
            first.setdefault(fold_name(name), name)
    known = list(first.values())
    background = next((name for name in known if name.casefold() in BACKGROUNDS), None)
    if background is None and not complete:
        background = BACKGROUNDS[0]
        known.insert(0, background)
    labels = LabelSet.named(known)
    ids = {name: index for index, name in enumerate(known)}
    ids |= {name: ids[first[fold_name(name)]] for name in names if name != IGNORED}
    uncovered = IGNORE_INDEX if background is None else ids[background]
    return Classes(labels, ids | {IGNORED: IGNORE_INDEX}, uncovered)


def shape_fault(path: Path, shape: str, error: DataError, sample: str | None = None, split: str | None = None) -> Fault:
    """Return the fault of an annotation file with a shape that cannot be used; `shape` names the shape or its image."""
    remedy = "draw the shape again, or export the annotations again"
    return Fault(error.kind, path, f"{shape}: {error}", remedy, sample, split)


def class_fault(path: Path, error: DataError) -> Fault:
    """Return the fault of a file or folder whose class names cannot be used."""
    return Fault("class-names", path, str(error), "correct the names of the classes")


def pair_coordinates(values: Sequence[float]) -> Float64:
    """Return x, y, x, y, ... as n x 2 corners. Raises DataError for an odd number of values."""
    if len(values) % 2:
        raise DataError("a polygon has an odd number of coordinates; each corner needs x and y", code="damaged-shape")
    return np.array(values, np.float64).reshape(-1, 2)


def assemble(
    layout: str,
    root: Path,
    splits: Mapping[str, Sequence[AnnotatedImage]],
    classes: Classes,
    faults: list[Fault],
    about: str,
    by_area: bool = False,
) -> DataSet:
    """Return the data set of annotated images, with the sizes checked against the image files.

    `about` is a sentence on which shape is on top. If no key of `splits` names a split, the images are
    undivided. Faults are added to `faults`, and their images are left out.
    """
    samples_of: dict[str, tuple[Sample, ...]] = {}
    seen: dict[Path, Path] = {}
    splits, spellings = _unify_labels(splits, classes)
    entries = [entry for images in splits.values() for entry in images]
    faults[:] = _skip_few_broken(entries, faults)
    headers = read_headers(entries)
    frames, sentences = find_frames(entries, headers)
    for split, images in splits.items():
        samples = []
        for entry in images:
            sample, sample_faults = _make_sample(entry, classes, by_area, seen, headers, frames)
            faults += [replace(fault, sample=entry.name, split=split or None) for fault in sample_faults]
            samples += [sample] if sample is not None else []
        samples_of[split] = tuple(samples)
    sentences = [classes.about, about, *sentences, *spellings]
    ordered = _order(samples_of)
    if not any(entry.shapes for entry in entries) and not any(fault.severity == "error" for fault in faults):
        remedy = "draw polygons or masks, and export them"
        faults.append(Fault("no-shapes", root, "no image has a shape that covers pixels", remedy))
    return DataSet(layout, root, classes.labels, ordered, about="; ".join(sentences))


def _unify_labels(
    splits: Mapping[str, Sequence[AnnotatedImage]], classes: Classes
) -> tuple[dict[str, list[AnnotatedImage]], list[str]]:
    """Give shapes the labels of classes that differ only by case or blanks; say which labels are one class."""
    written = {label for images in splits.values() for entry in images for label, _ in entry.shapes}
    labels = {label: classes.label_of(label) for label in written}
    spellings: dict[str, set[str]] = {}
    for label in sorted({*written, *classes.ids} - {IGNORED}):
        index = classes.ids.get(labels.get(label, label))
        if index is not None and index != IGNORE_INDEX:
            spellings.setdefault(classes.labels.class_names[index], set()).add(label)
    said = [
        f"{', '.join(map(repr, sorted(found)))} differ only by case or blanks and are the class {name!r}"
        for name, found in spellings.items()
        if len(found) > 1
    ]
    unified = {
        split: [
            replace(entry, shapes=tuple((labels[label], shape) for label, shape in entry.shapes)) for entry in images
        ]
        for split, images in splits.items()
    }
    return unified, said


def assemble_masks(
    layout: str,
    root: Path,
    labels: LabelSet,
    splits: Mapping[str, Sequence[Sample]],
    faults: list[Fault],
    about: str,
) -> DataSet:
    """Return the data set of images with mask files, whose samples have readers; their sizes are compared by header.

    Splits are as in `assemble`. Faults are added to `faults`, and their samples are left out.
    """
    samples_of: dict[str, list[Sample]] = {split: [] for split in splits}
    seen: dict[Path, Path] = {}
    for split, samples in splits.items():
        for sample in samples:
            of_sample = _mask_faults(sample, seen)
            faults += [replace(fault, sample=sample.name, split=split or None) for fault in of_sample]
            samples_of[split] += [] if of_sample else [sample]
    return DataSet(layout, root, labels, _order(samples_of), about=about)


def _order(samples_of: Mapping[str, Sequence[Sample]]) -> dict[str, tuple[Sample, ...]]:
    """Return the splits in order; samples are undivided if no key names a split."""
    if not samples_of.keys() & set(SPLITS):
        samples_of = {UNDIVIDED: [sample for group in samples_of.values() for sample in group]}
    return {split: tuple(samples_of[split]) for split in (*SPLITS, UNDIVIDED) if split in samples_of}


def _mask_faults(sample: Sample, seen: dict[Path, Path]) -> list[Fault]:
    if sample.image in seen:
        problem = f"is a mask of {sample.image}, as {seen[sample.image]} is, too"
        return [Fault("duplicate-image", sample.target, problem, "keep one mask of each image")]
    seen[sample.image] = sample.target
    faults: list[Fault] = []
    sizes = []
    for path in (sample.image, sample.target):
        try:
            sizes.append(image_size(path))
        except DataError as error:
            faults += error.faults_at(path)
    return [size_fault(sample, *sizes)] if len(sizes) == 2 and sizes[0] != sizes[1] else faults


def _skip_few_broken(entries: Sequence[AnnotatedImage], faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults, with damaged shapes as warnings if there is only one, or at most one in twenty shapes.

    Their images are left out, because without the shape its object would be background.
    """
    broken = sum(fault.kind == "damaged-shape" for fault in faults)
    sound = sum(len(entry.shapes) for entry in entries if entry.complete)
    if not are_few(broken, sound + broken):
        return list(faults)
    remedy = "draw it again; its image is left out until then"
    return [
        replace(fault, kind="skipped-shape", remedy=remedy) if fault.kind == "damaged-shape" else fault
        for fault in faults
    ]


def _make_sample(
    entry: AnnotatedImage,
    classes: Classes,
    by_area: bool,
    seen: dict[Path, Path],
    headers: Mapping[Path, ImageHeader],
    frames: Mapping[Path, Frame],
) -> tuple[Sample | None, list[Fault]]:
    """Return the sample of an annotated image, or None if it cannot be used, and its faults."""
    faults: list[Fault] = []
    if entry.image in seen:
        problem = f"annotates {entry.image}, which {seen[entry.image]} annotates, too"
        faults.append(Fault("duplicate-image", entry.source, problem, f"remove {entry.source} or {seen[entry.image]}"))
    seen.setdefault(entry.image, entry.source)
    try:
        header = headers.get(entry.image) or read_header(entry.image)
    except DataError as error:
        return None, [*faults, *error.faults_at(entry.image)]
    frame = frames.get(entry.image, "upright")
    size = header.stored if frame == "stored" else header.size
    if frame in ("both", "neither"):
        faults.append(frame_fault(entry, header, frame))
    elif entry.size is not None and entry.size not in (header.size, header.stored):
        faults.append(_size_fault(entry, entry.size, header.size))
    unknown = sorted({label for label, _ in entry.shapes} - classes.ids.keys())
    if unknown:
        problem = f"uses the label {unknown[0]!r}, which is not in the list of classes"
        faults.append(Fault("unknown-class", entry.source, problem, "add it to the list, or correct the label"))
    if faults or not entry.complete:
        return None, faults
    orientation = header.orientation if frame == "stored" else 1
    drawing = Drawing(entry, size, classes, by_area, orientation)
    shows = frozenset(classes.ids[label] for label, _ in entry.shapes)
    return Sample(entry.name, entry.image, entry.source, drawing, shows), faults


def _size_fault(entry: AnnotatedImage, stated: Size, size: Size) -> Fault:
    """Return the fault of an image that differs in size (height, width) from its annotations."""
    problem = f"states {stated[1]}x{stated[0]} (width x height) for {entry.image}, but the image is {size[1]}x{size[0]}"
    remedy = "restore the image that was annotated, or export the annotations again"
    return Fault("size-mismatch", entry.source, problem, remedy)

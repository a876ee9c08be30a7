"""A data set of images and masks whose folders and files are found by their names and contents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.classes import find_labels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.discovery.collections import Collection, Group, collections_of, grouped
from fullconv.data.discovery.inventory import list_files
from fullconv.data.discovery.mask_summary import ClassReading, MaskSummary, Question
from fullconv.data.discovery.mask_values import decide_classes
from fullconv.data.discovery.name_rule import Matching, find_rules, match_names
from fullconv.data.discovery.patterns import groups_by_pattern
from fullconv.data.discovery.stored_masks import apply_reading, read_stored_mask, summarize
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.splits import UNDIVIDED
from fullconv.errors import DataError, faults_of
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES, image_size
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["LAYOUT", "find_groups", "read_found"]

LAYOUT = "images and masks"
"""What this layout is called."""

LEFT_OUT = 0.1
"""At most this share of the images or masks may lack a partner and be left out; more is a fault."""

PROBE_VALUES = 32
"""A file with no more different values than this, on an image of some size, is taken for a label image."""

Pairs = list[tuple[Path, tuple[Path, ...], str]]


def find_groups(root: Path, options: ReadingOptions = BY_FILES) -> list[Group]:
    """Return the collections of images that have masks; an empty list where the folder does not hold both.

    Raises DataError where `options` name files that do not exist.
    """
    if options.images is not None and options.masks is not None:
        return groups_by_pattern(root, options.images, options.masks)
    collections = collections_of(list_files(root), tuple(BAND_SUFFIXES), _is_label_image)
    groups, _ = grouped(collections)
    return groups if any(group.masks for group in groups) else []


def read_found(root: Path, groups: Sequence[Group], options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read the data set that `find_groups` found.

    Images and masks are paired by names (`name_rule`), and classes follow from what the masks hold (`mask_values`).
    Every inference is a sentence of the data set. Faults go to the list; None means that there are no classes.
    """
    notes: list[str] = []
    pairs: dict[str, Pairs] = {}
    for group in groups:
        if group.masks:
            split = group.split or UNDIVIDED
            pairs.setdefault(split, []).extend(_pair_group(root, group, faults, notes))
        elif group.split in (None, "train", "val"):
            problem = f"the {len(group.images.names)} images have no masks"
            remedy = "add the masks, or move the images away"
            faults.append(Fault("missing-mask", group.images.folder, problem, remedy, split=group.split))
        else:
            notes.append(
                f"{_inside(root, group.images.folder)}: {len(group.images.names)} images without masks are not used"
            )
    if faults:
        return None
    masks = [mask for entries in pairs.values() for _, paths, _ in entries for mask in paths]
    summaries = _summarize_all(masks, faults)
    if faults:
        return None
    reading = _decide(root, summaries, faults, notes)
    if reading is None:
        return None
    splits = {split: _samples(entries, reading, summaries, faults) for split, entries in pairs.items()}
    labels = LabelSet.named(reading.names, reading.colors)
    return DataSet(LAYOUT, root, labels, splits, inferences=tuple(notes))


def _pair_group(root: Path, group: Group, faults: list[Fault], notes: list[str]) -> Pairs:
    """Pair the images of a group with their masks; what is left over is a note, or a fault where it is much."""
    images = group.images
    stems = [images.stem(index) for index in range(len(images.names))]
    found: dict[int, list[Path]] = {}
    for masks in group.masks:
        matching = _match(stems, masks, images, faults)
        if matching is None:
            return []
        for image, partners in matching.pairs.items():
            found.setdefault(image, []).extend(masks.folder / masks.names[partner] for partner in partners)
        where = f"{_inside(root, images.folder)} and {_inside(root, masks.folder)}"
        notes.append(f"{where}: {len(matching.pairs)} pairs; {matching.rule}")
        _check_lonely(images, masks, matching, group.split, faults, notes)
    return [(images.folder / images.names[index], tuple(paths), stems[index]) for index, paths in sorted(found.items())]


def _match(stems: Sequence[str], masks: Collection, images: Collection, faults: list[Fault]) -> Matching | None:
    mask_stems = [masks.stem(index) for index in range(len(masks.names))]
    if images.rule is not None:
        matching = match_names(stems, mask_stems, images.rule)
        matchings = [matching] if matching is not None else []
    else:
        matchings = find_rules(stems, mask_stems)
    if not matchings:
        problem = f"no mask has the name of an image, as {masks.names[0]} and {images.names[0]} show"
        faults.append(Fault("no-common-stem", masks.folder, problem, "give each mask its image's name"))
        return None
    if len(matchings) > 1:
        rules = " or ".join(f"({matching.rule})" for matching in matchings[:3])
        problem = f"images and masks can be paired in several ways: {rules}"
        faults.append(Fault("ambiguous-image", masks.folder, problem, "give each mask its image's name"))
        return None
    return matchings[0]


def _check_lonely(
    images: Collection, masks: Collection, matching: Matching, split: str | None, faults: list[Fault], notes: list[str]
) -> None:
    """Note images and masks without a partner; they are faults where they are many."""
    shared = split is not None and masks.split is None  # masks of all splits in one folder
    for lonely, collection, kind, what in (
        (matching.lonely_images, images, "missing-mask", "image has no mask"),
        (() if shared else matching.lonely_masks, masks, "orphan-mask", "mask has no image"),
    ):
        if not lonely:
            continue
        names = [collection.names[index] for index in lonely]
        if len(lonely) <= max(1, LEFT_OUT * len(collection.names)):
            notes.append(f"left out, because the {what}: {', '.join(names[:5])}" + (", ..." if len(names) > 5 else ""))
            continue
        for name in names:
            remedy = (
                "add its mask, or remove the image" if kind == "missing-mask" else "add its image, or remove the mask"
            )
            faults.append(Fault(kind, collection.folder / name, f"this {what}", remedy, Path(name).stem, split))


def _summarize_all(masks: Iterable[Path], faults: list[Fault]) -> dict[Path, MaskSummary]:
    summaries = {}
    for path in masks:
        try:
            summaries[path] = summarize(read_stored_mask(path))
        except Exception as error:  # one file never stops the others
            faults += faults_of(path, error)
    return summaries


def _decide(
    root: Path, summaries: dict[Path, MaskSummary], faults: list[Fault], notes: list[str]
) -> ClassReading | None:
    try:
        named = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
        return None
    names = table = None
    if named is not None:
        names = named[0].class_names
        if named[1]:
            table = {(r << 16) | (g << 8) | b: index for index, (r, g, b) in enumerate(named[0].palette)}
    decision = decide_classes(list(summaries.values()), names, table)
    if isinstance(decision, Question):
        faults.append(Fault(decision.code, root, decision.problem, decision.remedy))
        return None
    notes += decision.notes
    return decision


def _samples(
    entries: Pairs, reading: ClassReading, summaries: dict[Path, MaskSummary], faults: list[Fault]
) -> tuple[Sample, ...]:
    samples = []
    for image, masks, name in entries:
        try:
            image_size(image)
        except Exception as error:
            faults += faults_of(image, error)
            continue
        reader = partial(_read_united, masks, reading)
        samples.append(Sample(name, image, masks[0], reader, _classes_shown(masks, summaries, reading)))
    return tuple(samples)


def _read_united(masks: tuple[Path, ...], reading: ClassReading) -> UInt8:
    """Read the class ids of a mask; of several masks of one image, one for each object, every pixel's largest id."""
    target = apply_reading(masks[0], reading)
    for path in masks[1:]:
        other = apply_reading(path, reading)
        if other.shape != target.shape:
            problem = f"is {other.shape[1]}x{other.shape[0]}, but {masks[0]} is {target.shape[1]}x{target.shape[0]}"
            raise DataError.of(Fault("size-mismatch", path, problem, "export the masks again"))
        target = np.where(
            target == IGNORE_INDEX, other, np.where(other == IGNORE_INDEX, target, np.maximum(target, other))
        )
    return target


def _classes_shown(masks: Sequence[Path], summaries: dict[Path, MaskSummary], reading: ClassReading) -> frozenset[int]:
    """Return the ids of the classes that the masks of an image show."""
    held = {reading.class_of(code, summaries[path].palette) for path in masks for code in summaries[path].counts}
    return frozenset(index for index in held if index is not None)


def _is_label_image(path: Path) -> bool:
    """Return whether an image holds few values, as masks do; JPEG never."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.suffix.lower() in (".jpg", ".jpeg"):
        return False
    try:
        return len(summarize(read_stored_mask(path)).counts) <= PROBE_VALUES
    except DataError:
        return False


def _inside(root: Path, folder: Path) -> str:
    return os.path.relpath(folder, root).replace(os.sep, "/") if folder != root else "."

"""A data set of images and masks whose folders and files are found by their names and contents."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fullconv.data.classes import find_labels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.discovery.collections import Collection, Group, collections_of, grouped
from fullconv.data.discovery.held_out import hold_out
from fullconv.data.discovery.inventory import list_files
from fullconv.data.discovery.mask_reader import Labelled, Pair, compare_sizes, label_pairs, summarize_masks
from fullconv.data.discovery.mask_summary import ClassReading, MaskNodata, MaskSummary, Question
from fullconv.data.discovery.mask_values import decide_classes
from fullconv.data.discovery.name_rule import Matching, find_rules, match_names
from fullconv.data.discovery.stored_masks import read_stored_mask, summarize
from fullconv.data.pairing import normalize_stem
from fullconv.data.splits import SPLITS
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["LAYOUT", "decide_and_label", "find_groups", "read_found"]

LAYOUT = "images and masks"
"""What this layout is called."""

LEFT_OUT = 0.1
"""At most this share of the images or masks may lack a partner and be left out; more is a fault."""

PROBE_VALUES = 32
"""A file with no more different values than this, on an image of some size, is taken for a label image."""

logger = logging.getLogger(__name__)


def find_groups(root: Path) -> list[Group]:
    """Return the collections of images that have masks; an empty list where the folder does not hold both."""
    collections = collections_of(list_files(root), tuple(BAND_SUFFIXES), _is_label_image)
    groups, _ = grouped(collections)
    return groups if any(group.masks for group in groups) else []


def read_found(root: Path, groups: Sequence[Group], faults: list[Fault]) -> DataSet | None:
    """Read the data set that `find_groups` found.

    Images and masks are paired by names (`name_rule`), classes follow from what the masks hold (`mask_values`), and
    what has no split is divided by `hold_out`. Every inference is logged, one sentence each. Faults go to the list;
    None means that there are no classes.
    """
    notes: list[str] = []
    pairs: list[Pair] = []
    for group in groups:
        if group.masks:
            pairs += _pair_group(root, group, faults, notes)
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
    labelled = decide_and_label(root, pairs, faults, notes)
    if labelled is None:
        return None
    splits = _divide(labelled, notes)
    for note in notes:
        logger.info(f"{root}: {note}")
    return DataSet(
        LAYOUT,
        root,
        labelled.labels,
        splits,
        color_masks=labelled.color_masks,
        about="; ".join(notes),
        mask_facts=labelled.facts,
    )


def decide_and_label(
    root: Path,
    pairs: Sequence[Pair],
    faults: list[Fault],
    notes: list[str],
    nodata: MaskNodata | None = None,
) -> Labelled | None:
    """Decode all masks once, decide what is a class, and return the samples without faults.

    None, with a fault, means that the classes are uncertain.
    """
    summaries = summarize_masks(pairs, faults)
    known = compare_sizes(pairs, summaries)
    sound = {path for pair in pairs if pair not in known for path in pair.masks}
    summaries = {path: summary for path, summary in summaries.items() if path in sound}
    decided = _decide(root, summaries, faults, notes, nodata) if summaries else None
    if decided is None:
        faults += (fault for found in known.values() for fault in found)
        return None
    reading, table = decided
    return label_pairs(pairs, summaries, reading, table, known, faults)


def _pair_group(root: Path, group: Group, faults: list[Fault], notes: list[str]) -> list[Pair]:
    """Pair the images of a group with their masks; what is left over is a note, or a fault where it is much."""
    images = group.images
    stems = [_stem(name) for name in images.names]
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
    return [
        Pair(stems[index], images.folder / images.names[index], tuple(paths), group.split or "")
        for index, paths in sorted(found.items())
    ]


def _match(stems: Sequence[str], masks: Collection, images: Collection, faults: list[Fault]) -> Matching | None:
    mask_stems = [_stem(name) for name in masks.names]
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
            faults.append(Fault(kind, collection.folder / name, f"this {what}", remedy, _stem(name), split))


def _decide(
    root: Path, summaries: Mapping[Path, MaskSummary], faults: list[Fault], notes: list[str], nodata: MaskNodata | None
) -> tuple[ClassReading, Mapping[int, int] | None] | None:
    """Return the classes of the masks, and the table of colours that a file gives."""
    named, damaged = None, False
    try:
        named = find_labels(root)
    except DataError as error:
        faults += error.faults_at(root)
        damaged = True
    names = table = None
    if named is not None:
        names = named[0].class_names
        if named[1]:
            table = {(r << 16) | (g << 8) | b: index for index, (r, g, b) in enumerate(named[0].palette)}
    decision = decide_classes(list(summaries.values()), names, table, nodata)
    if isinstance(decision, Question):
        faults += [] if damaged else [Fault(decision.code, root, decision.problem, decision.remedy)]
        return None
    notes += decision.notes
    remedy = "compare the masks in the report of `fullconv check` with yours; export them without compression"
    faults += (Fault("moved-pixels", root, warning, remedy) for warning in decision.warnings)
    return decision, table


def _divide(labelled: Labelled, notes: list[str]) -> dict[str, tuple[Sample, ...]]:
    """Return the splits; what has none is divided, and so is train where there is no val."""
    samples = labelled.samples
    whole = "" if samples.get("") else "train"
    if set(samples) == {""} or (set(samples) <= {"train", "test"} and whole in samples):
        every = samples[whole]
        shows = np.array(labelled.shown[whole], bool).reshape(len(every), -1)
        held = hold_out([sample.name for sample in every], shows)
        notes.append(held.reason)
        val = set(held.val)
        samples = {name: found for name, found in samples.items() if name != whole} | {
            "train": tuple(sample for index, sample in enumerate(every) if index not in val),
            "val": tuple(every[index] for index in held.val),
        }
    return {split: samples[split] for split in SPLITS if samples.get(split)}


def _is_label_image(path: Path) -> bool:
    """Return whether an image holds few values, as masks do; JPEG never."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.suffix.lower() in (".jpg", ".jpeg"):
        return False
    try:
        return len(summarize(read_stored_mask(path)).counts) <= PROBE_VALUES
    except DataError:
        return False


def _stem(name: str) -> str:
    return normalize_stem(Path(name).stem)


def _inside(root: Path, folder: Path) -> str:
    return os.path.relpath(folder, root).replace(os.sep, "/") if folder != root else "."

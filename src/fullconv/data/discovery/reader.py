"""A data set of images and masks whose folders and files are found by their names and contents."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullconv.data.classes import MASK_KEYS
from fullconv.data.dataset import DataSet
from fullconv.data.discovery.answers import MOST_PATTERNS, find_matchings, name_paired, name_rule
from fullconv.data.discovery.collections import Collection, Group, collections_of, grouped
from fullconv.data.discovery.name_rule import Matching
from fullconv.data.discovery.patterns import describe_file, find_unmatched, groups_by_pattern
from fullconv.data.discovery.rivals import ask_for_images, ask_for_one, ask_for_type, ask_for_word, drop_copies
from fullconv.data.mask_classes.decide import decide_and_label
from fullconv.data.mask_classes.reader import Pair
from fullconv.data.mask_classes.stored_masks import read_stored_mask, summarize
from fullconv.data.pairing import normalize_stem, note_json
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.splits import UNDIVIDED
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import list_files
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["LAYOUT", "find_groups", "read_found"]

LAYOUT = "images and masks"
"""What this layout is called."""

LEFT_OUT = 0.1
"""At most this share of the images or masks may lack a partner and be left out; more is a fault."""

PROBE_VALUES = 32
"""A file with no more different values than this, on an image of some size, is taken for a label image."""


def find_groups(root: Path, options: ReadingOptions = BY_FILES) -> list[Group]:
    """Return the collections of images that have masks; an empty list where the folder does not hold both.

    Raises DataError where `options` name files that do not exist.
    """
    if options.images is not None and options.masks is not None:
        return groups_by_pattern(root, options.images, options.masks)
    collections = collections_of(list_files(root), tuple(BAND_SUFFIXES), _is_label_image)
    groups = drop_copies(grouped(collections)[0])
    return groups if any(group.masks for group in groups) else []


def read_found(root: Path, groups: Sequence[Group], options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read the data set that `find_groups` found.

    Images and masks are paired by names (`name_rule`), and classes follow from what the masks hold (`mask_values`).
    Every inference is a sentence of the data set. Faults go to the list; None means that there are no classes.
    """
    notes: list[str] = []
    stated: list[str] = []
    pairs: list[Pair] = []
    patterns: list[tuple[set[str], set[str]]] = []
    faults += ask_for_images(root, groups) if options.images is None else ()
    for group in groups:
        asked = (
            ask_for_one(root, group, groups) or ask_for_type(root, group, groups) or ask_for_word(root, group, groups)
        )
        faults += asked
        notes += _note_unread(root, group)
        if asked:
            continue
        if group.masks:
            pairs += _pair_group(root, groups, group, faults, notes, stated if options.images else notes, patterns)
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
    stated += _note_unmatched(root, options)
    notes += filter(None, [note_json(root, (pair.image for pair in pairs))])
    labelled = decide_and_label(root, _name_apart(root, pairs), faults, notes, options.mask_nodata)
    if labelled is None:
        return None
    return DataSet(
        LAYOUT,
        root,
        labelled.labels,
        labelled.samples,
        color_masks=labelled.color_masks,
        about="; ".join(stated),
        inferences=tuple(notes),
        declares={**({} if options.images else _declare_files(patterns)), **labelled.declares},
        mask_facts=labelled.facts,
        states_ignored=labelled.states_ignored,
        class_keys=MASK_KEYS,
    )


def _note_unread(root: Path, group: Group) -> list[str]:
    """Say which files show the same in another way and are not read."""
    if not group.unread:
        return []
    shown = [
        f"{len(other.names)} files such as {_inside(root, other.paths()[0])}"
        if other.folder == group.images.folder
        else _inside(root, other.folder)
        for other in group.unread
    ]
    return [f"not read, next to {_inside(root, group.masks[0].folder)}: {', '.join(dict.fromkeys(shown))}"]


def _note_unmatched(root: Path, options: ReadingOptions) -> list[str]:
    """Say which images next to those of the patterns are not read: new files may have other names."""
    unmatched = find_unmatched(root, options.images, options.masks) if options.images and options.masks else []
    if not unmatched:
        return []
    return [f"not read, because no pattern of images or masks matches: {len(unmatched)} images such as {unmatched[0]}"]


def _name_apart(root: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """Give images of one name in several folders the names of their paths: `urban/0` and `rural/0`."""
    count = Counter((pair.split, pair.name) for pair in pairs)
    return [
        pair
        if count[pair.split, pair.name] == 1
        else replace(pair, name=pair.image.relative_to(root).with_suffix("").as_posix())
        for pair in pairs
    ]


def _declare_files(patterns: Sequence[tuple[set[str], set[str]]]) -> dict[str, Any]:
    """Return the patterns of all groups for dataset.yaml, unless they are too many.

    They are in order of the groups if each group has one pattern for its images and one for its masks.
    """
    images = [pattern for ours, _ in patterns for pattern in sorted(ours)]
    masks = [pattern for _, theirs in patterns for pattern in sorted(theirs)]
    if not len(set(images)) == len(images) == len(masks) == len(patterns):
        images, masks = sorted(set(images)), sorted(set(masks))
    return {"images": images, "masks": masks} if len(images) + len(masks) <= MOST_PATTERNS else {}


def _pair_group(
    root: Path,
    groups: Sequence[Group],
    group: Group,
    faults: list[Fault],
    notes: list[str],
    stated: list[str],
    patterns: list[tuple[set[str], set[str]]],
) -> list[Pair]:
    """Pair the images of a group with their masks; what is left over is a note, or a fault where it is much.

    The sentence on pairs goes to `stated`, and the patterns of the files to `patterns`.
    """
    images = group.images
    found: dict[int, list[Path]] = {}
    for masks in group.masks:
        matching = _match(root, groups, images, masks, faults)
        if matching is None:
            return []
        for image, partners in matching.pairs.items():
            found.setdefault(image, []).extend(masks.folder / masks.names[partner] for partner in partners)
        where = f"{_inside(root, images.folder)} and {_inside(root, masks.folder)}"
        stated.append(f"{where}: {len(matching.pairs)} pairs; {matching.rule}")
        if not images.stems:
            patterns.append(_describe_files(root, images, masks, matching))
        _check_lonely(root, groups, group, masks, matching, faults, notes)
    return [
        Pair(_stem(images.names[index]), images.folder / images.names[index], tuple(paths), group.split or UNDIVIDED)
        for index, paths in sorted(found.items())
    ]


def _describe_files(root: Path, images: Collection, masks: Collection, matching: Matching) -> tuple[set[str], set[str]]:
    """Return the patterns of the paired images, and of their masks."""
    rule = matching.rule
    numbers = {mask for partners in matching.pairs.values() for mask in partners}
    return (
        {describe_file(root, images, index, rule.image_prefix, rule.image_suffix) for index in matching.pairs},
        {describe_file(root, masks, index, rule.mask_prefix, rule.mask_suffix) for index in numbers},
    )


def _match(
    root: Path, groups: Sequence[Group], images: Collection, masks: Collection, faults: list[Fault]
) -> Matching | None:
    matchings = find_matchings(images, masks)
    if not matchings:
        problem = f"no mask has the name of an image, as {masks.names[0]} and {images.names[0]} show"
        faults.append(Fault("no-common-stem", masks.folder, problem, "give each mask its image's name"))
        return None
    if len(matchings) > 1:
        rules = " or ".join(f"({matching.rule})" for matching in matchings[:3])
        problem = f"images and masks can be paired in several ways: {rules}"
        commands = [name_rule(root, groups, matching.rule) for matching in matchings[:3]]
        remedy = " or ".join(filter(None, [*commands, "give each mask its image's name"]))
        faults.append(Fault("ambiguous-image", masks.folder, problem, remedy))
        return None
    return matchings[0]


def _check_lonely(
    root: Path,
    groups: Sequence[Group],
    group: Group,
    masks: Collection,
    matching: Matching,
    faults: list[Fault],
    notes: list[str],
) -> None:
    """Note images and masks without a partner; they are faults where they are many."""
    images, split = group.images, group.split
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
        command = "" if images.stems else name_paired(root, groups)
        missing, lonely_one = ("mask", "image") if kind == "missing-mask" else ("image", "mask")
        remedy = f"add its {missing}, or remove the {lonely_one}"
        remedy += f", or, to leave out those without a partner, {command}" if command else ""
        for name in names:
            faults.append(Fault(kind, collection.folder / name, f"this {what}", remedy, Path(name).stem, split))


def _stem(name: str) -> str:
    return normalize_stem(Path(name).stem)


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

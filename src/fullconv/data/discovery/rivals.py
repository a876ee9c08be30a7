"""Folders of masks that contradict each other, because both may be the masks of the same images; and copies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.data.discovery.answers import find_matchings, name_folder, name_groups
from fullconv.data.discovery.collections import Collection, Group
from fullconv.data.discovery.name_rule import NameRule, find_rules
from fullconv.data.discovery.renderings import FORMAT_WORDS
from fullconv.data.discovery.words import parse_name
from fullconv.data.mask_classes.stored_masks import read_stored_mask
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["ask_for_images", "ask_for_one", "ask_for_type", "ask_for_word", "drop_copies"]

PROBED = 3
"""Names whose masks of several file types are compared."""

SHARED = 0.5
"""Two folders are rivals if both have masks for more than this share of the images."""


def ask_for_one(root: Path, group: Group, groups: Sequence[Group]) -> list[Fault]:
    """Return a fault if two folders may hold the masks of the group's images, and no word says which.

    Folders of one class each (`masks/cell`, `masks/nucleus`) differ by a word and are no rivals. Two raters
    (`manual1`, `manual2`), or `gt` and `labels`, or masks of the field of view next to annotations, are.
    """
    plain = [mask for mask in group.masks if _is_plain(mask, group.images)]
    candidates = [*group.masks, *group.rivals] if group.rivals else plain
    pairing = [mask for mask in candidates if len(candidates) > 1 and _pairs_most(group.images, mask)]
    if len(pairing) < 2:
        return []
    folders = sorted(mask.folder.relative_to(root).as_posix() for mask in pairing)
    shown = " and ".join(folders[:3])
    problem = f"{shown} have masks of the same images, and their names do not say which are the labels"
    commands = dict.fromkeys(name_folder(root, groups, mask) for mask in pairing[:3])
    remedy = " or ".join([*filter(None, commands), "move the other folder away"])
    return [Fault("ambiguous-image", group.images.folder, problem, remedy, split=group.split)]


def ask_for_images(root: Path, groups: Sequence[Group]) -> list[Fault]:
    """Return a fault if two folders of images share their masks: each of their files may be the image of a mask."""
    first: dict[tuple[object, ...], Group] = {}
    for other in groups:
        one = first.setdefault((other.split, *sorted(map(id, other.masks))), other)
        if one.images.folder == other.images.folder or not one.masks:
            continue
        if len(_stems(one) & _stems(other)) <= SHARED * len(_stems(one)):
            continue
        names = [group.images.folder.relative_to(root).as_posix() for group in (one, other)]
        commands = [
            name_groups(root, [group for group in groups if group.images.folder.name != left_out.images.folder.name])
            for left_out in (other, one)
        ]
        problem = f"{' and '.join(names)} have images for the same masks"
        remedy = " or ".join([*filter(None, commands), "move the other folder away"])
        return [Fault("ambiguous-image", one.masks[0].folder, problem, remedy, split=one.split)]
    return []


def ask_for_type(root: Path, group: Group, groups: Sequence[Group]) -> list[Fault]:
    """Return a fault if a folder holds most images, or masks with other pixels, in two file types."""
    for role, collection in (("images", group.images), *(("masks", mask) for mask in group.masks)):
        stems = Counter(collection.stem(index) for index in range(len(collection.names)))
        if collection.stems or sum(count > 1 for count in stems.values()) <= SHARED * len(stems):
            continue
        types = sorted({collection.suffix(index) for index in range(len(collection.names))})
        if role == "masks" and _show_the_same(collection):
            continue
        commands = [name_groups(root, [_keep_type(one, role, suffix) for one in groups]) for suffix in types[:3]]
        problem = f"holds {role} of the same names as {' and as '.join(types[:3])} files"
        remedy = " or ".join([*filter(None, commands), "move the files of one type away"])
        return [Fault("ambiguous-image", collection.folder, problem, remedy, split=group.split)]
    return []


def ask_for_word(root: Path, group: Group, groups: Sequence[Group]) -> list[Fault]:
    """Return a fault if one folder holds two masks of most images, as `a_mask` and `a_label` next to `a`."""
    images, rule = group.images, group.images.rule
    matchings = find_matchings(images, group.masks[0]) if rule is not None and not images.stems and group.masks else []
    if rule is None or not matchings:
        return []
    lonely = set(matchings[0].lonely_images)
    keys = {key for index in matchings[0].pairs if (key := rule.image_key(images.stem(index))) is not None}
    words = Counter(word for index in lonely if (word := _mask_word(images.stem(index), keys)))
    word, count = words.most_common(1)[0] if words else ("", 0)
    if count <= SHARED * len(keys):
        return []
    names = tuple(images.names[index] for index in range(len(images.names)) if index not in lonely)
    others = tuple(images.names[index] for index in sorted(lonely) if images.stem(index).endswith(word))
    one = replace(group, images=replace(images, names=names))
    new_rule = NameRule("", rule.image_suffix, "", word)
    masks = replace(images, names=others, role="mask", rule=new_rule)
    two = replace(group, images=replace(images, names=names, rule=new_rule), masks=(masks,))
    commands = []
    if not {Path(name).suffix for name in names} & {Path(name).suffix for name in (*others, *group.masks[0].names)}:
        commands = [name_groups(root, [new if old is group else old for old in groups]) for new in (one, two)]
    problem = f"holds two masks of its images, such as {group.masks[0].names[0]} and {others[0]}"
    remedy = " or ".join([*filter(None, commands), f"move the files {Path(others[0]).name} and the like away"])
    return [Fault("ambiguous-image", images.folder, problem, remedy, split=group.split)]


def _mask_word(stem: str, keys: set[str]) -> str:
    """Return what follows the name of an image in a stem, if it is a word for masks."""
    places = [match.start() for match in re.finditer(r"[_\-. ]", stem)]
    words = [stem[place:] for place in places if stem[:place] in keys]
    return next((word for word in words if parse_name(word[1:]).role == "mask" and not parse_name(word[1:]).rest), "")


def _keep_type(group: Group, role: str, suffix: str) -> Group:
    """Return a group with only the images, or only the masks, of a file type, where it has some."""

    def restrict(collection: Collection) -> Collection:
        names = tuple(name for name in collection.names if Path(name).suffix == suffix)
        return replace(collection, names=names or collection.names)

    if role == "images":
        return replace(group, images=restrict(group.images))
    return replace(group, masks=tuple(map(restrict, group.masks)))


def _show_the_same(masks: Collection) -> bool:
    """Return whether the first masks of one name hold the same pixels."""
    by_stem: dict[str, list[Path]] = {}
    for index, path in enumerate(masks.paths()):
        by_stem.setdefault(masks.stem(index), []).append(path)
    several = [paths for paths in by_stem.values() if len(paths) > 1]
    try:
        return all(_are_equal([read_stored_mask(path).codes for path in paths]) for paths in several[:PROBED])
    except DataError:
        return True


def _are_equal(masks: Sequence[npt.NDArray[Any]]) -> bool:
    return all(np.array_equal(masks[0], mask) for mask in masks[1:])


def _is_plain(mask: Collection, images: Collection) -> bool:
    """Return whether only numbers, letters or versions set a folder of masks apart from others for the same images."""
    if mask.rule is not None:
        return False
    return all(re.fullmatch(r"\d+([a-z]{2})?|[a-z]|v\d*|old|new", word) for word in mask.key[len(images.key) :])


def _pairs_most(images: Collection, masks: Collection) -> bool:
    image_stems, mask_stems = ([Path(name).stem for name in names] for names in (images.names, masks.names))
    common = set(image_stems) & set(mask_stems)
    if len(common) > SHARED * len(image_stems):
        return True
    matchings = find_rules(image_stems, mask_stems)
    return bool(matchings) and len(matchings[0].pairs) > SHARED * len(image_stems)


def drop_copies(groups: Sequence[Group]) -> list[Group]:
    """Leave out groups that hold the images of another one in another file format: `PNG/Original`, `TIF/Original`."""
    kept: list[Group] = []
    places: dict[tuple[object, ...], int] = {}
    for group in groups:
        words = tuple(word for word in group.images.key if word not in FORMAT_WORDS)
        twin = places.setdefault((group.split, words), len(kept))
        if twin < len(kept) and kept[twin].images.key != group.images.key and _stems(kept[twin]) == _stems(group):
            kept[twin] = replace(kept[twin], unread=(*kept[twin].unread, group.images, *group.masks))
        else:
            kept.append(group)
    return kept


def _stems(group: Group) -> set[str]:
    return {Path(name).stem for name in group.images.names}

"""Folders of masks that contradict each other, because both may be the masks of the same images; and copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fullconv.data.discovery.answers import name_folder
from fullconv.data.discovery.collections import Collection, Group
from fullconv.data.discovery.name_rule import find_rules
from fullconv.data.discovery.renderings import FORMAT_WORDS
from fullconv.faults import Fault

__all__ = ["ask_for_one", "drop_copies"]

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


def _is_plain(mask: Collection, images: Collection) -> bool:
    """Return whether no word but numbers tells a folder of masks from others for the same images."""
    if mask.rule is not None:
        return False
    return all(word.isdigit() for word in mask.key[len(images.key) :])


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

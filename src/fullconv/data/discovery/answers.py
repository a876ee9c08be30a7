"""Commands that answer what names of files leave open: `--images` and `--masks` with the user's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fullconv.data.discovery.collections import Collection, Group
from fullconv.data.discovery.name_rule import Matching, NameRule, find_rules, match_names
from fullconv.data.discovery.patterns import describe_file

__all__ = ["MOST_PATTERNS", "find_matchings", "name_folder", "name_groups", "name_paired", "name_rule"]

MOST_PATTERNS = 16
"""More patterns than this are not written down."""

Patterns = list[tuple[str, str]]
"""Patterns of images, each with that of their masks."""


def find_matchings(images: Collection, masks: Collection) -> list[Matching]:
    """Return the ways in which the names of two collections can be paired, the best first."""
    stems, mask_stems = ([one.stem(index) for index in range(len(one.names))] for one in (images, masks))
    if images.rule is None:
        return find_rules(stems, mask_stems)
    matching = match_names(stems, mask_stems, images.rule)
    return [] if matching is None else [matching]


def name_rule(root: Path, groups: Sequence[Group], rule: NameRule) -> str:
    """Return the options that pair the files of all groups by a rule; empty if patterns cannot say it."""
    patterns: Patterns = []
    for group in groups:
        for masks in group.masks:
            stems, mask_stems = ([one.stem(index) for index in range(len(one.names))] for one in (group.images, masks))
            matching = match_names(stems, mask_stems, rule)
            matchings = [matching] if matching is not None and matching.pairs else find_matchings(group.images, masks)
            patterns += _describe(root, group.images, masks, matchings[0]) if matchings else []
    return _options(patterns)


def name_groups(root: Path, groups: Sequence[Group]) -> str:
    """Return the options that name the files of all groups."""
    patterns: Patterns = []
    for group in groups:
        for masks in group.masks:
            matchings = find_matchings(group.images, masks)
            patterns += _describe(root, group.images, masks, matchings[0]) if matchings else []
    return _options(patterns)


def name_folder(root: Path, groups: Sequence[Group], chosen: Collection) -> str:
    """Return the options by which the masks of all groups are those of folders that are called like the chosen one."""
    restricted = []
    for group in groups:
        candidates = [*group.masks, *group.rivals]
        masks = [one for one in candidates if one.folder.name == chosen.folder.name] or list(group.masks)
        restricted.append(replace(group, masks=tuple(masks[:1])))
    return name_groups(root, restricted)


def name_paired(root: Path, groups: Sequence[Group]) -> str:
    """Return the options that leave out images and masks without a partner; empty if they need many patterns."""
    patterns: Patterns = []
    for group in groups:
        for masks in group.masks:
            matchings = find_matchings(group.images, masks)
            found = _describe_paired(root, group.images, masks, matchings[0]) if matchings else []
            if found is None:
                return ""
            patterns += found
    return _options(patterns)


def _options(patterns: Patterns) -> str:
    """Return the advice to add the options; empty if there are none, or too many."""
    patterns = list(dict.fromkeys(patterns))
    images, masks = ([pattern[side] for pattern in patterns] for side in (0, 1))
    if not patterns or len(patterns) > MOST_PATTERNS or any("'" in text or "`" in text for text in (*images, *masks)):
        return ""
    if len(set(masks)) == 1:
        masks = masks[:1]
    words = [f"--images '{pattern}'" for pattern in images] + [f"--masks '{pattern}'" for pattern in masks]
    return f"add `{' '.join(words)}`"


def _describe(root: Path, images: Collection, masks: Collection, matching: Matching, start: str = "") -> Patterns:
    """Return patterns of the pairs of a matching, a pair of patterns for each pair of file types.

    They are of those pairs whose shared part begins with `start`.
    """
    rule = matching.rule
    found: dict[tuple[str, str], None] = {}
    for image, partners in matching.pairs.items():
        if not _key(rule.image_prefix, rule.image_suffix, images.stem(image)).startswith(start):
            continue
        one = describe_file(root, images, image, rule.image_prefix + start, rule.image_suffix)
        for partner in partners:
            other = describe_file(root, masks, partner, rule.mask_prefix + start, rule.mask_suffix)
            found[one, other] = None
    return list(found)


def _describe_paired(root: Path, images: Collection, masks: Collection, matching: Matching) -> Patterns | None:
    """Return patterns that match no file without a partner; None if names do not allow it."""
    rule = matching.rule
    if not (matching.lonely_images or matching.lonely_masks):
        return _describe(root, images, masks, matching)
    if rule.numbers or rule.many or images.stems:
        return None
    keys = [_key(rule.image_prefix, rule.image_suffix, images.stem(index)) for index in matching.pairs]
    types = {images.suffix(index) for index in matching.pairs}
    mask_types = {masks.suffix(index) for partners in matching.pairs.values() for index in partners}
    others = [
        *(rule.image_key(images.stem(index)) for index in matching.lonely_images if images.suffix(index) in types),
        *(rule.mask_key(masks.stem(index)) for index in matching.lonely_masks if masks.suffix(index) in mask_types),
    ]
    starts = _find_starts(keys, [key for key in others if key is not None])
    if starts is None or len(starts) > MOST_PATTERNS:
        return None
    return [pattern for start in starts for pattern in _describe(root, images, masks, matching, start)]


def _find_starts(keys: Iterable[str], others: Sequence[str], start: str = "") -> list[str] | None:
    """Return the shortest texts with which all keys and no others begin; None if a key is the start of another one."""
    keys = [key for key in keys if key.startswith(start)]
    if not any(other.startswith(start) for other in others):
        return [max(start, _common_start(keys).rstrip("0123456789"), key=len)]
    if start in keys:
        return None
    found: list[str] = []
    for letter in dict.fromkeys(key[len(start)] for key in sorted(keys)):
        longer = _find_starts(keys, others, start + letter)
        if longer is None or len(found) + len(longer) > MOST_PATTERNS:
            return None
        found += longer
    return found


def _common_start(keys: Sequence[str]) -> str:
    first, last = min(keys), max(keys)
    length = next(
        (place for place, letters in enumerate(zip(first, last, strict=False)) if len(set(letters)) > 1), None
    )
    return first[:length]


def _key(prefix: str, suffix: str, stem: str) -> str:
    return stem[len(prefix) : len(stem) - len(suffix)]

"""The rule by which names of images and masks belong together: equal stems, or constant text around a shared part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fullconv.data.discovery.renderings import rank_words
from fullconv.data.discovery.words import parse_name

__all__ = ["Matching", "NameRule", "find_rules", "match_names", "split_mixed"]

SAMPLED = 12
"""Names of each side from which candidate rules are derived; every rule is then tried on all names."""

ESTIMATED = 300
"""Images on which a candidate is judged before it is tried on all."""

FULLY_TRIED = 12
"""Candidates of each kind that are tried on all names."""

SHORTEST_KEY = 1


@dataclass(frozen=True)
class NameRule:
    """An image stem is `image_prefix + key + image_suffix`, its mask's stem `mask_prefix + key + mask_suffix`.

    With `numbers`, leading zeros in the key do not count: `img_1` and `gt_0001`. With `many`, a mask's stem may go on
    after the key, so that an image has several masks: `a` and `a_0`, `a_1`.
    """

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""
    numbers: bool = False
    many: bool = False

    def image_key(self, stem: str) -> str | None:
        """Return the shared part of an image's stem, or None if the stem does not follow the rule."""
        return self._key(stem, self.image_prefix, self.image_suffix)

    def mask_key(self, stem: str) -> str | None:
        """Return the shared part of a mask's stem, or None if the stem does not follow the rule."""
        return self._key(stem, self.mask_prefix, self.mask_suffix)

    def _key(self, stem: str, prefix: str, suffix: str) -> str | None:
        if len(stem) < len(prefix) + len(suffix) + SHORTEST_KEY:
            return None
        if not (stem.startswith(prefix) and stem.endswith(suffix)):
            return None
        key = stem[len(prefix) : len(stem) - len(suffix)]
        return re.sub(r"\d+", lambda number: number[0].lstrip("0") or "0", key) if self.numbers else key

    def __str__(self) -> str:
        """Say the rule as two patterns, such as `NAME_sat` and `NAME_mask`."""
        image = f"{self.image_prefix}NAME{self.image_suffix}"
        mask = f"{self.mask_prefix}NAME{self.mask_suffix}{'_N' if self.many else ''}"
        if image == mask:
            return "image and mask have the same name" + (", leading zeros apart" if self.numbers else "")
        return f"image {image}, mask{'s' if self.many else ''} {mask}"


@dataclass(frozen=True)
class Matching:
    """What a rule gives: for each image (its index) the indices of its masks; and the indices that have no partner."""

    rule: NameRule
    pairs: dict[int, tuple[int, ...]] = field(repr=False)
    lonely_images: tuple[int, ...] = ()
    lonely_masks: tuple[int, ...] = ()

    @property
    def score(self) -> tuple[int, int]:
        """Return what makes one rule better than another: more pairs, then fewer masks without an image."""
        return len(self.pairs), -len(self.lonely_masks)


def match_names(images: Sequence[str], masks: Sequence[str], rule: NameRule) -> Matching | None:
    """Apply a rule to stems; None where it gives an image two masks, or a mask two images, though it is not `many`."""
    keys: dict[str, int] = {}
    lonely_images = []
    for index, stem in enumerate(images):
        key = rule.image_key(stem)
        if key is None:
            lonely_images.append(index)
        elif key in keys:
            return None
        else:
            keys[key] = index
    pairs: dict[int, list[int]] = {}
    lonely_masks = []
    for index, stem in enumerate(masks):
        image = _image_of(rule, stem, keys)
        if image is None:
            lonely_masks.append(index)
        else:
            pairs.setdefault(image, []).append(index)
    if not rule.many and any(len(partners) > 1 for partners in pairs.values()):
        return None
    lonely_images += [index for index in keys.values() if index not in pairs]
    return Matching(
        rule,
        {image: tuple(partners) for image, partners in sorted(pairs.items())},
        tuple(sorted(lonely_images)),
        tuple(lonely_masks),
    )


def _image_of(rule: NameRule, stem: str, keys: dict[str, int]) -> int | None:
    key = rule.mask_key(stem)
    if key is None:
        return None
    if key in keys or not rule.many:
        return keys.get(key)
    for end in range(len(key) - 1, 0, -1):  # the longest image name that the mask's name begins with
        if not key[end].isalnum() and key[:end] in keys:
            return keys[key[:end]]
    return None


def find_rules(images: Sequence[str], masks: Sequence[str]) -> list[Matching]:
    """Return the best matchings of two lists of stems, the best first; several only if they pair differently.

    Equal stems win where they pair most images. Else rules are read off pairs of names that share a part, tried on all
    names, and compared by the number of pairs. A rule that gives every mask to one image, several masks each, is
    tried last. The list is empty where nothing matches.
    """
    tried: dict[NameRule, Matching] = {}
    for rule in _promising(images, masks):
        matching = match_names(images, masks, rule)
        if matching is not None and matching.pairs:
            tried[rule] = matching
    if not tried:
        return []
    same = tried.get(NameRule())
    best = max(matching.score for matching in tried.values())
    if same is not None and same.score == best:
        return [same]
    top = [matching for matching in tried.values() if matching.score == best]
    top.sort(key=_simplicity)
    distinct: list[Matching] = []
    for matching in (_drop_shared(images, masks, matching) for matching in top):
        if all(matching.pairs != other.pairs for other in distinct):
            distinct.append(matching)
    plain = [matching for matching in distinct if not matching.rule.many]
    return plain or distinct


def _drop_shared(images: Sequence[str], masks: Sequence[str], matching: Matching) -> Matching:
    """Leave to the key what both names have next to it: not all names may have it later.

    That is done only if the pairs stay the same and no name has no partner, because the patterns would match it.
    """
    rule = matching.rule
    start, prefix = sorted((rule.image_prefix, rule.mask_prefix), key=len)
    end, suffix = sorted((rule.image_suffix, rule.mask_suffix), key=len)
    start, end = start * prefix.endswith(start), end * suffix.startswith(end)
    wider = NameRule(
        rule.image_prefix.removesuffix(start),
        rule.image_suffix.removeprefix(end),
        rule.mask_prefix.removesuffix(start),
        rule.mask_suffix.removeprefix(end),
        rule.numbers,
        rule.many,
    )
    found = match_names(images, masks, wider) if wider != rule else None
    if found is None or found.pairs != matching.pairs or found.lonely_images or found.lonely_masks:
        return matching
    return found


def _simplicity(matching: Matching) -> tuple[object, ...]:
    rule = matching.rule
    affixes = (rule.image_prefix, rule.image_suffix, rule.mask_prefix, rule.mask_suffix)
    worded = sum(parse_name(affix).role is not None for affix in affixes)
    return rule.many, rule.numbers, -worded, sum(map(len, affixes)), affixes


def _promising(images: Sequence[str], masks: Sequence[str]) -> list[NameRule]:
    """Return the candidates that pair most of a sample of the images, and those that only all names can judge."""
    known, sample = set(masks), _spread(images, ESTIMATED)
    shares: dict[NameRule, int] = {}
    loose = []
    for rule in dict.fromkeys(_candidates(images, masks)):
        if rule.numbers or rule.many:
            loose.append(rule)
            continue
        keys = (rule.image_key(stem) for stem in sample)
        shares[rule] = sum(key is not None and f"{rule.mask_prefix}{key}{rule.mask_suffix}" in known for key in keys)
    best = max(shares.values(), default=0)
    strict = [rule for rule, count in shares.items() if count and 10 * count >= 9 * best]
    strict.sort(key=lambda rule: -shares[rule])
    if best == len(sample) and len(masks) < 1.5 * len(images):
        return strict[:FULLY_TRIED]
    return strict[:FULLY_TRIED] + loose[:FULLY_TRIED]


def _candidates(images: Sequence[str], masks: Sequence[str]) -> Iterator[NameRule]:
    yield NameRule()
    derived: Counter[NameRule] = Counter()
    for image in _spread(images):
        for mask in _spread(masks):
            derived.update(_derived(image, mask))
    # Names that are far apart in the list share their parts with names near them only.
    for image, mask in zip(_spread(sorted(images)), _spread(sorted(masks)), strict=False):
        derived.update(_derived(image, mask))
    yield from (rule for rule, _ in derived.most_common(200))
    yield NameRule(numbers=True)
    for rule, _ in derived.most_common(50):
        yield replace(
            rule, image_prefix=_undigit(rule.image_prefix), mask_prefix=_undigit(rule.mask_prefix), numbers=True
        )
    yield NameRule(many=True)
    for rule, _ in derived.most_common(50):
        yield replace(rule, many=True)


def _undigit(prefix: str) -> str:
    """Leave the digits at the end of a prefix to the key."""
    return prefix.rstrip("0123456789")


def _spread(names: Sequence[str], count: int = SAMPLED) -> list[str]:
    """Return at most `count` names, evenly spread."""
    if len(names) <= count:
        return list(names)
    step = len(names) / count
    return [names[int(index * step)] for index in range(count)]


def _derived(image: str, mask: str) -> Iterator[NameRule]:
    """Yield the rules under which two stems belong together: around each long part that they share."""
    for key in _shared_parts(image, mask):
        image_start, mask_start = image.find(key), mask.find(key)
        yield NameRule(
            image[:image_start],
            image[image_start + len(key) :],
            mask[:mask_start],
            mask[mask_start + len(key) :],
        )


def _shared_parts(image: str, mask: str) -> Iterator[str]:
    """Yield the longest text that both hold, cut to whole words and numbers, and the numbers that both hold."""
    longest = ""
    previous = [0] * (len(mask) + 1)
    for row, letter in enumerate(image, 1):
        current = [0] * (len(mask) + 1)
        for column, other in enumerate(mask, 1):
            if letter == other:
                current[column] = previous[column - 1] + 1
                if current[column] > len(longest):
                    longest = image[row - current[column] : row]
        previous = current
    if longest:
        yield longest
        trimmed = longest.strip("_-. ")
        if trimmed and trimmed != longest:
            yield trimmed
    yield from set(re.findall(r"\d+", image)) & set(re.findall(r"\d+", mask))


def split_mixed(stems: Sequence[str]) -> tuple[list[int], list[int], NameRule] | None:
    """Divide the stems of one folder into images and masks: every mask is called like an image, with a mask word added.

    Returns the indices of the images, those of the masks, and the rule; None where names do not say it.
    """
    masks_by_affix: Counter[tuple[str, str, str]] = Counter()
    known = set(stems)
    for stem in stems:
        for kind, affix, base in _mask_affixes(stem):
            if base in known:
                masks_by_affix[(kind, affix, "")] += 1
            else:
                for other_kind, other, _ in _partner_affixes(base, kind, known):
                    masks_by_affix[(kind, affix, other)] += 1
                    del other_kind
    if not masks_by_affix:
        return None
    (kind, affix, other) = max(masks_by_affix, key=lambda found: (masks_by_affix[found], -rank_words(found[1])))
    rule = NameRule("", other, "", affix) if kind == "suffix" else NameRule(other, "", affix, "")
    masks = [
        index for index, stem in enumerate(stems) if rule.mask_key(stem) is not None and _has_partner(rule, stem, known)
    ]
    chosen = set(masks)
    images = [index for index, stem in enumerate(stems) if index not in chosen and rule.image_key(stem) is not None]
    copies = {index for index in images if _is_copy(stems[index], known)}
    return [index for index in images if index not in copies], masks, rule


def _is_copy(stem: str, known: set[str]) -> bool:
    """Return whether a name is that of another file with words such as `_overlay`, `_color` or `_pred` added."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]+", stem)]
    return any(stem[:end] in known and rank_words(stem[end:]) > 0 for end in ends)


def _has_partner(rule: NameRule, stem: str, known: set[str]) -> bool:
    key = rule.mask_key(stem)
    return f"{rule.image_prefix}{key}{rule.image_suffix}" in known


def _mask_affixes(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield (side, affix, rest) for affixes of whole words that say mask: `_mask`, `gt_`, `_L`."""
    for match in re.finditer(r"[_\-. ]+", stem):
        head, tail = stem[: match.start()], stem[match.end() :]
        if head and parse_name(tail).role == "mask" and not parse_name(tail).rest:
            yield "suffix", stem[match.start() :], head
        if tail and parse_name(head).role == "mask" and not parse_name(head).rest:
            yield "prefix", stem[: match.end()], tail
    camel = re.search(r"(?<=[a-z0-9])(Mask|Label|Seg|GT|Annotation|Truth)$", stem)
    if camel:
        yield "suffix", camel[0], stem[: camel.start()]


def _partner_affixes(base: str, kind: str, known: set[str]) -> Iterator[tuple[str, str, str]]:
    for word in (
        "sat",
        "image",
        "img",
        "rgb",
        "im",
        "raw",
        "orig",
        "original",
        "x",
        "leftImg8bit",
        "photo",
        "input",
        "0000",
    ):
        for separator in ("_", "-", ".", " "):
            affix = f"{separator}{word}" if kind == "suffix" else f"{word}{separator}"
            name = base + affix if kind == "suffix" else affix + base
            if name in known:
                yield kind, affix, base

"""Images and masks that the user names by patterns, instead of their folders' names and contents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fullconv.data.discovery.collections import Collection, Group
from fullconv.data.discovery.name_rule import NameRule
from fullconv.data.discovery.words import Role, Split, parse_name
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import Inventory, list_files
from fullconv.images import BAND_SUFFIXES

__all__ = ["describe_file", "find_unmatched", "groups_by_pattern", "translate"]


@dataclass(frozen=True)
class _Match:
    """A file that a pattern matches: its path below the data set's folder, and the text of each wildcard.

    `literal` is the number of characters in the pattern that are no wildcards.
    """

    path: str
    texts: tuple[str, ...]
    split: Split | None
    literal: int


def groups_by_pattern(root: Path, images: Sequence[str], masks: Sequence[str]) -> list[Group]:
    """Return a group for each split that folders name, of the files that the patterns match.

    Where wildcards of both patterns stand for the same text, image and mask are a pair. Of as many patterns for images
    as for masks, the first belongs to the first, and so on. If the texts of most files
    differ, the pairs follow from the file names as in other data sets. Raises DataError if a pattern matches no file,
    or images and masks have a file in common.
    """
    in_order = len(images) == len(masks)
    image_files, mask_files = _find(root, images, in_order), _find(root, masks, in_order)
    image_files, mask_files, both = _separate(image_files, mask_files)
    if both:
        problem = f"is matched by {', '.join(images)} and by {', '.join(masks)}"
        remedy = "name images and masks with patterns that have no file in common"
        raise DataError.of(Fault("ambiguous-image", root / min(both), problem, remedy))
    common = len({file.texts for file in image_files} & {file.texts for file in mask_files})
    by_text = 2 * common >= min(len(image_files), len(mask_files))
    groups = []
    for split in dict.fromkeys(file.split for file in image_files):
        inside = [file for file in image_files if file.split == split]
        partners = [file for file in mask_files if file.split in (split, None) or split is None]
        repeated = len({file.texts for file in partners}) < len(partners)
        rule = NameRule(many=repeated) if by_text else None
        collections = (_collect(root, partners, "mask", None, rule),) if partners else ()
        groups.append(Group(_collect(root, inside, "image", split, rule), collections, split))
    return groups


def find_unmatched(root: Path, images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Return the image files that no pattern matches, in the folders of those that a pattern of images matches."""
    chosen, known = ([translate(pattern) for pattern in patterns] for patterns in (images, (*images, *masks)))
    unmatched = []
    for folder in list_files(root).folders:
        paths = ["/".join((*folder.parts, name)) for name in folder.having(BAND_SUFFIXES)]
        if any(pattern.fullmatch(path) for path in paths for pattern in chosen):
            unmatched += [path for path in paths if not any(pattern.fullmatch(path) for pattern in known)]
    return unmatched


def _separate(images: list[_Match], masks: list[_Match]) -> tuple[list[_Match], list[_Match], set[str]]:
    """Give a file that both match to the pattern with more text: `a_mask.png` is a mask by `*.png` and `*_mask.png`."""
    of_image, of_mask = ({file.path: file.literal for file in files} for files in (images, masks))
    both = of_image.keys() & of_mask.keys()
    equal = {path for path in both if of_image[path] == of_mask[path]}
    return (
        [file for file in images if file.path not in both or file.literal > of_mask[file.path]],
        [file for file in masks if file.path not in both or file.literal > of_image[file.path]],
        equal,
    )


def translate(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern, with a group for each wildcard.

    `*` is any text and `?` any character of one name, `[abc]` one of these characters, `**/` any folders or none.
    """
    parts = re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern.replace("\\", "/").removeprefix("./"))
    return re.compile("".join(map(_translate_part, parts)))


def describe_file(root: Path, collection: Collection, index: int, prefix: str = "", suffix: str = "") -> str:
    """Return a pattern of a file of a collection: its folder, and its name with `*` between prefix and suffix."""
    path = (collection.folder / collection.names[index]).relative_to(root)
    folder = "".join(f"{_escape(part)}/" for part in path.parent.parts)
    return f"{folder}{_escape(prefix)}*{_escape(suffix)}{_escape(path.suffix)}"


def _escape(text: str) -> str:
    return re.sub(r"[*?\[]", lambda sign: f"[{sign[0]}]", text)


def _translate_part(part: str) -> str:
    known = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}
    if part in known:
        return known[part]
    if part.startswith("[") and part.endswith("]"):
        inner = part[1:-1].replace("\\", r"\\")
        if len(inner) == 1:
            return re.escape(inner)
        return f"([{'^' + inner[1:] if inner[0] == '!' else inner}])"
    return re.escape(part)


def _find(root: Path, patterns: Sequence[str], in_order: bool) -> list[_Match]:
    """Return the files of each pattern, in order; a file that several match once.

    If patterns are `in_order`, a file's first text is the number of its pattern.
    """
    inventory, matches = list_files(root), dict[str, _Match]()
    for number, pattern in enumerate(patterns if in_order else dict.fromkeys(patterns)):
        of_pattern = list(_matching(inventory, translate(pattern), len(re.sub(r"[*?]", "", pattern))))
        if not of_pattern:
            problem = f"holds no file that matches {pattern}"
            remedy = "correct the pattern; it is relative to this folder, and needs quotes in a shell"
            raise DataError.of(Fault("missing-file", root, problem, remedy))
        if in_order:
            of_pattern = [replace(file, texts=(str(number), *file.texts)) for file in of_pattern]
        matches = {file.path: file for file in of_pattern} | matches
    return list(matches.values())


def _matching(inventory: Inventory, expression: re.Pattern[str], literal: int) -> Iterator[_Match]:
    for folder in inventory.folders:
        splits = {split for part in folder.parts if (split := parse_name(part).split) is not None}
        for name in folder.files:
            path = "/".join((*folder.parts, name))
            match = expression.fullmatch(path)
            if match is not None:
                texts = tuple(text.strip("/") for text in match.groups())
                yield _Match(path, texts, next(iter(splits)) if len(splits) == 1 else None, literal)


def _collect(root: Path, files: list[_Match], role: Role, split: Split | None, rule: NameRule | None) -> Collection:
    names = tuple(file.path for file in files)
    stems = () if rule is None else tuple("-".join(filter(None, file.texts)) for file in files)
    return Collection(root, names, role, split, (), rule, stems)

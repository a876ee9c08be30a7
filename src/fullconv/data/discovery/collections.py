"""Folders become collections of images or of masks, and collections become the parts of a data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullconv.data.discovery.name_rule import NameRule, split_mixed
from fullconv.data.discovery.renderings import FORMAT_WORDS, PICTURES, rank_rendering, rank_words
from fullconv.data.discovery.words import Role, Split, parse_name
from fullconv.data.pairing import normalize_stem
from fullconv.files import Folder, Inventory
from fullconv.geometry.spread import spread
from fullconv.images.decoders.mask_arrays import ARRAY_MASKS

__all__ = ["Collection", "Group", "collections_of", "grouped"]

PROBED = 6
"""Files of a folder that are looked into where its name does not say what it holds."""


@dataclass(frozen=True)
class Collection:
    """Image files of one folder that have one role.

    `key` are the words of the folders' names that say neither role nor split; images and masks with one key belong
    together. `rule` is how names of images and masks differ where one folder holds both. `by_content` says that no name
    gave the role. `stems` are paired instead of the files' names, if patterns give them.
    """

    folder: Path
    names: tuple[str, ...] = field(repr=False)
    role: Role | None
    split: Split | None
    key: tuple[str, ...]
    rule: NameRule | None = None
    stems: tuple[str, ...] = field(default=(), repr=False)
    by_content: bool = False

    def stem(self, index: int) -> str:
        """Return the text by which a file is paired: its name without the suffix, unless `stems` has another."""
        return self.stems[index] if self.stems else normalize_stem(Path(self.names[index]).stem)

    def suffix(self, index: int) -> str:
        """Return the ending of a file's name that says its type."""
        return Path(self.names[index]).suffix

    def paths(self) -> list[Path]:
        """Return the files."""
        return [self.folder / name for name in self.names]


@dataclass(frozen=True)
class Group:
    """One collection of images, and the collections of masks that belong to it: several where each is of one class.

    `unread` are collections that show the same masks in another way (`renderings`), or the same images and masks in
    another format. `rivals` are other collections that may be the masks, and that are not read.
    """

    images: Collection
    masks: tuple[Collection, ...] = ()
    split: Split | None = None
    unread: tuple[Collection, ...] = ()
    rivals: tuple[Collection, ...] = ()


def collections_of(
    inventory: Inventory, suffixes: Sequence[str], is_label_image: Callable[[Path], bool]
) -> list[Collection]:
    """Return every folder's image files with the role that names, or else content, say.

    `is_label_image` looks into a file; it is asked only where names are silent, of at most `PROBED` files a folder.
    """
    found: list[Collection] = []
    for folder in inventory.folders:
        names = folder.having(suffixes)
        if names:
            found += _divide(_of_folder(folder, names), is_label_image)
        elif folder.having(ARRAY_MASKS):
            arrays = _of_folder(folder, folder.having(ARRAY_MASKS))
            found += [arrays] if arrays.role == "mask" else []
    return _decide_silent(found, is_label_image)


def _of_folder(folder: Folder, names: tuple[str, ...]) -> Collection:
    role: Role | None = None
    splits: list[Split] = []
    key: list[str] = []
    for part in folder.parts:
        parts = parse_name(part)
        role = parts.role or role
        splits += [parts.split] if parts.split else []
        key += [word for word in parts.rest if parts.role is None or word not in FORMAT_WORDS]
    split = splits[-1] if len(set(splits)) == 1 else None
    return Collection(folder.path, names, role, split, tuple(key))


def _divide(collection: Collection, is_label_image: Callable[[Path], bool]) -> list[Collection]:
    """Divide a folder that holds images and their masks, by their names; others stay as they are."""
    if collection.role == "mask":
        return [collection]
    stems = [Path(name).stem for name in collection.names]
    mixed = split_mixed(stems)
    if mixed is None:
        by_suffix = _divide_by_suffix(collection)
        if by_suffix is not None and is_label_image(by_suffix[1].paths()[0]):
            return by_suffix
        return [collection]
    images, masks, rule = mixed
    if not images or 2 * len(masks) < len(images):
        return [collection]
    rest = sorted(set(range(len(stems))) - {*images, *masks})
    parts = [_part(collection, images, "image", rule), _part(collection, masks, "mask", rule)]
    return [*parts, replace(_part(collection, rest, "mask", None), by_content=True)] if rest else parts


def _part(collection: Collection, indices: Sequence[int], role: Role, rule: NameRule | None) -> Collection:
    return replace(collection, names=tuple(collection.names[index] for index in indices), role=role, rule=rule)


def _divide_by_suffix(collection: Collection) -> list[Collection] | None:
    """Divide a folder of pairs such as `a.jpg` and `a.png`: two suffixes, the same stems."""
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for name in collection.names:
        by_suffix[Path(name).suffix.lower()].append(name)
    if len(by_suffix) != 2:
        return None
    (first, second) = by_suffix.values()
    if {Path(name).stem for name in first} != {Path(name).stem for name in second}:
        return None
    lossy = (".jpg", ".jpeg", ".jfif", ".webp")
    if Path(second[0]).suffix.lower() in lossy:
        first, second = second, first
    if Path(first[0]).suffix.lower() not in lossy:
        return None
    return [
        replace(collection, names=tuple(first), role="image", rule=NameRule()),
        replace(collection, names=tuple(second), role="mask", rule=NameRule()),
    ]


def _decide_silent(found: list[Collection], is_label_image: Callable[[Path], bool]) -> list[Collection]:
    """Give a role, by content, to collections whose names say none."""
    decided = []
    for collection in found:
        if collection.role is None:
            probes = spread(collection.paths(), PROBED)
            pictures = len(found) > 2 and rank_words(collection.folder.name) == PICTURES
            labels = len(probes) if pictures else sum(map(is_label_image, probes))
            collection = replace(collection, role="mask" if 2 * labels > len(probes) else "image", by_content=True)
        decided.append(collection)
    return decided


def grouped(collections: Sequence[Collection]) -> tuple[list[Group], list[Collection]]:
    """Return each collection of images with its masks, and the collections of masks that belong to no images.

    Masks belong to the images of the same split and key. Masks without a split serve the images of all splits, and
    images without a split have masks of any. Masks whose key goes on after the images' key are of one class each
    (`masks/cell`, `masks/nucleus`). Where one collection of images and one of masks remain in a split, they belong
    together.
    """
    images = [collection for collection in collections if collection.role == "image"]
    masks = [collection for collection in collections if collection.role == "mask"]
    readable = [mask for mask in masks if not mask.by_content or rank_words(mask.folder.name) != PICTURES] or masks
    index = _MaskIndex(readable, images)
    used: set[int] = set()
    groups = []
    for collection in images:
        partners = _partners(collection, index)
        used |= {id(partner) for partner in partners}
        groups.append(_group(collection, partners))
    lonely = [mask for mask in masks if id(mask) not in used]
    for split in dict.fromkeys(group.split for group in groups) if lonely else ():
        alone = [place for place, group in enumerate(groups) if not group.masks and group.split == split]
        fitting = [mask for mask in lonely if mask.split == split or (split is None and len(lonely) == 1)]
        group = _group(groups[alone[0]].images, fitting) if len(alone) == 1 and fitting else None
        if group is not None and len(group.masks) == 1:
            groups[alone[0]] = group
            lonely = [mask for mask in lonely if mask not in fitting]
    return _add_unread(groups, lonely), lonely


def _add_unread(groups: Sequence[Group], lonely: Sequence[Collection]) -> list[Group]:
    """Add the masks of no images: as rivals where the name of their folder says that they are masks of ids."""
    result = []
    for group in groups:
        within = [mask for mask in lonely if mask.folder == group.images.folder]
        if group.masks and group.masks[0].rule is not None:
            group = replace(group, unread=(*group.unread, *within))
        elif group.masks:
            used = min(rank_rendering(mask.folder, group.images.folder, mask.names) for mask in group.masks)
            near = [mask for mask in lonely if mask.split in (group.split, None)]
            rivals = [
                mask
                for mask in near
                if not mask.by_content and rank_rendering(mask.folder, group.images.folder, mask.names) <= used
            ]
            others = [mask for mask in near if mask not in rivals]
            group = replace(group, rivals=tuple(rivals), unread=(*group.unread, *others))
        result.append(group)
    return result


def _group(images: Collection, masks: Sequence[Collection]) -> Group:
    """Return the group without masks that other masks show better, such as coloured copies of class ids."""
    ranks = [rank_rendering(mask.folder, images.folder, mask.names) for mask in masks]
    best = [mask for mask, rank in zip(masks, ranks, strict=True) if rank == min(ranks)]
    unread = [mask for mask, rank in zip(masks, ranks, strict=True) if rank > min(ranks)]
    return Group(images, tuple(best), images.split, tuple(unread))


class _MaskIndex:
    """The collections of masks by folder, by key and by the beginnings of keys, so that thousands take seconds."""

    def __init__(self, masks: Sequence[Collection], images: Sequence[Collection]) -> None:
        self.by_folder: dict[Path, list[Collection]] = defaultdict(list)
        self.by_key: dict[tuple[str, ...], list[Collection]] = defaultdict(list)
        self.by_start: dict[tuple[str, ...], list[Collection]] = defaultdict(list)
        self.image_keys = Counter(collection.key for collection in images)
        starts = {collection.key for collection in images}
        for mask in masks:
            if mask.rule is not None:
                self.by_folder[mask.folder].append(mask)
            self.by_key[mask.key].append(mask)
            for length in range(len(mask.key) + 1):
                if mask.key[:length] in starts:
                    self.by_start[mask.key[:length]].append(mask)


def _partners(images: Collection, index: _MaskIndex) -> list[Collection]:
    def fitting(masks: Sequence[Collection], split_matters: bool) -> list[Collection]:
        return [
            mask
            for mask in masks
            if (mask.split == images.split if split_matters else None in (mask.split, images.split))
            and (mask.folder != images.folder or mask.rule is not None)
        ]

    within = index.by_folder.get(images.folder)
    if within:
        return within
    for split_matters in (True, False):
        exact = fitting(index.by_key.get(images.key, ()), split_matters)
        if exact:
            return exact
        by_class = fitting(index.by_start.get(images.key, ()), split_matters)
        if by_class and not any(index.image_keys[mask.key] - (mask.key == images.key) > 0 for mask in by_class):
            return by_class
    return []

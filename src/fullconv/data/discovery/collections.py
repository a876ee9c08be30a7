"""Folders become collections of images or of masks, and collections become the parts of a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullconv.data.discovery.inventory import Folder, Inventory
from fullconv.data.discovery.name_rule import NameRule, split_mixed
from fullconv.data.discovery.words import Role, Split, parse_name
from fullconv.images.decoders.mask_arrays import ARRAY_MASKS

__all__ = ["Collection", "Group", "collections_of", "grouped"]

PROBED = 6
"""Files of a folder that are looked into where its name does not say what it holds."""


@dataclass(frozen=True)
class Collection:
    """Image files of one folder that have one role.

    `key` are the words of the folders' names that say neither role nor split; images and masks with one key belong
    together. `rule` is how names of images and masks differ where one folder holds both.
    """

    folder: Path
    names: tuple[str, ...] = field(repr=False)
    role: Role | None
    split: Split | None
    key: tuple[str, ...]
    rule: NameRule | None = None

    def paths(self) -> list[Path]:
        """Return the files."""
        return [self.folder / name for name in self.names]


@dataclass(frozen=True)
class Group:
    """One collection of images, and the collections of masks that belong to it: several where each is of one class."""

    images: Collection
    masks: tuple[Collection, ...] = ()
    split: Split | None = None


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
        key += parts.rest
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
    roles: tuple[tuple[list[int], Role], ...] = ((images, "image"), (masks, "mask"))
    return [
        replace(collection, names=tuple(collection.names[index] for index in chosen), role=role, rule=rule)
        for chosen, role in roles
    ]


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
            step = max(1, len(collection.names) // PROBED)
            probes = collection.paths()[::step][:PROBED]
            labels = sum(map(is_label_image, probes))
            collection = replace(collection, role="mask" if 2 * labels > len(probes) else "image")
        decided.append(collection)
    return decided


def grouped(collections: Sequence[Collection]) -> tuple[list[Group], list[Collection]]:
    """Return each collection of images with its masks, and the collections of masks that belong to no images.

    Masks belong to the images of the same split and key. Masks without a split serve the images of all splits, and
    images without a split have masks of any. Masks whose key goes on after the images' key are of one class each
    (`masks/cell`, `masks/nucleus`). Where one collection of images and one of masks remain, they belong together.
    """
    images = [collection for collection in collections if collection.role == "image"]
    masks = [collection for collection in collections if collection.role == "mask"]
    used: set[int] = set()
    groups = []
    for collection in images:
        partners = _partners(collection, images, masks)
        used |= {id(partner) for partner in partners}
        groups.append(Group(collection, tuple(partners), collection.split))
    lonely = [mask for mask in masks if id(mask) not in used]
    alone = [index for index, group in enumerate(groups) if not group.masks]
    if len(alone) == len(lonely) == 1 and groups[alone[0]].split in (None, lonely[0].split):
        groups[alone[0]] = replace(groups[alone[0]], masks=(lonely[0],))
        lonely = []
    return groups, lonely


def _partners(images: Collection, others: Sequence[Collection], masks: Sequence[Collection]) -> list[Collection]:
    def fitting(split_matters: bool, classes: bool) -> list[Collection]:
        found = []
        for mask in masks:
            if mask.folder == images.folder and mask.rule is None:
                continue
            same_split = mask.split == images.split if split_matters else None in (mask.split, images.split)
            length = len(images.key)
            same_key = mask.key == images.key or (classes and mask.key[:length] == images.key)
            if same_split and same_key:
                found.append(mask)
        return found

    within = [mask for mask in masks if mask.folder == images.folder and mask.rule is not None]
    if within:
        return within
    for split_matters in (True, False):
        exact = fitting(split_matters, classes=False)
        if exact:
            return exact
        by_class = fitting(split_matters, classes=True)
        if by_class and not any(other is not images and other.key == mask.key for mask in by_class for other in others):
            return by_class
    return []

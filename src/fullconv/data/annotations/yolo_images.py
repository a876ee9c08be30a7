"""The images of a YOLO data set by split, and the folder with the label files of each folder of images."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath

from fullconv.data.annotations.data_yaml import DataYaml
from fullconv.data.annotations.image_index import ImageIndex, list_images
from fullconv.data.annotations.split_lists import find_inside, read_lines
from fullconv.data.pairing import is_image, normalize_stem
from fullconv.data.splits import SPLITS, split_of
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES

__all__ = ["ImagesOfSplits", "LabelFolders", "find_images"]

Named = list[tuple[str, Path]]

LISTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The stems of lists in the data set's folder, in lower case, with the split of each."""


class LabelFolders:
    """The folder with the label files of each folder of images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inside: dict[Path, dict[str, str]] = {}
        self._known: dict[Path, Path] = {}
        self._files: dict[Path, dict[str, Path]] = {}

    def find(self, folder: Path) -> Path:
        """Return the folder's path with `labels` in place of the last `images`, in any case.

        Otherwise it is `labels` next to the folder or in `root`, with the folder's name or without it, or the folder.
        """
        if folder not in self._known:
            self._known[folder] = next(self._candidates(folder), folder)
        return self._known[folder]

    def find_file(self, image: Path) -> Path:
        """Return the label file of an image; it may not exist."""
        folder = self.find(image.parent)
        return self.files(folder).get(normalize_stem(image.stem), folder / f"{image.stem}.txt")

    def files(self, folder: Path) -> dict[str, Path]:
        """Return the text files of a folder by their stems, in the form of `normalize_stem`."""
        if folder not in self._files:
            self._files[folder] = {normalize_stem(path.stem): path for path in sorted(folder.glob("*.txt"))}
        return self._files[folder]

    def _candidates(self, folder: Path) -> Iterator[Path]:
        parts = folder.parts
        paths = [
            (Path(*parts[:position]), ("labels", *parts[position + 1 :]))
            for position in range(len(parts) - 1, 0, -1)
            if parts[position].casefold() == "images"
        ]
        for parent in (folder, folder.parent, self.root):
            paths += [(parent, ("labels", folder.name)), (parent, ("labels",))]
        for parent, names in paths:
            target = self._descend(parent, names)
            if target is not None and any(path.suffix == ".txt" for path in target.iterdir()):
                yield target

    def _descend(self, folder: Path, names: tuple[str, ...]) -> Path | None:
        for name in names:
            if folder not in self._inside:
                folders = [entry.name for entry in os.scandir(folder) if entry.is_dir()] if folder.is_dir() else []
                self._inside[folder] = {entry.casefold(): entry for entry in folders}
            actual = self._inside[folder].get(name.casefold())
            if actual is None:
                return None
            folder = folder / actual
        return folder


@dataclass
class ImagesOfSplits:
    """The images of each split with their names; "" where no split is named. `notes` say what was inferred."""

    labels: LabelFolders
    of_split: dict[str, Named]
    notes: list[str] = field(default_factory=list)


def find_images(root: Path, description: DataYaml | None, faults: list[Fault]) -> ImagesOfSplits | None:
    """Return the images that the description names, or else those in folders that have label files.

    Paths that do not exist fall back to what lies in `root`. Faults are added for splits that cannot be found. None
    means that there are no images.
    """
    before = len(faults)
    index, labels = ImageIndex(root), LabelFolders(root)
    lying = _by_structure(index, labels)
    notes: list[str] = []
    written = dict(description.splits) if description is not None else _lists_in(root)
    source = description.path if description is not None else root
    chosen: dict[str, list[Path]] = {}
    for split, entries in written.items():
        images = [image for entry in entries for image in _read_entry(index, description, split, entry, faults)]
        if not images and split in lying:
            notes.append(f"{', '.join(entries)} does not exist; {split} is read from {lying[split][0].parent}")
            images = lying[split]
        if images:
            chosen[split] = list(dict.fromkeys(images))
        elif split != "test" and len(faults) == before:
            problem, remedy = f"{split!r} is {', '.join(entries[:3])}, where there are no images", "correct it"
            faults.append(Fault("missing-image", source, problem, remedy, split=split))
    chosen = chosen or lying
    index.log()
    if "" in chosen and len(chosen) > 1:
        problem = f"{len(chosen[''])} images with label files are in no split, first {chosen[''][0]}"
        faults.append(Fault("ambiguous-split", root, problem, f"move them into one of {', '.join(SPLITS)}"))
        del chosen[""]
    unused = {image for images in lying.values() for image in images}.difference(*chosen.values())
    if unused and not chosen.keys() & {""} and chosen is not lying:
        notes.append(f"{len(unused)} image(s) with label files are in no split of {source}, first {min(unused)}")
    chosen = _separate(source, chosen, notes, faults)
    if not chosen and len(faults) == before:
        remedy = "put them into images, and the label files into labels"
        faults.append(Fault("missing-image", root, "no image has a label file", remedy))
    ordered = {split: _name_all(root, chosen[split]) for split in (*SPLITS, "") if chosen.get(split)}
    return ImagesOfSplits(labels, ordered, notes) if ordered else None


def _by_structure(index: ImageIndex, labels: LabelFolders) -> dict[str, list[Path]]:
    """Return the images in folders that have label files, by the split that the names of the folders say."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for images in index.by_name.values():
        for image in images:
            by_folder[image.parent].append(image)
    splits: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(by_folder):
        images, files = sorted(by_folder[folder]), labels.find(folder)
        if files == folder and not any(labels.find_file(image).is_file() for image in images):
            continue
        parts = folder.relative_to(index.root).parts
        splits[next((split for part in reversed(parts) if (split := split_of(part))), "")] += images
    return dict(splits)


def _lists_in(root: Path) -> dict[str, tuple[str, ...]]:
    """Return the lists of images in `root`, such as train.txt, by split."""
    lists: dict[str, tuple[str, ...]] = {}
    for path in sorted(root.glob("*.txt")):
        split = LISTS.get(path.stem.lower())
        if split is not None and split not in lists and any(map(_is_reference, read_lines(path)[:1])):
            lists[split] = (path.name,)
    return lists


def _is_reference(line: str) -> bool:
    return PurePosixPath(line.replace("\\", "/")).suffix.lower() in BAND_SUFFIXES


def _read_entry(
    index: ImageIndex, description: DataYaml | None, split: str, entry: str, faults: list[Fault]
) -> list[Path]:
    """Return the images of one path of a split: a folder, a list, or one image; nothing if it does not exist."""
    root, base = index.root, "" if description is None else description.base
    path = find_inside(root, entry, (base,) if base else ())
    if path is None:
        return []
    if path.is_dir():
        return list_images(path)
    if not path.name.endswith(".txt"):
        return [path] if is_image(path, BAND_SUFFIXES) else []
    images = []
    for number, line in enumerate(read_lines(path), 1):
        image = find_inside(root, line, (os.path.relpath(path.parent, root), base))
        files = [image] if image is not None and image.is_file() else index.find_foreign(path, line)
        if len(files) == 1:
            images.append(files[0])
            continue
        problem = f"line {number} names {line!r}, which is not in the data set"
        kind, remedy = "listed-absent", "add the file, or remove the line"
        if files:
            problem, kind = f"line {number} names {line!r}, which may be {files[0]} or {files[1]}", "ambiguous-image"
            remedy = " or ".join(os.path.relpath(file, root).replace(os.sep, "/") for file in files[:2])
            remedy = f"write {remedy} there"
        faults.append(Fault(kind, path, problem, remedy, PurePosixPath(line).stem, split))
    return images


def _separate(
    source: Path, chosen: dict[str, list[Path]], notes: list[str], faults: list[Fault]
) -> dict[str, list[Path]]:
    """Return splits that share no image; train and val that are the same images are one set without splits."""
    if "val" in chosen and set(chosen["val"]) == set(chosen.get("train", ())):
        notes.append(f"train and val of {source} are the same images, so they count as images without a split")
        rest = {split: images for split, images in chosen.items() if split != "val"}
        return rest if len(rest) > 1 else {"": chosen["train"]}
    for first, second in combinations(chosen, 2):
        both = sorted(set(chosen[first]) & set(chosen[second]))
        if both:
            problem = f"{len(both)} image(s) are in {first} and in {second}, first {both[0]}"
            faults.append(Fault("ambiguous-split", source, problem, "leave each image in one split", split=second))
            chosen = chosen | {second: [image for image in chosen[second] if image not in set(both)]}
    return chosen


def _name_all(root: Path, images: list[Path]) -> Named:
    """Return the images with their stems as names, or their paths in the data set if stems repeat."""
    if len({image.stem for image in images}) == len(images):
        return [(image.stem, image) for image in images]
    return [(Path(os.path.relpath(image, root)).with_suffix("").as_posix(), image) for image in images]

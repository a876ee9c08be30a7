"""Lists such as train.txt: the paths in them, the division of samples by them, and images in two splits."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path, PurePosixPath

from fullconv.data.annotations.data_yaml import find_data_yaml
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import normalize_stem
from fullconv.data.splits import SPLITS, UNDIVIDED, split_of
from fullconv.errors import DataError
from fullconv.faults import Fault, unreadable
from fullconv.files import read_file
from fullconv.images import BAND_SUFFIXES

__all__ = ["apply_lists", "find_inside", "read_lines", "separate_splits"]

logger = logging.getLogger(__name__)

FOLDERS = ("", "splits", "split", "lists", "ImageSets", "ImageSets/Segmentation")
"""Folders of a data set in which lists are looked for; the first with lists counts."""

_WORDS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}

_LIST_NAME = re.compile(
    r"(train|training|val|valid|validation|dev|test|testing)[_\- ]?(set|split|list|ids?|files?|filenames|names|images)?"
)


def apply_lists(dataset: DataSet, faults: list[Fault]) -> DataSet:
    """Return the data set with the splits of lists, if its samples are undivided and there are lists."""
    listed = None
    if {split for split, samples in dataset.splits.items() if samples} == {UNDIVIDED}:
        listed = _divide(dataset.root, dataset.splits[UNDIVIDED], faults)
    if listed is None:
        return dataset
    return replace(dataset, splits=listed[0], inferences=(*dataset.inferences, listed[1]))


def _divide(
    root: Path, samples: Sequence[Sample], faults: list[Fault]
) -> tuple[dict[str, tuple[Sample, ...]], str] | None:
    """Return the samples by the split of the list that names each, and a sentence on it; None without lists.

    Lists name images by stem, name or path, one in each line. Lines without an image are faults, unless no line of any
    list names an image: such files are no lists. Without a list of train, the images that no list names are train.
    """
    lists = _find_lists(root)
    by_key: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        for key in {_key(sample.name), _key(sample.image.name)}:
            by_key[key].append(sample)
    split_of_image: dict[Path, str] = {}
    absent: list[Fault] = []
    for split, paths in lists.items():
        for path, lines in paths:
            if path.is_dir():
                named: Iterable[Sample] = (sample for sample in samples if sample.image.is_relative_to(path))
            else:
                named = _read_list(path, lines, split, by_key, absent)
            for sample in named:
                other = split_of_image.setdefault(sample.image, split)
                if other != split:
                    problem = f"names {sample.name!r}, which a list of {other} names, too"
                    remedy = f"remove its line here or in the list of {other}"
                    absent.append(Fault("listed-twice", path, problem, remedy, sample.name, split))
    names = ", ".join(dict.fromkeys(path.name for paths in lists.values() for path, _ in paths))
    if not split_of_image:
        if names and samples:
            logger.warning("%s: %s name(s) no image of the data set, and is not used", root, names)
        return None
    faults += absent
    sentence = f"splits are those of {names}"
    rest = [sample for sample in samples if sample.image not in split_of_image]
    if rest and "train" not in lists:
        split_of_image |= {sample.image: "train" for sample in rest}
        sentence += f"; the {len(rest)} images that no list names are train"
    elif rest:
        unused = f"{len(rest)} image(s) that no list names are not used, first {rest[0].name}"
        logger.warning(f"{root}: {unused}")
        sentence += f"; {unused}"
    divided = {
        split: tuple(sample for sample in samples if split_of_image.get(sample.image) == split) for split in SPLITS
    }
    return {split: chosen for split, chosen in divided.items() if chosen}, sentence


def separate_splits(dataset: DataSet, faults: list[Fault]) -> DataSet:
    """Return the data set with every image in only one of train, val and test; add a fault for two that share some."""
    splits = dict(dataset.splits)
    for first, second in combinations([split for split in SPLITS if split in splits], 2):
        images = {sample.image for sample in splits[first]}
        both = [sample.name for sample in splits[second] if sample.image in images]
        if both:
            problem = f"{len(both)} image(s) are in {first} and in {second}, first {both[0]}"
            faults.append(Fault("listed-twice", dataset.root, problem, "leave each image in one split", split=second))
            splits[second] = tuple(sample for sample in splits[second] if sample.image not in images)
    return replace(dataset, splits=splits)


def _find_lists(root: Path) -> dict[str, list[tuple[Path, list[str]]]]:
    """Return what data.yaml names for each split, or else the lists whose names say a split: files and their lines.

    Folders have no lines, and divide nothing if two splits share one. Images that data.yaml names are lines of it.
    """
    lists: dict[str, list[tuple[Path, list[str]]]] = defaultdict(list)
    try:
        description = find_data_yaml(root)
    except DataError:  # reported where the class names are read
        description = None
    for split, entries in description.splits.items() if description is not None else ():
        assert description is not None
        images = [entry for entry in entries if PurePosixPath(entry).suffix.lower() in BAND_SUFFIXES]
        paths = [find_inside(root, entry, (description.base,)) for entry in entries if entry not in images]
        lists[split] += [(description.path, images)] if images else []
        lists[split] += [(path, read_lines(path) if path.is_file() else []) for path in paths if path is not None]
    named = [path for found in lists.values() for path, _ in found if path.is_dir()]
    if len(set(named)) < len(named):
        lists.clear()
    lists = defaultdict(list, {split: found for split, found in lists.items() if found})
    for folder in FOLDERS:
        for path in () if lists else sorted((root / folder).glob("*.txt")):
            match = _LIST_NAME.fullmatch(path.stem.lower())
            if match is not None:
                lists[_WORDS.get(match[1], match[1])].append((path, read_lines(path)))
    return dict(lists)


def _read_list(
    path: Path, lines: Sequence[str], split: str, by_key: dict[str, list[Sample]], faults: list[Fault]
) -> Iterator[Sample]:
    """Yield the samples that a list names; of a line with several columns, the first names the image."""
    for number, line in enumerate(lines, 1):
        samples: list[Sample] = []
        for written in (line, line.split()[0].rstrip(",")):
            samples = samples or list(dict.fromkeys(by_key.get(_key(written), ())))
        if len(samples) > 1:
            wanted = PurePosixPath(line.replace("\\", "/")).parts
            shared = [_count_shared(sample.image.parts[:-1], wanted[:-1]) for sample in samples]
            samples = [sample for sample, count in zip(samples, shared, strict=True) if count == max(shared)]
        if len(samples) == 1:
            yield samples[0]
            continue
        problem, remedy = f"line {number} names {line!r}, which is not in the data set", "add it, or remove the line"
        kind = "listed-absent"
        if samples:
            problem = f"line {number} names {line!r}, which may be {samples[0].image} or {samples[1].image}"
            kind, remedy = "ambiguous-image", "write the path from the data set's folder"
        faults.append(Fault(kind, path, problem, remedy, split=split))


def _count_shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts two paths share at their end."""
    both = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))


def _key(written: str) -> str:
    """Return the name by which a line and a sample meet: the last part of a path, without an image's suffix."""
    name = normalize_stem(PurePosixPath(written.replace("\\", "/")).name)
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in BAND_SUFFIXES else name


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank. Raises DataError if it cannot be read."""
    try:
        lines = read_file(path).decode("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError.of(unreadable(path, error)) from None
    return [line.strip() for line in lines if line.strip()]


def find_inside(root: Path, written: str, bases: Sequence[str] = ()) -> Path | None:
    """Return the file or folder that a path means, as it is written, or as its last parts lie in `root`.

    `bases` are folders to which it may be relative. If it does not exist, leading folders are left out one by one
    (`/content/set/train/images`, `../train/images`). What remains must name the same split, so that `images` is not
    taken for `valid/images`. A path that exists outside of `root` counts only if nothing in `root` fits.
    """
    outside = None
    for base in (*bases, ""):
        path = _join(root, base, written)
        if path is not None and _is_inside(root, path):
            return path
        outside = outside or path
    parts = [part for part in PurePosixPath(written.replace("\\", "/")).parts if part not in (".", "..", "/")]
    split = _split_in(parts)
    for start in range(len(parts)):
        rest = parts[start:]
        if ":" in rest[0] or _split_in(rest) != split:
            continue
        path = root.joinpath(*rest)
        if _exists(path):
            return path
    return outside


def _join(root: Path, base: str, written: str) -> Path | None:
    path = root / base.replace("\\", "/") / written.replace("\\", "/")
    if not _exists(path):
        return None
    return Path(os.path.normpath(path))


def _is_inside(root: Path, path: Path) -> bool:
    return path.is_relative_to(root) or path.resolve().is_relative_to(root.resolve())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False


def _split_in(parts: Sequence[str]) -> str | None:
    return next(_splits(parts), None)


def _splits(parts: Sequence[str]) -> Iterator[str]:
    for part in reversed(parts):
        split = split_of(PurePosixPath(part).stem)
        if split is not None:
            yield split

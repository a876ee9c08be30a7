"""The images of a session: where they are, what their masks are called, and what an earlier labelling says of them."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fullconv.data.dataset import DataSet, Sample
from fullconv.data.discovery.words import parse_name
from fullconv.data.layouts import survey
from fullconv.data.pairing import is_image, normalize_stem
from fullconv.data.splits import SPLITS
from fullconv.errors import DataError, UsageError
from fullconv.faults import Fault
from fullconv.files import is_litter
from fullconv.images import BAND_SUFFIXES

__all__ = ["Photo", "Source", "find_photos"]

logger = logging.getLogger(__name__)

MOST_IMAGES = 200_000

ANNOTATIONS = frozenset({".json", ".xml", ".yaml", ".yml", ".mat"})
"""Suffixes, in lower case, of the files that may hold annotations."""


WITHOUT_MASKS = frozenset({"empty-split", "missing-folder"})
"""Faults of a folder that is prepared for masks and has none yet."""


@dataclass(frozen=True)
class Photo:
    """An image of the session.

    Attributes:
        id: Its id in requests and in names of journals, which follows from its name only.
        name: Its path below PHOTOS, with slashes.
        path: The file.
        mask: The path of its mask below DATA/masks, with slashes.
        split: The split that it belongs to; empty if none is known.
        base: The sample that labels it already, if there is one.
    """

    id: str
    name: str
    path: Path
    mask: str
    split: str = ""
    base: Sample | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Source:
    """The images of PHOTOS in the order of their names, and the data set that labels them, if there is one."""

    root: Path
    photos: tuple[Photo, ...]
    dataset: DataSet | None = field(default=None, repr=False)


def find_photos(root: Path, labelled: bool | None = None) -> Source:
    """Find the images of a folder, and the labels that it has in any layout that is read.

    `labelled` says whether it was a data set when the session began; None decides it. Raises UsageError if there is no
    image, and DataError for labels that cannot be read.
    """
    dataset = _read_labels(root) if labelled is not False else None
    if dataset is None and labelled:
        message = f"{root}: was a data set when this labelling began, and is not any more; put its masks back"
        raise DataError(message, code="labels-gone")
    paths = list(_walk(root))
    bases: dict[str, Sample] = {}
    splits: dict[str, str] = {}
    if dataset is not None:
        for split, samples in dataset.splits.items():
            for sample in samples:
                name = _name(sample.image, root)
                bases[name], splits[name] = sample, split
        paths = _unlabelled_too(paths, bases)
        splits = {} if any("are held out for validation" in text for text in dataset.inferences) else splits
    else:
        splits = _folder_splits(paths)
    if not paths:
        kinds = ", ".join(sorted(BAND_SUFFIXES))
        raise UsageError(f"{root}: holds no images that are read ({kinds}); name another folder", code="no-photos")
    masks = _name_masks(paths)
    photos = (
        Photo(_id(name), name, root.joinpath(*PurePosixPath(name).parts), masks[name], splits.get(name, ""), base)
        for name, base in ((name, bases.get(name)) for name in paths)
    )
    return Source(root, tuple(photos), dataset)


def _read_labels(root: Path) -> DataSet | None:
    """Return the data set of a folder that has masks in some layout; None for plain photos.

    Only where a name speaks of masks or a file may hold annotations, contents are looked at: large photos take long.
    Raises DataError if the folder looks like a data set, but cannot be read: its masks would become photos.
    """
    if not any(map(_may_label, _names(root))):
        return None
    try:
        result = survey(root)
    except DataError as error:
        if error.code == "unknown-layout":
            return None
        raise
    dataset = result.dataset
    wrong = [fault for fault in result.faults if fault.severity == "error"]
    if dataset is None or not any(dataset.splits.values()):
        if {fault.kind for fault in wrong} <= WITHOUT_MASKS:
            return None
        raise _unclear(root, wrong)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        logger.warning(f"{root}: not all labels can be used: {wrong[0]}{more}")
    return dataset


def _unclear(root: Path, faults: Sequence[Fault]) -> DataError:
    command = f"fullconv check {shlex.quote(str(root))}"
    message = (
        f"{root}: looks like a labelled data set that cannot be read; correct it (`{command}` lists all faults; add "
        "--write to the options that it asks for), or name a folder that holds only photos"
    )
    return DataError(message, faults, code="labels-unclear")


def _names(root: Path) -> Iterable[str]:
    """Yield the names of all files and folders, without litter."""
    for _, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not is_litter(name)]
        yield from inner
        yield from (name for name in files if not is_litter(name))


def _may_label(name: str) -> bool:
    path = PurePosixPath(name)
    is_table = path.suffix.lower() in ANNOTATIONS or path.stem in ("cls", "stuffthingmaps")
    return is_table or parse_name(path.stem).role == "mask"


def _walk(root: Path) -> Iterable[str]:
    """Yield the paths of all images below a folder, in order; links to folders are followed once each."""
    seen, count = set[str](), 0
    for folder, inner, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not is_litter(name))
        for name in sorted(files):
            if is_image(Path(name), BAND_SUFFIXES):
                count += 1
                if count > MOST_IMAGES:
                    message = f"{root}: holds more than {MOST_IMAGES:,} images; name a folder inside"
                    raise UsageError(message, code="too-many-photos")
                yield _name(Path(folder, name), root)


def _unlabelled_too(paths: Sequence[str], bases: dict[str, Sample]) -> list[str]:
    """Return the labelled images, and those without labels in folders of images alone."""
    masks = {sample.target.parent for sample in bases.values() if not sample.is_drawn}
    folders = {PurePosixPath(name).parent for name, sample in bases.items() if sample.image.parent not in masks}
    return [name for name in paths if name in bases or PurePosixPath(name).parent in folders]


def _folder_splits(paths: Sequence[str]) -> dict[str, str]:
    """Return the splits of images whose topmost folders are all named as splits."""
    tops = {name: PurePosixPath(name).parts[0] for name in paths}
    if "train" not in tops.values() or not {*tops.values()} <= {*SPLITS}:
        return {}
    return {name: top for name, top in tops.items() if len(PurePosixPath(name).parts) > 1}


def _name_masks(paths: Sequence[str]) -> dict[str, str]:
    """Return the path of each image's mask: the stem and .png, or the whole name and .png where that is not unique.

    Names that differ only by case count as equal, as they do on many disks.
    """
    stems = Counter(_fold(PurePosixPath(name).with_suffix("")) for name in paths)
    names = {_fold(PurePosixPath(name)) for name in paths}
    masks: dict[str, str] = {}
    for name in paths:
        path = PurePosixPath(name)
        stem = _fold(path.with_suffix(""))
        is_unique = stems[stem] == 1 and stem not in names
        masks[name] = (path.with_suffix("") if is_unique else path).as_posix() + ".png"
    return masks


def _fold(path: PurePosixPath) -> str:
    return normalize_stem(path.as_posix()).casefold()


def _name(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _id(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]

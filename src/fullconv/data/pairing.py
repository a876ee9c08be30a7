"""Images and their masks on the disk: which belong together, and what is wrong with them before a pixel is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fullconv.data.dataset import Sample, jpeg_fault, size_fault
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES, image_size
from fullconv.images.decoders.npy import ARRAY_SUFFIX
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX

__all__ = ["check_sizes", "dataset_error", "is_image", "list_by_stem", "normalize_stem", "pair_files"]


OTHER_IMAGES = frozenset({".avif", ".dcm", ".dng", ".heic", ".heif", ".jp2", ".jxl"})
"""Suffixes, in lower case, of images that are not read."""


def list_by_stem(
    folder: Path, faults: list[Fault], suffixes: Collection[str] = IMAGE_SUFFIXES, split: str | None = None
) -> dict[str, Path]:
    """The files of `folder` with one of the suffixes (lower case); an absent or empty folder is a fault."""
    if not folder.is_dir():
        remedy = "create it, or correct its name"
        faults.append(Fault("missing-folder", folder, "this folder is absent", remedy, split=split))
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() == ARRAY_SUFFIX, path)):
        if not _has_suffix(path, suffixes):
            continue
        stem = normalize_stem(path.stem)
        if stem in files and path.suffix.lower() == ARRAY_SUFFIX:  # an image's own, such as its features
            continue
        if stem in files:
            problem = f"has the same stem as {files[stem].name}"
            faults.append(Fault("duplicate-stem", path, problem, "rename or remove one", stem, split))
        files.setdefault(stem, path)
    if not files:
        remedy = f"put files here ({', '.join(sorted(suffixes))})"
        faults.append(Fault("empty-split", folder, "the split is empty", remedy, split=split))
    return files


def normalize_stem(name: str) -> str:
    """A stem as it is compared: an accent may be a character of its own in one name and not in the other (macOS)."""
    return unicodedata.normalize("NFC", name)


def is_image(path: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a search for images takes this name: a known suffix, and not hidden."""
    return _has_suffix(path, suffixes)


def pair_files(images: Path, masks: Path, faults: list[Fault], split: str = "train") -> tuple[Sample, ...]:
    """The images and masks of two folders that share a stem; what is left over goes to `faults`."""
    image_files = list_by_stem(images, faults, BAND_SUFFIXES, split)
    mask_files = list_by_stem(masks, faults, split=split)
    unread = _passed_over(images, image_files, faults, split)
    both = sorted(image_files.keys() & mask_files.keys())
    if not (image_files and mask_files):
        return ()
    if not both:
        image, mask = min(image_files.values()), min(mask_files.values())
        problem = f"no mask has the stem of an image, as {mask.name} and {image.name} show"
        faults.append(Fault("no-common-stem", masks, problem, "give each mask its image's stem", split=split))
        return ()
    for stem in sorted(image_files.keys() - mask_files.keys()):
        remedy = f"add {masks / stem}.png, or remove the image"
        faults.append(Fault("missing-mask", image_files[stem], "no mask has its stem", remedy, stem, split))
    for stem in sorted(mask_files.keys() - image_files.keys() - unread):
        problem = f"no image in {images} has its stem"
        faults.append(Fault("orphan-mask", mask_files[stem], problem, "add the image, or remove the mask", stem, split))
    return check_sizes((Sample(stem, image_files[stem], mask_files[stem]) for stem in both), faults, split)


def _passed_over(images: Path, found: Collection[str], faults: list[Fault], split: str) -> set[str]:
    """The stems of images of kinds that are not read, which are faults, as are images in folders of the folder."""
    unread = set()
    for path in sorted(images.iterdir()) if images.is_dir() else ():
        if path.name.startswith((".", "@")):  # @eaDir holds a disk station's thumbnails
            continue
        stem = normalize_stem(path.stem)
        if path.suffix.lower() in OTHER_IMAGES and stem not in found:
            unread.add(stem)
            problem, remedy = "images of this kind are not read", "save it as JPEG, PNG or TIFF"
            faults.append(Fault("unsupported-format", path, problem, remedy, stem, split))
        elif path.is_dir():
            inside = path.iterdir() if path.is_symlink() else path.rglob("*")
            count = sum(is_image(file, BAND_SUFFIXES) for file in inside)
            if count:
                problem = f"{count} image(s) lie in a folder of {images}"
                faults.append(Fault("nested-images", path, problem, "move them there, and their masks", split=split))
    return unread


def check_sizes(samples: Iterable[Sample], faults: list[Fault], split: str = "train") -> tuple[Sample, ...]:
    """The samples whose image and mask have readable headers of one size; the others become faults, with their `pair`.

    Masks that no image file holds (SBD's, and those with a `reader`) have no header that tells their size:
    `read_statistics` and `DataSet.read` compare that.
    """
    kept = []
    for sample in samples:
        found: list[Fault] = []
        if sample.target.suffix.lower() in (".jpg", ".jpeg"):
            found.append(jpeg_fault(sample.target))
        is_file = sample.reader is None and sample.target.suffix != MASK_SUFFIX
        sizes = []
        for path in (sample.image, sample.target)[: 2 if is_file else 1]:
            try:
                sizes.append(image_size(path))
            except DataError as error:
                found += error.faults_at(path)
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            found.append(size_fault(sample, *sizes))
        faults += [replace(fault, sample=sample.name, split=split, pair=sample) for fault in found]
        if not found:
            kept.append(sample)
    return tuple(kept)


def dataset_error(root: Path, what: str, faults: Sequence[Fault]) -> DataError:
    """Return the error that lists all faults of a data set."""
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return DataError(f"{root}: {count} in this data set of the {what} layout", faults)


def _has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")

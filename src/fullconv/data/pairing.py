"""Pairing of image files with mask files, and the faults that names and headers show."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fullconv.data.dataset import Sample, jpeg_fault, size_fault
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import is_litter
from fullconv.images import BAND_SUFFIXES, IMAGE_SUFFIXES, image_size
from fullconv.images.decoders.mask_arrays import ARRAY_MASKS

__all__ = [
    "check_sizes",
    "dataset_error",
    "is_image",
    "list_by_stem",
    "list_folder",
    "normalize_stem",
    "note_json",
    "pair_files",
]


OTHER_IMAGES = frozenset({".avif", ".dcm", ".dng", ".heic", ".heif", ".jp2", ".jxl"})
"""Suffixes, in lower case, of images that are not read."""


def list_by_stem(
    folder: Path, faults: list[Fault], suffixes: Collection[str] = IMAGE_SUFFIXES, split: str | None = None
) -> dict[str, Path]:
    """Return the files of `folder` with one of the suffixes (lower case) by stem.

    A missing or empty folder is added to `faults`.
    """
    if not folder.is_dir():
        remedy = "create it, or correct its name"
        faults.append(Fault("missing-folder", folder, "this folder does not exist", remedy, split=split))
        return {}
    files: dict[str, Path] = {}
    listed: list[Fault] = []
    paths = list_folder(folder, listed, split)
    for path in sorted(paths, key=lambda path: (path.suffix.lower() in ARRAY_MASKS, path.name)):
        if not _has_suffix(path, suffixes):
            continue
        stem = normalize_stem(path.stem)
        if stem in files and path.suffix.lower() in ARRAY_MASKS:  # for example the image's features
            continue
        if stem in files:
            problem = f"has the same stem as {files[stem].name}"
            faults.append(Fault("duplicate-stem", path, problem, "rename or remove one", stem, split))
        files.setdefault(stem, path)
    faults += listed
    if not files and not listed:
        remedy = f"put files here ({', '.join(sorted(suffixes))})"
        faults.append(Fault("empty-split", folder, "has no files that are read", remedy, split=split))
    return files


def list_folder(folder: Path, faults: list[Fault] | None = None, split: str | None = None) -> list[Path]:
    """Return what is in a folder, sorted. If it cannot be read, add a fault and return nothing."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        problem = f"this folder cannot be read ({error.strerror or error})"
        if faults is not None:
            faults.append(Fault("unreadable-file", folder, problem, "change its permissions", split=split))
        return []


def normalize_stem(name: str) -> str:
    """Return a stem in Unicode form NFC; macOS writes accents as separate characters."""
    return unicodedata.normalize("NFC", name)


def note_json(root: Path, images: Iterable[Path]) -> str:
    """Say that images which have masks have JSON files next to them, too, as labelme writes; these are not read."""
    homes = {(image.parent, normalize_stem(image.stem)) for image in images}
    files = [
        path
        for folder in sorted({folder for folder, _ in homes})
        for path in list_folder(folder)
        if path.suffix.lower() == ".json" and (folder, normalize_stem(path.stem)) in homes
    ]
    if not files:
        return ""
    return f"not read, because there are masks: {len(files)} JSON files such as {files[0].relative_to(root).as_posix()}"


def is_image(path: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Return whether a file is treated as an image by its name: a known suffix, and not hidden."""
    return _has_suffix(path, suffixes)


def pair_files(
    images: Path,
    masks: Path,
    faults: list[Fault],
    split: str = "train",
    mask_suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> tuple[Sample, ...]:
    """Return the images and masks of two folders that share a stem; add all others to `faults`.

    With `mask_suffixes` that include arrays, only names are compared: the masks are decoded later.
    """
    image_files = list_by_stem(images, faults, BAND_SUFFIXES, split)
    mask_files = list_by_stem(masks, faults, mask_suffixes, split)
    unread = _find_unread(images, image_files, faults, split)
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
    pairs = tuple(Sample(stem, image_files[stem], mask_files[stem]) for stem in both)
    return check_sizes(pairs, faults, split) if mask_suffixes is IMAGE_SUFFIXES else pairs


def _find_unread(images: Path, stems: Collection[str], faults: list[Fault], split: str) -> set[str]:
    """Return the stems of images of unsupported types; add these, and images in nested folders, to `faults`."""
    unread = set()
    for path in sorted(list_folder(images), key=lambda path: path.name):
        if is_litter(path.name):
            continue
        stem = normalize_stem(path.stem)
        if path.suffix.lower() in OTHER_IMAGES and stem not in stems:
            unread.add(stem)
            problem, remedy = "images of this type cannot be read", "save it as JPEG, PNG or TIFF"
            faults.append(Fault("unsupported-format", path, problem, remedy, stem, split))
        elif path.is_dir():
            inside = path.iterdir() if path.is_symlink() else path.rglob("*")
            count = sum(is_image(file, BAND_SUFFIXES) for file in inside)
            if count:
                problem = f"{count} image(s) are in a folder of {images}"
                faults.append(
                    Fault(
                        "nested-images",
                        path,
                        problem,
                        "move them into that folder, and their masks likewise",
                        split=split,
                    )
                )
    return unread


def check_sizes(samples: Iterable[Sample], faults: list[Fault], split: str = "train") -> tuple[Sample, ...]:
    """Return the samples whose image and mask have readable headers with equal sizes; add the others to `faults`.

    Masks that are not image files (arrays, and those with a `reader`) have no header with their size. `read_statistics`
    and `DataSet.read` compare it.
    """
    valid = []
    for sample in samples:
        sample_faults: list[Fault] = []
        is_mask = sample.target != sample.image  # the image of a good part has no mask
        if is_mask and sample.target.suffix.lower() in (".jpg", ".jpeg"):
            sample_faults.append(jpeg_fault(sample.target))
        is_file = sample.reader is None and sample.target.suffix.lower() not in ARRAY_MASKS
        sizes = []
        for path in (sample.image, sample.target)[: 2 if is_file else 1]:
            try:
                sizes.append(image_size(path))
            except DataError as error:
                sample_faults += error.faults_at(path)
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            sample_faults.append(size_fault(sample, *sizes))
        faults += [replace(fault, sample=sample.name, split=split, pair=sample) for fault in sample_faults]
        if not sample_faults:
            valid.append(sample)
    return tuple(valid)


def dataset_error(root: Path, what: str, faults: Sequence[Fault]) -> DataError:
    """Return the error that lists all faults of a data set."""
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return DataError(f"{root}: {count} in this data set of the {what} layout", faults)


def _has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not is_litter(path.name)

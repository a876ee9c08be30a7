"""Images and their masks on the disk: which belong together, and what is wrong with them before a pixel is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from fullconv.data.bands import ARRAY_SUFFIX, BAND_SUFFIXES, band_size
from fullconv.data.dataset import Sample, data_error, size_fault
from fullconv.data.sbd import MASK_SUFFIX
from fullconv.errors import DataError
from fullconv.image import IMAGE_SUFFIXES, image_size

__all__ = ["PairFault", "faulty", "files_by_stem", "is_image", "pairs", "same_size", "stem_of"]


OTHER_IMAGES = frozenset({".avif", ".dcm", ".dng", ".heic", ".heif", ".jp2", ".jxl"})
"""Suffixes, in lower case, of images that are not read."""


class PairFault(str):
    """A fault's sentence with the pair that it keeps out of the data set, and the split that the pair is of."""

    sample: Sample
    of_split: str

    def __new__(cls, text: str, sample: Sample, split: str) -> PairFault:
        fault = super().__new__(cls, text)
        fault.sample, fault.of_split = sample, split
        return fault


def files_by_stem(folder: Path, faults: list[str], suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The files of `folder` with one of the suffixes (lower case); an absent or empty folder is a fault."""
    if not folder.is_dir():
        faults.append(f"{folder}: this folder is absent; create it, or correct its name")
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() == ARRAY_SUFFIX, path)):
        if not _has_suffix(path, suffixes):
            continue
        stem = stem_of(path.stem)
        if stem in files and path.suffix.lower() == ARRAY_SUFFIX:  # an image's own, such as its features
            continue
        if stem in files:
            faults.append(f"{path}: has the same stem as {files[stem].name}; rename or remove one")
        files.setdefault(stem, path)
    if not files:
        faults.append(f"{folder}: the split is empty; put files here ({', '.join(sorted(suffixes))})")
    return files


def stem_of(name: str) -> str:
    """A stem as it is compared: an accent may be a character of its own in one name and not in the other (macOS)."""
    return unicodedata.normalize("NFC", name)


def is_image(path: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a search for images takes this name: a known suffix, and not hidden."""
    return _has_suffix(path, suffixes)


def pairs(images: Path, masks: Path, faults: list[str], split: str = "train") -> tuple[Sample, ...]:
    """The images and masks of two folders that share a stem; what is left over goes to `faults`."""
    image_files, mask_files = files_by_stem(images, faults, BAND_SUFFIXES), files_by_stem(masks, faults)
    unread = _passed_over(images, image_files, faults)
    both = sorted(image_files.keys() & mask_files.keys())
    if not (image_files and mask_files):
        return ()
    if not both:
        image, mask = min(image_files.values()), min(mask_files.values())
        faults.append(
            f"{masks}: no mask has the stem of an image, as {mask.name} and {image.name} show; "
            "give each mask its image's stem"
        )
        return ()
    for stem in sorted(image_files.keys() - mask_files.keys()):
        faults.append(f"{image_files[stem]}: no mask has its stem; add {masks / stem}.png, or remove the image")
    for stem in sorted(mask_files.keys() - image_files.keys() - unread):
        faults.append(f"{mask_files[stem]}: no image in {images} has its stem; add the image, or remove the mask")
    return same_size((Sample(stem, image_files[stem], mask_files[stem]) for stem in both), faults, split)


def _passed_over(images: Path, found: Collection[str], faults: list[str]) -> set[str]:
    """The stems of images of kinds that are not read, which are faults, as are images in folders of the folder."""
    unread = set()
    for path in sorted(images.iterdir()) if images.is_dir() else ():
        if path.name.startswith((".", "@")):  # @eaDir holds a disk station's thumbnails
            continue
        if path.suffix.lower() in OTHER_IMAGES and stem_of(path.stem) not in found:
            unread.add(stem_of(path.stem))
            faults.append(f"{path}: images of this kind are not read; save it as JPEG, PNG or TIFF")
        elif path.is_dir():
            inside = path.iterdir() if path.is_symlink() else path.rglob("*")
            count = sum(is_image(file, BAND_SUFFIXES) for file in inside)
            if count:
                faults.append(f"{path}: {count} image(s) lie in a folder of {images}; move them there, and their masks")
    return unread


def same_size(samples: Iterable[Sample], faults: list[str], split: str = "train") -> tuple[Sample, ...]:
    """The samples whose image and mask have readable headers of one size; the others become faults (`PairFault`).

    Masks that no image file holds (SBD's, and those with a `reader`) have no header that tells their size:
    `read_statistics` and `DataSet.read` compare that.
    """
    kept = []
    for sample in samples:
        found = []
        if sample.target.suffix.lower() in (".jpg", ".jpeg"):
            found.append(f"{sample.target}: JPEG compression changes labels; export the mask as PNG")
        is_file = sample.reader is None and sample.target.suffix != MASK_SUFFIX
        sizes = []
        for path in (sample.image, sample.target)[: 2 if is_file else 1]:
            try:
                sizes.append(band_size(path) if path == sample.image else image_size(path))
            except DataError as error:
                found.append(str(error))
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            found.append(size_fault(sample, *sizes))
        faults += [PairFault(text, sample, split) for text in found]
        if not found:
            kept.append(sample)
    return tuple(kept)


def faulty(root: Path, what: str, faults: Sequence[str]) -> DataError:
    """The error that tells all faults of a data set."""
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return data_error(f"{root}: {count} in this data set of the {what} layout", faults)


def _has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")

"""A data set: pairs of an image and its label map, by split, and the way to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import (
    InputFormat,
    Picture,
    ValueRange,
    read_empty,
    read_header,
    read_image,
    read_label_map,
)
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX, read_sbd_mask
from fullconv.labels import LabelSet

__all__ = ["DataSet", "Sample", "distinct_labels", "is_stored_sideways", "jpeg_fault", "size_fault"]


@dataclass(frozen=True)
class Sample:
    """One image, the file that labels its pixels, and the stem that both are called by.

    `reader` draws the target, H x W uint8 class ids, where it is not a mask in the file `target`: polygons, or one of
    many in that file. It raises DataError.
    """

    name: str
    image: Path
    target: Path
    reader: Callable[[], npt.NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class DataSet:
    """The samples of `root` by split, as `find_dataset` found them.

    `remap` lists (label in the file, label in the target). `color_masks` says that the user gave colours
    to the classes, so that RGB masks can be read; without it they are refused rather than guessed at.
    `about` is a sentence on where the splits come from, if their names do not say it. `unusable` has the faults of
    splits that nobody needs unless they are asked for. Images are read with `channels`, 3 being RGB, and `value_range`
    becomes 0..255 (`images.read_image`).
    """

    layout: str
    root: Path
    labels: LabelSet
    splits: dict[str, tuple[Sample, ...]]
    remap: tuple[tuple[int, int], ...] = ()
    color_masks: bool = False
    about: str = ""
    unusable: dict[str, tuple[Fault, ...]] = field(default_factory=dict)
    channels: int = 3
    value_range: ValueRange | None = None

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split, at least one.

        Raises DataError that names the splits there are, or all faults of this one.
        """
        if name in self.unusable:
            faults = self.unusable[name]
            count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
            raise DataError(f"{self.root}: {count} in split {name!r}", faults)
        samples = self.splits.get(name, ())
        if not samples:
            there = [f"{other} ({len(found)})" for other, found in self.splits.items() if found]
            message = f"{self.root}: no samples in split {name!r}; there are: {', '.join(there) or 'none'}"
            raise DataError(message, code="empty-split")
        return samples

    def read(self, sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Read the image, H x W x `channels` uint8, and its target, H x W uint8.

        The target holds class ids below `labels.num_classes`, and `labels.ignore_index`. Pixels without data have the
        latter. Raises DataError for a file that cannot be read, other labels, or two sizes.
        """
        picture, mask = self.read_picture(sample), self.read_mask(sample)
        return picture.pixels, self._ignoring(picture.empty, mask, sample, picture.pixels.shape[:2])

    def read_picture(self, sample: Sample) -> Picture:
        """Read the image alone, with the pixels that hold no data. Raises DataError as `images.read_image`."""
        return read_image(sample.image, self.input)

    def read_target(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """Read the target alone, H x W uint8, as `read` gives it; an image is decoded only if it may lack data."""
        mask, empty = self.read_mask(sample), read_empty(sample.image, self.input)
        return mask if empty is None else self._ignoring(empty, mask, sample, empty.shape)

    def _ignoring(
        self, empty: npt.NDArray[np.bool_] | None, mask: npt.NDArray[np.uint8], sample: Sample, size: tuple[int, ...]
    ) -> npt.NDArray[np.uint8]:
        if mask.shape != size:
            raise DataError.of(size_fault(sample, size, mask.shape))
        return mask if empty is None else np.where(empty, np.uint8(self.labels.ignore_index), mask)

    @property
    def input(self) -> InputFormat:
        """How files become images."""
        return InputFormat(self.channels, self.value_range)

    def read_as(self, input: InputFormat) -> DataSet:
        """Return the same samples, with images as a model takes them."""
        return replace(self, channels=input.channels, value_range=input.value_range)

    def read_mask(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """Read the labels as their file says them, H x W uint8, pixels without data in the image included."""
        if sample.reader is not None:
            target = sample.reader()
        elif sample.target.suffix == MASK_SUFFIX:
            target = read_sbd_mask(sample.target)
        else:
            target = read_label_map(sample.target, self.labels if self.color_masks else None)
        return self.classes_of(target, sample.target)

    def classes_of(self, stored: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.uint8]:
        """Turn the numbers in the file `path`, of any shape, into class ids. Raises DataError for other labels."""
        if self.remap:
            table = np.arange(256, dtype=np.uint8)
            for old, new in self.remap:
                table[old] = new
            stored = table[stored]
        allowed = {*range(self.labels.num_classes), self.labels.ignore_index}
        bad = [label for label in distinct_labels(stored) if label not in allowed]
        if bad:
            raise DataError.of(self._label_fault(path, bad))
        return stored

    def _label_fault(self, path: Path, bad: list[int]) -> Fault:
        count = self.labels.num_classes
        hint = "correct the mask, or name the classes that are missing"
        if max(bad) > 2 * count:
            hint = "if these are grey levels, write class ids instead: a mask of 0 and 255 as 0 and 1"
        shown = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        legal = f"0 to {count - 1}" if count > 1 else "0"
        problem = (
            f"holds the labels {shown}, but the {count} classes are {legal}, and {self.labels.ignore_index} is ignored"
        )
        return Fault("unknown-label", path, problem, hint)


def distinct_labels(target: npt.NDArray[np.uint8]) -> list[int]:
    """The distinct labels of a uint8 label map, ascending."""
    return [int(label) for label in np.flatnonzero(np.bincount(target.ravel(), minlength=256))]


def is_stored_sideways(image: Path, size: Sequence[int]) -> bool:
    """Whether an image file is stored with this (height, width), and its EXIF orientation lays it on its side."""
    try:
        header = read_header(image)
    except DataError:  # the fault is reported where the image is read
        return False
    return header.orientation >= 5 and header.stored == tuple(size)


def size_fault(sample: Sample, image: Sequence[int], target: Sequence[int]) -> Fault:
    """Return the fault of an image and a mask, each (height, width), that differ in size."""
    problem = f"is {target[1]}x{target[0]} (width x height), but its image {sample.image} is {image[1]}x{image[0]}"
    if sample.reader is None and tuple(image) == tuple(target)[::-1] and is_stored_sideways(sample.image, target):
        problem += " when it is turned upright by its EXIF orientation, and the mask is not"
        return Fault("exif-rotation", sample.target, problem, "turn the mask, too", sample.name)
    remedy = "resize the mask without interpolation, or export it again"
    return Fault("size-mismatch", sample.target, problem, remedy, sample.name)


def jpeg_fault(path: Path, sure: bool = True) -> Fault:
    """Return the fault of a mask in JPEG; it is `sure` where the labels can be told from the damage."""
    return Fault(
        "jpeg-mask", path, "is a mask in JPEG, whose compression changes labels", "export the mask as PNG", sure=sure
    )

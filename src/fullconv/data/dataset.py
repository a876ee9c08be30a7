"""A data set: its pairs of an image and a label map, by split, and their reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.reading import BY_FILES, ReadingOptions
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
from fullconv.labels import LabelSet, legal_ids

__all__ = [
    "MORE_PAIRS",
    "DataSet",
    "MaskFacts",
    "RangeFacts",
    "Sample",
    "distinct_labels",
    "few_pairs",
    "is_stored_sideways",
    "jpeg_fault",
    "size_fault",
]


@dataclass(frozen=True)
class RangeFacts:
    """Which numbers of the images become 0 and 255, and why.

    `text` is one line on the range. `doubt` says why the range may not fit, and is empty if it fits. `remedy` is that
    of the doubt.
    """

    low: float
    high: float
    source: Literal["dataset.yaml", "training images", "type"]
    text: str
    doubt: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class MaskFacts:
    """What decoding a mask showed: (height, width), the pixels of each class id, and of each class by object width.

    Ignored pixels have the id 255. `widths` is None where it was not measured (`object_widths.count_widths`).
    """

    size: tuple[int, int]
    pixels: Mapping[int, int]
    widths: Mapping[int, Int64] | None = None


@dataclass(frozen=True)
class Sample:
    """An image with the file that labels its pixels, and the stem that names both.

    If `target` is not a mask file, for example a file of polygons or of many images' annotations, `reader` draws the
    label map, H x W uint8 class ids. It raises DataError. `shows` are the ids of the classes that the sample has, if
    its reader knows them.
    """

    name: str
    image: Path
    target: Path
    reader: Callable[[], UInt8] | None = None
    shows: frozenset[int] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether the label map is drawn from annotations, and not read from a mask file."""
        return self.reader is not None and not getattr(self.reader, "reads_masks", False)


@dataclass(frozen=True)
class DataSet:
    """The samples of a data set by split, as `find_dataset` returns them.

    Attributes:
        layout: Name of the layout.
        root: Folder of the data set.
        labels: The classes.
        splits: The samples by the name of the split.
        remap: Pairs of (label in the file, label in the target).
        color_masks: Whether the user gave colours to the classes. Without them, RGB masks raise an error.
        about: A sentence on the origin of the splits; empty if their names say it.
        unusable: The faults of splits that raise an error only when they are used.
        channels: Number of channels that images are read with; 3 is RGB.
        value_range: Numbers in the image files that become 0 and 255 (`images.read_image`).
        inferences: Sentences on what was inferred because no file says it.
        options: The options with which the data were read.
        range_facts: The origin of the range; None for images of 8 bits, and if `measure_range` was not called.
        declares: Keys of dataset.yaml that state what was inferred.
        mask_facts: What the pass over the masks that decided their classes counted, by mask file.
        fold: The number of the fold that is val, from 1, and the number of folds; None without folds.
        states_ignored: Whether a file states that 255 in masks of numbers is ignored.
        class_keys: Keys of dataset.yaml about classes and masks that its reader uses.
    """

    layout: str
    root: Path
    labels: LabelSet
    splits: dict[str, tuple[Sample, ...]]
    remap: tuple[tuple[int, int], ...] = ()
    color_masks: bool = False
    about: str = ""
    inferences: tuple[str, ...] = ()
    unusable: dict[str, tuple[Fault, ...]] = field(default_factory=dict)
    channels: int = 3
    value_range: ValueRange | None = None
    range_facts: RangeFacts | None = None
    options: ReadingOptions = BY_FILES
    declares: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    mask_facts: Mapping[Path, MaskFacts] = field(default_factory=dict, repr=False, compare=False)
    fold: tuple[int, int] | None = None
    states_ignored: bool = False
    class_keys: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of a split, at least one.

        Raises DataError, which lists the splits with samples, or all faults of this split.
        """
        if name in self.unusable:
            faults = self.unusable[name]
            count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
            raise DataError(f"{self.root}: {count} in split {name!r}", faults)
        samples = self.splits.get(name, ())
        if not samples:
            available = [f"{other} ({len(others)})" for other, others in self.splits.items() if others]
            message = f"{self.root}: no samples in split {name!r}; there are: {', '.join(available)}"
            if not available:
                message = f"{self.root}: {few_pairs(0)}; {MORE_PAIRS}"
            elif sum(map(len, self.splits.values())) == 1:
                message += f"; {MORE_PAIRS}"
            raise DataError(message, code="empty-split")
        return samples

    def read(self, sample: Sample) -> tuple[UInt8, UInt8]:
        """Read the image, H x W x `channels` uint8, and its target, H x W uint8.

        The target holds class ids below `labels.num_classes`, and `labels.ignore_index`, also for pixels without data.
        Raises DataError for a file that cannot be read, for other labels, and if the sizes differ.
        """
        picture, mask = self.read_picture(sample), self.read_mask(sample)
        return picture.pixels, self._ignore_empty(picture.empty, mask, sample, picture.pixels.shape[:2])

    def read_picture(self, sample: Sample) -> Picture:
        """Read only the image, with the mask of pixels without data. Raises DataError as `images.read_image`."""
        return read_image(sample.image, self.input)

    def read_target(self, sample: Sample) -> UInt8:
        """Read only the target, H x W uint8, as `read` does. An image is decoded only if some pixels may lack data."""
        mask, empty = self.read_mask(sample), read_empty(sample.image, self.input)
        return mask if empty is None else self._ignore_empty(empty, mask, sample, empty.shape)

    def _ignore_empty(self, empty: Mask | None, mask: UInt8, sample: Sample, size: tuple[int, ...]) -> UInt8:
        if mask.shape != size:
            raise DataError.of(size_fault(sample, size, mask.shape))
        return mask if empty is None else np.where(empty, np.uint8(self.labels.ignore_index), mask)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how the data set was read: what its layout means, and what was inferred."""
        return (*((self.about,) if self.about else ()), *self.inferences)

    @property
    def input(self) -> InputFormat:
        """The format in which images are read."""
        return InputFormat(self.channels, self.value_range)

    def read_as(self, input: InputFormat) -> DataSet:
        """Return the same samples, with images in the format that a model takes."""
        return replace(self, channels=input.channels, value_range=input.value_range)

    def read_mask(self, sample: Sample) -> UInt8:
        """Read the labels of the mask file, H x W uint8, also where the image holds no data."""
        if sample.reader is not None:
            target = sample.reader()
        elif sample.target.suffix == MASK_SUFFIX:
            target = read_sbd_mask(sample.target)
        else:
            target = read_label_map(sample.target, self.labels if self.color_masks else None)
        return self.classes_of(target, sample.target)

    def classes_of(self, stored: UInt8, path: Path) -> UInt8:
        """Convert the labels of the file `path`, of any shape, to class ids. Raises DataError for unknown labels."""
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
        hint = "correct the mask, or name the missing classes"
        if max(bad) > 2 * count:
            hint = "if these are grey levels, write class ids instead: in a mask of 0 and 255, write 1 for 255"
        shown = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        legal = legal_ids(self.labels.num_classes)
        problem = f"has the labels {shown}, but {legal}, and {self.labels.ignore_index} is ignored"
        return Fault("unknown-label", path, problem, hint)


MORE_PAIRS = "add images with masks: at least one trains, and another one is held out for validation"


def few_pairs(count: int) -> str:
    """Return what is wrong with a data set of no pair, or of one, which has nothing to hold out."""
    return f"has {'one pair' if count else 'no pair'} of an image and a mask"


def distinct_labels(target: UInt8) -> list[int]:
    """Return the distinct labels of a uint8 label map in ascending order."""
    return [int(label) for label in np.flatnonzero(np.bincount(target.ravel(), minlength=256))]


def is_stored_sideways(image: Path, size: Sequence[int]) -> bool:
    """Return whether an image file is stored with this (height, width), and its EXIF orientation swaps the two."""
    try:
        header = read_header(image)
    except DataError:  # the fault is reported where the image is read
        return False
    return header.orientation >= 5 and header.stored == tuple(size)


def size_fault(sample: Sample, image: Sequence[int], target: Sequence[int]) -> Fault:
    """Return the fault of an image and a mask whose sizes, (height, width), differ."""
    problem = f"is {target[1]}x{target[0]} (width x height), but its image {sample.image} is {image[1]}x{image[0]}"
    if not sample.is_drawn and tuple(image) == tuple(target)[::-1] and is_stored_sideways(sample.image, target):
        problem += " after its EXIF orientation is applied"
        return Fault("exif-rotation", sample.target, problem, "rotate the mask in the same way", sample.name)
    remedy = "resize the mask without interpolation, or export it again"
    return Fault("size-mismatch", sample.target, problem, remedy, sample.name)


def jpeg_fault(path: Path, sure: bool = True) -> Fault:
    """Return the fault of a JPEG mask; it is `sure` if the labels can be recovered."""
    return Fault(
        "jpeg-mask", path, "is a mask in JPEG, whose compression changes labels", "export the mask as PNG", sure=sure
    )

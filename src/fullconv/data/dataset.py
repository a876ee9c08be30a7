"""A data set: pairs of an image and its label map, by split, and the way to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.bands import ValueRange, read_bands
from fullconv.data.sbd import MASK_SUFFIX, read_sbd_mask
from fullconv.errors import DataError
from fullconv.image import image_header, read_label_map
from fullconv.labels import LabelSet

__all__ = ["DataSet", "Sample", "data_error", "labels_in", "lies_turned", "size_fault"]

SHOWN_FAULTS = 50


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
    becomes 0..255 (`bands.read_bands`).
    """

    layout: str
    root: Path
    labels: LabelSet
    splits: dict[str, tuple[Sample, ...]]
    remap: tuple[tuple[int, int], ...] = ()
    color_masks: bool = False
    about: str = ""
    unusable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    channels: int = 3
    value_range: ValueRange | None = None

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split, at least one.

        Raises DataError that names the splits there are, or all faults of this one.
        """
        if name in self.unusable:
            faults = self.unusable[name]
            count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
            raise data_error(f"{self.root}: {count} in split {name!r}", faults)
        samples = self.splits.get(name, ())
        if not samples:
            there = [f"{other} ({len(found)})" for other, found in self.splits.items() if found]
            raise DataError(f"{self.root}: no samples in split {name!r}; there are: {', '.join(there) or 'none'}")
        return samples

    def read(self, sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The image, H x W x `channels` uint8, and its target, H x W uint8.

        The target holds class ids below `labels.num_classes`, and `labels.ignore_index`.
        Raises DataError for a file that cannot be read, other labels, or two sizes.
        """
        image, target = self.read_image(sample), self.read_target(sample)
        if image.shape[:2] != target.shape:
            raise DataError(size_fault(sample, image.shape[:2], target.shape))
        return image, target

    def read_image(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """The image alone, H x W x `channels` uint8. Raises DataError as `bands.read_bands`."""
        return read_bands(sample.image, self.channels, self.value_range)

    def read_as(self, channels: int, value_range: ValueRange | None) -> DataSet:
        """The same samples, with images as a model takes them."""
        return replace(self, channels=channels, value_range=value_range)

    def read_target(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """The target alone, H x W uint8; see `read`."""
        if sample.reader is not None:
            target = sample.reader()
        elif sample.target.suffix == MASK_SUFFIX:
            target = read_sbd_mask(sample.target)
        else:
            target = read_label_map(sample.target, self.labels if self.color_masks else None)
        if self.remap:
            table = np.arange(256, dtype=np.uint8)
            for old, new in self.remap:
                table[old] = new
            target = table[target]
        allowed = {*range(self.labels.num_classes), self.labels.ignore_index}
        bad = [label for label in labels_in(target) if label not in allowed]
        if bad:
            raise DataError(self._label_fault(sample.target, bad))
        return target

    def _label_fault(self, path: Path, bad: list[int]) -> str:
        count = self.labels.num_classes
        hint = "correct the mask, or name the classes that are missing"
        if max(bad) > 2 * count:
            hint = "if these are grey levels, write class ids instead: a mask of 0 and 255 as 0 and 1"
        shown = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        legal = f"0 to {count - 1}" if count > 1 else "0"
        return (
            f"{path}: holds the labels {shown}, but the {count} classes are {legal}, "
            f"and {self.labels.ignore_index} is ignored; {hint}"
        )


def labels_in(target: npt.NDArray[np.uint8]) -> list[int]:
    """The distinct labels of a uint8 label map, ascending."""
    return [int(label) for label in np.flatnonzero(np.bincount(target.ravel(), minlength=256))]


def lies_turned(image: Path, size: Sequence[int]) -> bool:
    """Whether an image file is stored with this (height, width), and its EXIF orientation lays it on its side."""
    try:
        stored, orientation = image_header(image)
    except DataError:  # an array, or what is told elsewhere
        return False
    return orientation >= 5 and stored == tuple(size)


def size_fault(sample: Sample, image: Sequence[int], target: Sequence[int]) -> str:
    """The sentence for an image and a mask, each (height, width), that differ in size."""
    remedy = "resize the mask without interpolation, or export it again"
    if sample.reader is None and tuple(image) == tuple(target)[::-1] and lies_turned(sample.image, target):
        remedy = "the image is turned upright by its EXIF orientation and the mask is not: turn the mask, too"
    return (
        f"{sample.target}: is {target[1]}x{target[0]} (width x height), but its image {sample.image} is "
        f"{image[1]}x{image[0]}; {remedy}"
    )


def data_error(summary: str, faults: Sequence[str]) -> DataError:
    """A DataError whose `faults` are complete and whose message stops at the first 50."""
    shown = [*faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        shown.append(f"... and {len(faults) - SHOWN_FAULTS} more")
    error = DataError(summary, shown)
    error.faults = tuple(faults)
    return error

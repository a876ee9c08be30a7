"""What a data set asks of a training: how many images, how unequal its classes are, how thin its objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fullconv.data.dataset import DataSet
from fullconv.data.doctor.objects import WIDEST, median_width, width_counts
from fullconv.images import image_size

__all__ = ["LARGEST", "Fingerprint", "crop_side", "read_fingerprint"]

LARGEST = 352
"""The side of crops of images that are as large or larger."""

MOST = 100
"""Masks that are read, evenly spread over the training images."""


@dataclass(frozen=True)
class Fingerprint:
    """Of the training images: their number, and for each class its share of the pixels and the width of its objects.

    `crop` is that of `crop_side`. `widths` are medians over pixels (see `objects.widths`), in pixels, None for classes
    that were not seen.
    """

    images: int
    class_names: tuple[str, ...]
    shares: tuple[float, ...]
    widths: tuple[int | None, ...]
    crop: int = LARGEST

    @property
    def thinnest(self) -> tuple[str, int] | None:
        """The class of the thinnest objects, and their width; None if no label was seen."""
        seen = [(width, name) for width, name in zip(self.widths, self.class_names, strict=True) if width is not None]
        return (min(seen)[1], min(seen)[0]) if seen else None

    @property
    def largest(self) -> tuple[str, float]:
        """The class with the most pixels, and its share."""
        return max(zip(self.class_names, self.shares, strict=True), key=lambda entry: entry[1])


def read_fingerprint(dataset: DataSet) -> Fingerprint:
    """Read up to `MOST` masks of the split `train`. Raises DataError for those that cannot be used."""
    samples, classes = dataset.split("train"), dataset.labels.num_classes
    picks = sorted(set(np.linspace(0, len(samples) - 1, min(MOST, len(samples))).round().astype(int).tolist()))
    counts = np.zeros((256, WIDEST + 1), np.int64)
    for index in picks:
        counts += width_counts(dataset.read_target(samples[index]))
    counts = counts[:classes]
    total = max(1, int(counts.sum()))
    shares = tuple(float(pixels) / total for pixels in counts.sum(1))
    widths = tuple(map(median_width, counts))
    return Fingerprint(len(samples), dataset.labels.class_names, shares, widths, crop_side(dataset))


def crop_side(dataset: DataSet) -> int:
    """The longest side of the training images, rounded up to the coarsest stride, `LARGEST` at the most."""
    longest = 0
    for sample in dataset.split("train"):
        longest = max(longest, *image_size(sample.image))
        if longest >= LARGEST:
            return LARGEST
    return min(LARGEST, -(-longest // 32) * 32)

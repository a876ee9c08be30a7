"""Reading of an image and its target in windows, for images that are too large for the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fullconv.arrays import Mask, UInt8
from fullconv.data.dataset import DataSet, Sample, size_fault
from fullconv.errors import DataError
from fullconv.images import open_image, open_label_map
from fullconv.images.decoders.base import ImageReader
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX
from fullconv.images.label_map import LabelReader, WholeLabels

__all__ = ["SampleReader", "open_mask", "open_sample"]


class SampleReader:
    """An image of `size` (height, width) and its target, read together in windows."""

    def __init__(self, image: ImageReader, mask: LabelReader, ignore_index: int) -> None:
        self.size, self._image, self._mask, self._ignored = image.size, image, mask, np.uint8(ignore_index)

    def read(self, rows: range, columns: range) -> tuple[UInt8, UInt8, Mask | None]:
        """Read a window of the image, h x w x C, the target, h x w, and the mask of pixels without data, h x w.

        Values are those of `DataSet.read`. The mask is None if all pixels hold data.
        """
        image, empty = self._image.read(rows, columns)
        mask = self._mask.read(rows, columns)
        return image, mask if empty is None else np.where(empty, self._ignored, mask), empty


@contextmanager
def open_sample(dataset: DataSet, sample: Sample) -> Iterator[SampleReader]:
    """Open an image and its target to read them in windows.

    PNG and TIFF masks are read in windows, too. Other masks are read whole and take one byte per pixel.
    Raises DataError as `DataSet.read`.
    """
    with open_image(sample.image, dataset.input) as image, open_mask(dataset, sample) as mask:
        if image.size != mask.size:
            raise DataError.of(size_fault(sample, image.size, mask.size))
        yield SampleReader(image, mask, dataset.labels.ignore_index)


@contextmanager
def open_mask(dataset: DataSet, sample: Sample) -> Iterator[LabelReader]:
    """Open only the target to read it in windows. Raises DataError as `DataSet.read_mask`."""
    if sample.reader is not None or sample.target.suffix == MASK_SUFFIX:
        yield WholeLabels(dataset.read_mask(sample))
        return
    with open_label_map(sample.target, dataset.labels if dataset.color_masks else None) as mask:
        yield _ClassReader(mask, dataset, sample)


class _ClassReader:
    """A `LabelReader` that converts the labels of a mask file to class ids."""

    def __init__(self, mask: LabelReader, dataset: DataSet, sample: Sample) -> None:
        self.size, self._mask, self._dataset, self._path = mask.size, mask, dataset, sample.target

    def read(self, rows: range, columns: range) -> UInt8:
        """Read a window as `LabelReader.read` does."""
        return self._dataset.classes_of(self._mask.read(rows, columns), self._path)

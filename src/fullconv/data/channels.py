"""The channels of a data set's images: their number, value range, mean and standard deviation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.data.classes import DESCRIPTION, read_description
from fullconv.data.dataset import DataSet
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import ImageHeader, ValueRange, read_header
from fullconv.images.decoders.npy import ARRAY_SUFFIX
from fullconv.images.decoders.values import bands_in_words

__all__ = ["SAMPLED", "describe_pixels", "detect_channels", "measure_channels", "read_declared_channels"]

SAMPLED = 200
"""Maximum number of images from which mean and standard deviation are computed."""

MANY_BANDED = (".tif", ".tiff", ARRAY_SUFFIX)
"""Suffixes of the files whose headers are read to find the number of channels."""


def detect_channels(dataset: DataSet, faults: list[Fault]) -> DataSet:
    """Return the data set with the number of channels of its images and their value range.

    `channels` and `range` in dataset.yaml set both. Without `channels`, images of one or three bands, apart from alpha,
    are RGB, and TIFFs and arrays of another number of bands have that many channels, if all images agree. Images that
    disagree are added to `faults`. Only headers are read.
    """
    before = len(faults)
    path = dataset.root / DESCRIPTION
    channels, value_range = _read_pixel_keys(path, faults)
    if channels is None and len(faults) == before:
        channels = _common_channels(dataset, path, faults)
    elif channels is not None:
        for image, header in _headers(dataset, every=True):
            if not header.gives(channels):
                problem = f"has {bands_in_words(header.bands)}, but {path} says `channels: {channels}`"
                faults.append(Fault("band-count", image, problem, "correct one of them"))
    return replace(dataset, channels=channels or 3, value_range=value_range)


def read_declared_channels(dataset: DataSet) -> int | None:
    """Return the valid number of channels that dataset.yaml sets; None if it sets none."""
    return _read_pixel_keys(dataset.root / DESCRIPTION, [])[0]


def describe_pixels(dataset: DataSet, images: Iterable[Path]) -> dict[str, Any]:
    """Return the keys that dataset.yaml needs so that copies of these images are read in the same way."""
    values: dict[str, Any] = {}
    if any(read_header(image).channels != dataset.channels for image in images):
        values["channels"] = dataset.channels
    if dataset.value_range is not None:
        values["range"] = list(dataset.value_range)
    return values


def measure_channels(dataset: DataSet, split: str = "train") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, on a scale of 0 to 1.

    They are computed from the pixels with data of at most `SAMPLED` images of the split. The deviation is at least
    1/255, so that code can divide by it.
    """
    samples = dataset.split(split)
    counts = np.zeros((dataset.channels, 256), np.int64)
    for sample in samples[:: -(-len(samples) // SAMPLED)]:
        picture = dataset.read_picture(sample)
        pixels = picture.pixels if picture.empty is None else picture.pixels[~picture.empty]
        for channel, histogram in enumerate(counts):
            histogram += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(1).clip(1)
    mean = counts @ values / total
    deviation = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0)).clip(1 / 255)
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _read_pixel_keys(path: Path, faults: list[Fault]) -> tuple[int | None, ValueRange | None]:
    """Read channels and value range from dataset.yaml. Faults of the file are added to `faults` once."""
    try:
        values: dict[Any, Any] = read_description(path) if path.is_file() else {}
    except DataError as error:
        faults += [fault for fault in error.faults_at(path) if fault not in faults]
        return None, None
    channels, bounds = values.get("channels"), values.get("range")
    if channels is not None and (type(channels) is not int or channels < 1):
        problem = f"'channels' is {channels!r}"
        faults.append(Fault("class-names", path, problem, "it must be a whole number, at least 1"))
        channels = None
    numbers = isinstance(bounds, list) and len(bounds) == 2 and all(type(n) in (int, float) for n in bounds)
    if bounds is not None and not (numbers and bounds[0] < bounds[1]):
        remedy = "it must be [low, high], the values that become 0 and 255"
        faults.append(Fault("class-names", path, f"'range' is {bounds!r}", remedy))
        bounds = None
    return channels, None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _common_channels(dataset: DataSet, path: Path, faults: list[Fault]) -> int | None:
    """Return the number of channels that all images have; None, and a fault for each exception, if they differ."""
    headers = [*_headers(dataset, every=False)]
    counts = Counter(header.channels for _, header in headers)
    if not counts:
        return None
    most = counts.most_common(1)[0][0]
    common = next(image for image, header in headers if header.channels == most)
    readable = [count for count in sorted(counts) if all(header.gives(count) for _, header in headers)]
    remedy = "give all images the same bands"
    if readable:
        remedy += f", or set the number to read in {path}, as `channels: {readable[0]}`"
    for image, header in headers:
        if header.channels != most:
            problem = f"has {header.channels} channels, but {common} has {most}"
            faults.append(Fault("band-count", image, problem, remedy))
    return most if len(counts) == 1 else None


def _headers(dataset: DataSet, every: bool) -> Iterator[tuple[Path, ImageHeader]]:
    """Yield the images with their headers, without unreadable images, which are reported as faults elsewhere.

    Unless `every` header is read, files that cannot have many bands, by their suffix, count as RGB.
    """
    for samples in dataset.splits.values():
        for sample in samples:
            try:
                if every or sample.image.suffix.lower() in MANY_BANDED:
                    yield sample.image, read_header(sample.image)
                else:
                    yield sample.image, ImageHeader((1, 1), 3)
            except DataError:
                continue

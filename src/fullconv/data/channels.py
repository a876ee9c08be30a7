"""What a data set's images hold: how many channels, which numbers become 0 and 255, their mean and spread."""

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

__all__ = ["SAMPLED", "describe_pixels", "detect_channels", "measure_channels", "read_declared_channels"]

SAMPLED = 200
"""Images that mean and spread are taken from."""

MANY_BANDED = (".tif", ".tiff", ARRAY_SUFFIX)
"""Suffixes of the files that may hold other channels than RGB without a word in dataset.yaml."""


def detect_channels(dataset: DataSet, faults: list[Fault]) -> DataSet:
    """The data set with the channels of its images and the range of their numbers.

    They are what `channels` and `range` in dataset.yaml say. Without the first, images of one or three bands, alpha
    apart, are RGB, and TIFFs and arrays of other numbers of bands have so many channels, if all images agree. Images
    that do not are faults; headers alone are read.
    """
    before = len(faults)
    path = dataset.root / DESCRIPTION
    channels, value_range = _described(path, faults)
    if channels is None and len(faults) == before:
        channels = _found(dataset, path, faults)
    elif channels is not None:
        for image, header in _headers(dataset, every=True):
            if not header.gives(channels):
                problem = f"has {header.bands} band(s), but {path} says `channels: {channels}`"
                faults.append(Fault("band-count", image, problem, "correct one of them"))
    return replace(dataset, channels=channels or 3, value_range=value_range)


def read_declared_channels(dataset: DataSet) -> int | None:
    """What dataset.yaml says of the channels; None where it says nothing that can be used."""
    return _described(dataset.root / DESCRIPTION, [])[0]


def describe_pixels(dataset: DataSet, images: Iterable[Path]) -> dict[str, Any]:
    """What a dataset.yaml beside copies of these images has to say so that they are read as they are here."""
    values: dict[str, Any] = {}
    if any(read_header(image).channels != dataset.channels for image in images):
        values["channels"] = dataset.channels
    if dataset.value_range is not None:
        values["range"] = list(dataset.value_range)
    return values


def measure_channels(dataset: DataSet, split: str = "train") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, 0..1, over the pixels with data of `SAMPLED` images of the split.

    A channel that hardly varies gets the deviation of one step of 255, so that it can be divided by.
    """
    samples = dataset.split(split)
    counts = np.zeros((dataset.channels, 256), np.int64)
    for sample in samples[:: -(-len(samples) // SAMPLED)]:
        picture = dataset.read_picture(sample)
        pixels = picture.pixels if picture.empty is None else picture.pixels[~picture.empty]
        for channel, own in enumerate(counts):
            own += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(1).clip(1)
    mean = counts @ values / total
    spread = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0)).clip(1 / 255)
    return tuple(mean.tolist()), tuple(spread.tolist())


def _described(path: Path, faults: list[Fault]) -> tuple[int | None, ValueRange | None]:
    """Channels and range as dataset.yaml says them; what is wrong with the file goes to `faults`, but once."""
    try:
        values: dict[Any, Any] = read_description(path) if path.is_file() else {}
    except DataError as error:
        faults += [fault for fault in error.faults_at(path) if fault not in faults]
        return None, None
    channels, bounds = values.get("channels"), values.get("range")
    if channels is not None and (type(channels) is not int or channels < 1):
        problem = f"'channels' is {channels!r}"
        faults.append(Fault("class-names", path, problem, "it must be a whole number from 1 on"))
        channels = None
    numbers = isinstance(bounds, list) and len(bounds) == 2 and all(type(n) in (int, float) for n in bounds)
    if bounds is not None and not (numbers and bounds[0] < bounds[1]):
        remedy = "it must be [low, high], the numbers that become 0 and 255"
        faults.append(Fault("class-names", path, f"'range' is {bounds!r}", remedy))
        bounds = None
    return channels, None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _found(dataset: DataSet, path: Path, faults: list[Fault]) -> int | None:
    """The channels that all images have; a fault for each that has others than most, beside one of these."""
    headers = [*_headers(dataset, every=False)]
    counts = Counter(header.channels for _, header in headers)
    if not counts:
        return None
    most = counts.most_common(1)[0][0]
    common = next(image for image, header in headers if header.channels == most)
    given = [count for count in sorted(counts) if all(header.gives(count) for _, header in headers)]
    remedy = "give all images the same bands"
    if given:
        remedy += f", or say which number to read in {path}, as `channels: {given[0]}`"
    for image, header in headers:
        if header.channels != most:
            problem = f"has {header.channels} channels, but {common} has {most}"
            faults.append(Fault("band-count", image, problem, remedy))
    return most if len(counts) == 1 else None


def _headers(dataset: DataSet, every: bool) -> Iterator[tuple[Path, ImageHeader]]:
    """The images with their headers, RGB for those whose suffix tells it unless `every` one is opened.

    Unreadable ones are left out, as they are faults already.
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

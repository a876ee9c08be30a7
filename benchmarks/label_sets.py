"""The data sets of `label.py`: images to label, and images to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from own_data_sets import SETS, prepare
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.metrics import Scores, confusion_matrix

GRID = 2
"""Held-out images are scored at every such row and column."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image and its true classes; 255 is not labelled."""

    path: Path
    truth: UInt8


@dataclass(frozen=True)
class Task:
    """A data set: the images to label, and those to score."""

    name: str
    classes: tuple[str, ...]
    label: list[Labelled]
    score: list[Labelled]


def camvid_truth(path: Path) -> UInt8:
    """Return a label map of CamVid, whose twelfth class is not labelled."""
    truth = np.array(Image.open(path))
    return np.where(truth > 10, 255, truth).astype(np.uint8)


def membranes(root: Path, count: int) -> Task:
    """Return the membranes: every third section is labelled, the section after it is scored."""

    def some(first: int) -> list[Labelled]:
        numbers = range(first, 30, 3)[:count]
        return [Labelled(root / "image" / f"{n}.png", _membrane_truth(root / "label" / f"{n}.png")) for n in numbers]

    return Task("membranes", ("membrane", "cell"), some(0), some(1))


def _membrane_truth(path: Path) -> UInt8:
    return (np.array(Image.open(path)) > 127).astype(np.uint8)


def spread(name: str, root: Path, count: int) -> Task:
    """Return a data set: images spread over the training images, and others over the validation images to score."""
    dataset = find_dataset(root)

    def some(split: str) -> list[Labelled]:
        samples = dataset.split(split)
        chosen = samples[:: max(1, len(samples) // count)][:count]
        return [Labelled(sample.image, dataset.read_mask(sample)) for sample in chosen]

    return Task(name, tuple(dataset.labels.class_names), some("train"), some("val"))


def make_task(name: str, shared: Path, folder: Path, count: int) -> Task:
    """Return a set by name, with at most `count` images to label and as many to score."""
    if name == "membranes":
        return membranes(shared / name, count)
    if name == "camvid":
        return spread(name, shared / name, count)
    if name not in SETS:
        raise SystemExit(f"no such set: {name}; choose from {', '.join(sorted({'camvid', *SETS}))}")
    return spread(name, prepare(name, folder, shared), count)


def mean_iou(truths: Sequence[UInt8], predicted: Sequence[UInt8], classes: int) -> float:
    """Return the mIoU over the classes that are in the truth or predicted."""
    pairs = zip(truths, predicted, strict=True)
    confusion = np.sum([confusion_matrix(truth, labels, classes) for truth, labels in pairs], 0)
    return Scores.from_confusion(confusion, [str(number) for number in range(classes)]).mean_iou

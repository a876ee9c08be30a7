"""Scoring a model on images with targets."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fullconv.metrics import Scores, confusion_matrix
from fullconv.run.runner import Runner, label_maps

__all__ = ["evaluate"]

UInt8 = npt.NDArray[np.uint8]


def evaluate(runner: Runner, pairs: Iterable[tuple[UInt8, UInt8]]) -> Scores:
    """The scores of a model over pairs of an image and its target, each at its own resolution.

    Images are H x W x C uint8 as the runner takes them, targets H x W uint8 class ids or the ignored label. One pair
    is in memory at a time, and all pixels are counted in one confusion matrix, as in the paper.

    Raises DataError for targets that do not fit their image or the classes, or if no pixel is labelled.
    """
    labels = runner.info.labels
    confusion = np.zeros((labels.num_classes, labels.num_classes), np.int64)
    for image, target in pairs:
        prediction = label_maps(runner, image[None])[0]
        confusion += confusion_matrix(target, prediction, labels.num_classes, labels.ignore_index)
    return Scores.from_confusion(confusion, labels.class_names)

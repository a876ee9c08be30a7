"""The seam between what computes a network and what uses it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fullconv.errors import ModelError
from fullconv.labels import LabelSet

__all__ = ["Runner", "label_maps"]

ROWS = 64


class Runner(Protocol):
    """Something that segments a batch of images: PyTorch, ONNX Runtime, or tiles over either."""

    @property
    def labels(self) -> LabelSet:
        """What the K channels of the logits mean."""
        ...

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """N x H x W x 3 uint8 RGB, 0..255, of any H and W >= 1, to N x K x H x W float32 raw scores.

        Raises MemoryError when a batch does not fit, ModelError when the model cannot run it.
        """
        ...


def label_maps(runner: Runner, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """N x H x W x 3 uint8 RGB to N x H x W uint8 class ids, the class of the largest logit.

    Raises ModelError if the logits have not the size that the seam promises, and what the runner raises.
    """
    logits = runner.logits(images)
    count, height, width = images.shape[:3]
    expected = (count, runner.labels.num_classes, height, width)
    if logits.shape != expected:
        raise ModelError(f"the model gave logits of shape {logits.shape} where {expected} was expected")
    best = np.empty((count, height, width), np.uint8)
    for top in range(0, height, ROWS):  # argmax copies what it is given and answers in 8 bytes a pixel
        best[:, top : top + ROWS] = logits[:, :, top : top + ROWS].argmax(axis=1)
    return best

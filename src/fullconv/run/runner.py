"""The seam between what computes a network and what uses it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fullconv.errors import ModelError
from fullconv.images.input_format import InputFormat
from fullconv.labels import LabelSet
from fullconv.tiling import Window

__all__ = ["Runner", "label_maps", "largest", "takes"]

UInt8 = npt.NDArray[np.uint8]


class Runner(Protocol):
    """Something that segments a batch of images: PyTorch, ONNX Runtime, or tiles over either.

    Images are N x H x W x C uint8, 0..255, of any H and W >= 1. C is 3 (RGB) unless there is an attribute `channels`;
    `value_range` says which numbers in files become 0 and 255, if it is there and not None: see `takes`.
    Raises MemoryError when a batch does not fit, ModelError when the model cannot run it.
    """

    @property
    def labels(self) -> LabelSet:
        """What the K channels of the logits mean."""
        ...

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and which columns of the image a pixel's logits depend on."""
        ...

    @property
    def exact(self) -> bool:
        """Whether they depend on no others, so that tiles equal the whole; not so with global context."""
        ...

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        """Images to N x K x H x W float32 raw scores."""
        ...

    def label_maps(self, images: UInt8) -> UInt8:
        """Images to N x H x W class ids, the class of the largest logit; the first one of equals."""
        ...


def takes(runner: Runner) -> InputFormat:
    """Return how files become the arrays that a runner takes."""
    return InputFormat(getattr(runner, "channels", 3), getattr(runner, "value_range", None))


def label_maps(runner: Runner, images: UInt8) -> UInt8:
    """The label maps of a runner, N x H x W uint8; ModelError if they have not the size that the seam promises."""
    found = runner.label_maps(images)
    if found.shape != images.shape[:3]:
        raise ModelError(f"the model gave label maps of shape {found.shape} where {images.shape[:3]} was expected")
    return found


def largest(logits: npt.NDArray[np.float32]) -> UInt8:
    """N x K x H x W logits to N x H x W uint8 class ids: the class of the largest, the first one of equals.

    Class by class: `argmax` takes several times as long, copies what it is given, and answers in 8 bytes a pixel.
    """
    most, best = logits[:, 0].copy(), np.zeros((len(logits), *logits.shape[2:]), np.uint8)
    for index in range(1, logits.shape[1]):
        one = logits[:, index]
        np.copyto(best, index, where=one > most, casting="unsafe")
        np.maximum(most, one, out=most)
    return best

"""The interface between the backends that compute a network and the code that uses their results."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from fullconv.arrays import Float32, UInt8
from fullconv.errors import ModelError
from fullconv.images.input_format import InputFormat, ValueRange
from fullconv.model_info import ModelInfo

__all__ = ["RangedRunner", "Runner", "label_maps", "largest"]


class Runner(Protocol):
    """A network that labels batches of images: on PyTorch, ONNX Runtime or OpenVINO, whole or in tiles.

    Images are N x H x W x C uint8 in the format `info.input`, of any H and W >= 1. The methods raise MemoryError when a
    batch does not fit, and ModelError when the model cannot run on it.
    """

    @property
    def info(self) -> ModelInfo:
        """The network that runs."""
        ...

    def logits(self, images: UInt8) -> Float32:
        """Return N x K x H x W float32 raw scores."""
        ...

    def label_maps(self, images: UInt8) -> UInt8:
        """Return N x H x W class ids: the class of the largest logit, and the first of equal ones."""
        ...


class RangedRunner:
    """A runner whose images are scaled from another value range than the model states."""

    def __init__(self, runner: Runner, value_range: ValueRange) -> None:
        """Run `runner` on images whose numbers `value_range` become 0 and 255."""
        self.runner, self.value_range = runner, value_range

    @property
    def info(self) -> ModelInfo:
        """The network, with this value range."""
        info = self.runner.info
        return replace(info, input=InputFormat(info.input.channels, self.value_range))

    def logits(self, images: UInt8) -> Float32:
        """Return N x K x H x W float32 raw scores."""
        return self.runner.logits(images)

    def label_maps(self, images: UInt8) -> UInt8:
        """Return N x H x W class ids."""
        return self.runner.label_maps(images)


def label_maps(runner: Runner, images: UInt8) -> UInt8:
    """Return the label maps of a runner, N x H x W uint8; ModelError if they do not have the size of the images."""
    maps = runner.label_maps(images)
    if maps.shape != images.shape[:3]:
        raise ModelError(
            f"the model returned label maps of shape {maps.shape}, not {images.shape[:3]}; export or train it again",
            code="label-map-shape",
        )
    return maps


def largest(logits: Float32) -> UInt8:
    """Return the class of the largest of N x K x H x W logits, and the first of equal ones, as N x H x W uint8.

    The loop goes class by class: `argmax` takes several times as long, copies its input, and returns 8 bytes a pixel.
    A later class that is larger has a larger number, too, so a product and a maximum replace a masked copy, which takes
    three times as long.
    """
    most, best = logits[:, 0].copy(), np.zeros((len(logits), *logits.shape[2:]), np.uint8)
    larger = np.empty(best.shape, np.bool_)
    candidates = larger.view(np.uint8)
    for index in range(1, logits.shape[1]):
        one = logits[:, index]
        np.greater(one, most, out=larger)
        np.multiply(candidates, np.uint8(index), out=candidates)
        np.maximum(best, candidates, out=best)
        np.maximum(most, one, out=most)
    return best

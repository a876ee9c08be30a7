"""Patch-wise classification, the method before dense networks: run a network on a patch around every n-th pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.errors import UsageError
from fullconv.geometry.tiles import Window
from fullconv.images.input_format import InputFormat
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.runtime.runner import Runner, largest

__all__ = ["PatchClassifier", "PatchwiseRunner"]

Score = Callable[[UInt8, Int64], Float32]
"""A function from N patches and the N x 2 positions of the labelled pixels in them to N x K logits."""

Color = tuple[int, ...]


class PatchClassifier(Protocol):
    """A classifier: one class for an image of one size."""

    @property
    def labels(self) -> LabelSet:
        """The classes of the K logits."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        ...

    @property
    def mean_color(self) -> Color:
        """One byte for each channel: the colour that the classifier normalizes to zero, up to rounding."""
        ...

    def logits(self, images: UInt8) -> Float32:
        """Map N x height x width x 3 uint8 RGB to N x K float32 raw scores."""
        ...


class PatchwiseRunner:
    """A `Runner` that labels every `step`-th pixel from its own patch, `batch` patches at a time.

    The labelled pixels are the centres of squares of `step` pixels, and each square gets the logits of its centre. A
    patch that extends beyond the image is padded with `fill`, one byte for each channel. The runner is not exact,
    because the positions of the patches depend on the border of the image.

    With a skip network, patch-wise logits equal whole-image logits at each labelled pixel whose window lies inside the
    image. They differ near the border: a patch is padded with the mean colour, while the convolutions of the whole
    image pad every feature map with zeros.

    Raises UsageError for a step or a batch below 1.
    """

    def __init__(
        self,
        score: Score,
        info: ModelInfo,
        fill: Color,
        step: int = 8,
        batch: int = 16,
    ) -> None:
        """Label patches with `score`, which gives the logits of one pixel of each patch."""
        if step < 1 or batch < 1:
            message = f"a step of {step} pixels and batches of {batch} patches: both must be at least 1"
            raise UsageError(message, code="invalid-patch-step")
        self._score, self._info, self.fill, self.step, self.batch = score, replace(info, exact=False), fill, step, batch

    @classmethod
    def over(cls, runner: Runner, fill: Color, step: int = 8, batch: int = 16) -> PatchwiseRunner:
        """Label patches with a segmentation network; a patch is the window that the labelled pixel depends on."""

        def score(patches: UInt8, pixels: Int64) -> Float32:
            logits = runner.logits(patches)
            return logits[np.arange(len(patches)), :, pixels[:, 0], pixels[:, 1]]

        return cls(score, runner.info, fill, step, batch)

    @classmethod
    def sliding(cls, classifier: PatchClassifier, step: int = 8, batch: int = 16) -> PatchwiseRunner:
        """Label patches with a classifier; the labelled pixel is the centre of its patch."""
        height, width = classifier.size
        windows, fill = (Window.centred(height), Window.centred(width)), classifier.mean_color
        info = ModelInfo(classifier.labels, windows, exact=False, input=InputFormat(len(fill)))
        return cls(lambda patches, _: classifier.logits(patches), info, fill, step, batch)

    @property
    def info(self) -> ModelInfo:
        """The network that runs; it is never exact."""
        return self._info

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        return largest(self.logits(images))

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32, constant on squares of `step` pixels."""
        count, height, width = images.shape[:3]
        rows, columns = self._pixels(height), self._pixels(width)
        coarse = np.empty((count, self.info.labels.num_classes, len(rows), len(columns)), np.float32)
        for image, scores in zip(images, coarse, strict=True):
            self._label(image, rows, columns, scores.reshape(len(scores), -1))
        return coarse.repeat(self.step, 2)[:, :, :height].repeat(self.step, 3)[..., :width]

    def _pixels(self, size: int) -> list[int]:
        """Return the labelled pixels along one axis; all lie inside the image, also where the border cuts a square."""
        return [min(start + self.step // 2, size - 1) for start in range(0, size, self.step)]

    def _label(self, image: UInt8, rows: list[int], columns: list[int], scores: Float32) -> None:
        """Fill `scores`, K x (rows * columns)."""
        tall, wide = self.info.windows
        pixels = np.array([(y, x) for y in rows for x in columns])
        starts = np.array([(tall.start(y), wide.start(x)) for y, x in pixels.tolist()])
        low, high = np.minimum(starts.min(0), 0), starts.max(0) + np.array([tall.size, wide.size])
        frame = [(int(-low[a]), max(0, int(high[a]) - image.shape[a])) for a in (0, 1)]
        padded = np.stack(
            [np.pad(image[..., c], frame, constant_values=self.fill[c]) for c in range(len(self.fill))], -1
        )
        for first in range(0, len(pixels), self.batch):
            part = slice(first, first + self.batch)
            corners = (starts[part] - low).tolist()
            patches = np.stack([padded[y : y + tall.size, x : x + wide.size] for y, x in corners])
            scores[:, part] = self._score(patches, pixels[part] - starts[part]).T

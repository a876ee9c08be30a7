"""Patch-wise classification: a network slid over the image with a step, as was done before dense networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fullconv.errors import UsageError
from fullconv.geometry.tiles import Window
from fullconv.images.input_format import InputFormat
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.runtime.runner import Runner, largest

__all__ = ["PatchClassifier", "PatchwiseRunner"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Score = Callable[[Bytes, npt.NDArray[np.int64]], Floats]
Color = tuple[int, ...]


class PatchClassifier(Protocol):
    """Something that gives one class for an image of one size."""

    @property
    def labels(self) -> LabelSet:
        """What the K logits mean."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        ...

    @property
    def mean_color(self) -> Color:
        """The bytes, one for each channel, that come nearest to no input at all."""
        ...

    def logits(self, images: Bytes) -> Floats:
        """N x height x width x 3 uint8 RGB to N x K float32 raw scores."""
        ...


class PatchwiseRunner:
    """A `Runner` that labels every `step`-th pixel from its own patch, `batch` patches at a time.

    The pixels lie in the middles of squares of `step` pixels, and each square gets the logits of its pixel. Patches
    that reach beyond the image are filled up with `fill`, a byte for each channel. It is not exact: where patches are
    cut depends on the image's border.

    Over a skip network, the logits of a labelled pixel are those of the whole image wherever its window lies inside the
    image. Nearer to the border they are not: there a patch continues the image with its mean colour, and the
    convolutions of the whole image pad every map with zeros instead.
    """

    def __init__(
        self,
        score: Score,
        info: ModelInfo,
        fill: Color,
        step: int = 8,
        batch: int = 16,
    ) -> None:
        if step < 1 or batch < 1:
            raise UsageError(
                f"patches {step} pixels apart in batches of {batch}: both are 1 at the least", code="patch-step"
            )
        self._score, self._info, self.fill, self.step, self.batch = score, replace(info, exact=False), fill, step, batch

    @classmethod
    def over(cls, runner: Runner, fill: Color, step: int = 8, batch: int = 16) -> PatchwiseRunner:
        """Slide a network that labels pixels, each from the window that it depends on."""

        def score(patches: Bytes, places: npt.NDArray[np.int64]) -> Floats:
            logits = runner.logits(patches)
            return logits[np.arange(len(patches)), :, places[:, 0], places[:, 1]]

        return cls(score, runner.info, fill, step, batch)

    @classmethod
    def sliding(cls, classifier: PatchClassifier, step: int = 8, batch: int = 16) -> PatchwiseRunner:
        """Slide a classifier, whose input is centred on the pixel."""
        height, width = classifier.size
        windows, fill = (Window.centred(height), Window.centred(width)), classifier.mean_color
        info = ModelInfo(classifier.labels, windows, exact=False, input=InputFormat(len(fill)))
        return cls(lambda patches, places: classifier.logits(patches), info, fill, step, batch)

    @property
    def info(self) -> ModelInfo:
        """The network that runs, which is not exact."""
        return self._info

    def label_maps(self, images: Bytes) -> Bytes:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        return largest(self.logits(images))

    def logits(self, images: Bytes) -> Floats:
        """Map N x H x W x C uint8 to N x K x H x W float32, constant on squares of `step` pixels."""
        count, height, width = images.shape[:3]
        rows, columns = self._pixels(height), self._pixels(width)
        coarse = np.empty((count, self.info.labels.num_classes, len(rows), len(columns)), np.float32)
        for image, scores in zip(images, coarse, strict=True):
            self._label(image, rows, columns, scores.reshape(len(scores), -1))
        return coarse.repeat(self.step, 2)[:, :, :height].repeat(self.step, 3)[..., :width]

    def _pixels(self, size: int) -> list[int]:
        """The labelled pixels along one axis; that of a square cut off by the border lies inside too."""
        return [min(start + self.step // 2, size - 1) for start in range(0, size, self.step)]

    def _label(self, image: Bytes, rows: list[int], columns: list[int], scores: Floats) -> None:
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

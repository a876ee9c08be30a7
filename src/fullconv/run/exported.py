"""Exported networks behind the seam, whatever runs the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fullconv.labels import LabelSet
from fullconv.run.about import About, Float32
from fullconv.run.full_size import full_size_labels, full_size_logits
from fullconv.tiling import Window

__all__ = ["ExportedRunner"]

UInt8 = npt.NDArray[np.uint8]


class ExportedRunner:
    """What a file says about itself, and what computes its `logits`: N x H x W x C uint8 to N x K x h x w float32."""

    def __init__(self, about: About, scores: Callable[[UInt8], Float32]) -> None:
        self.about, self._scores = about, scores

    @property
    def labels(self) -> LabelSet:
        """What the channels of the logits mean."""
        return self.about.labels

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and which columns of the image a pixel's logits depend on."""
        return self.about.windows

    @property
    def exact(self) -> bool:
        """Whether they depend on no others; not so with global context."""
        return self.about.exact

    @property
    def channels(self) -> int:
        """Those of the images that it takes."""
        return self.about.channels

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The numbers in files that become 0 and 255, where their type does not say it."""
        return self.about.value_range

    def logits(self, images: UInt8) -> Float32:
        """N x H x W x C uint8 to N x K x H x W float32; beside the result, memory holds some rows of it."""
        return full_size_logits(self._scores(images), self.about, (images.shape[1], images.shape[2]))

    def label_maps(self, images: UInt8) -> UInt8:
        """N x H x W x C uint8 to N x H x W uint8 class ids; no full-size logits are made."""
        return full_size_labels(self._scores(images), self.about, (images.shape[1], images.shape[2]))

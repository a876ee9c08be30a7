"""Exported networks as runners, on any backend that reads the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fullconv.model_info import ModelInfo
from fullconv.runtime.full_size import full_size_labels, full_size_logits
from fullconv.runtime.metadata import Float32, ModelMetadata

__all__ = ["ExportedRunner"]

UInt8 = npt.NDArray[np.uint8]


class ExportedRunner:
    """A `Runner` of a file's metadata and of `scores`, which computes its `logits`.

    `scores` maps N x H x W x C uint8 to N x K x h x w float32.
    """

    def __init__(self, metadata: ModelMetadata, scores: Callable[[UInt8], Float32]) -> None:
        self.metadata, self._scores = metadata, scores

    @property
    def info(self) -> ModelInfo:
        """The network in the file."""
        return self.metadata.info

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32; memory holds some rows more than the result."""
        return full_size_logits(self._scores(images), self.metadata, (images.shape[1], images.shape[2]))

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids; full-size logits are never computed."""
        return full_size_labels(self._scores(images), self.metadata, (images.shape[1], images.shape[2]))

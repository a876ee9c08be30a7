"""Exported networks as runners, on any backend that reads the file."""

from __future__ import annotations

from collections.abc import Callable

from fullconv.arrays import Float32, UInt8
from fullconv.model_info import ModelInfo
from fullconv.runtime.full_size import full_size_labels, full_size_logits
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["ExportedRunner"]


class ExportedRunner:
    """A `Runner` that upsamples the scores of an exported file to the size of the image."""

    def __init__(self, metadata: ModelMetadata, scores: Callable[[UInt8], Float32]) -> None:
        """Take the file's metadata and its function from N x H x W x C uint8 to N x K x h x w float32 scores."""
        self.metadata, self._scores = metadata, scores

    @property
    def info(self) -> ModelInfo:
        """The network in the file."""
        return self.metadata.info

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32; it needs memory for some rows more than the result."""
        return full_size_logits(self._scores(images), self.metadata, (images.shape[1], images.shape[2]))

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids without full-size logits in memory."""
        return full_size_labels(self._scores(images), self.metadata, (images.shape[1], images.shape[2]))

"""Exported networks as runners, on any backend that reads the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fullconv.arrays import Float32, UInt8
from fullconv.errors import ModelError
from fullconv.forks import native_call
from fullconv.model_info import ModelInfo
from fullconv.runtime.full_size import full_size_labels, full_size_logits
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["ExportedRunner"]


class ExportedRunner:
    """A `Runner` that upsamples the scores of an exported file to the size of the image."""

    def __init__(
        self,
        metadata: ModelMetadata,
        scores: Callable[[UInt8], Float32],
        release_memory: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the file's metadata and its function from N x H x W x C uint8 to N x K x h x w float32 scores.

        `release_memory` gives back what the backend keeps for the next call, if it can.
        """
        self.metadata, self._scores, self.release_memory = metadata, scores, release_memory

    @property
    def info(self) -> ModelInfo:
        """The network in the file."""
        return self.metadata.info

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32; it needs memory for some rows more than the result."""
        with native_call():
            return full_size_logits(self._checked_scores(images), self.metadata, (images.shape[1], images.shape[2]))

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids without full-size logits in memory."""
        with native_call():
            return full_size_labels(self._checked_scores(images), self.metadata, (images.shape[1], images.shape[2]))

    def _checked_scores(self, images: UInt8) -> Float32:
        """Return the scores. Raises ModelError unless they are finite numbers for every pixel of the images."""
        scores: object = self._scores(images)
        count, size = len(images), images.shape[1:3]
        if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or scores.ndim != 4:
            kind = (
                f"{scores.ndim} dimensions of {scores.dtype}"
                if isinstance(scores, np.ndarray)
                else type(scores).__name__
            )
            raise _wrong(f"they are {kind}, not four dimensions of float32")
        if scores.shape[:2] != (count, self.info.labels.num_classes):
            raise _wrong(f"they are for {scores.shape[0]} images and {scores.shape[1]} classes")
        for cells, pixels, start, up in zip(
            scores.shape[2:], size, self.metadata.start, self.metadata.upsamplings, strict=True
        ):
            if (
                not start + pixels <= (cells + 1) * up.factor
                or cells * up.factor > 2 * (start + pixels) + 8 * up.factor + 512
            ):
                raise _wrong(f"{cells} cells do not fit {pixels} pixels")
        if not np.isfinite(scores).all():
            raise _wrong("some are not finite numbers")
        return scores


def _wrong(reason: str) -> ModelError:
    message = f"the network's logits cannot be used: {reason}; export it again, or use another model"
    return ModelError(message, code="wrong-logits")

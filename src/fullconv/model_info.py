"""The description of a network that callers need, on any backend."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.geometry.tiles import Window
from fullconv.images.input_format import RGB, InputFormat
from fullconv.labels import LabelSet

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """The labels, receptive field and images of a network.

    Channel k of the logits is class k of `labels`. `windows` are the rows and the columns of the image that the logits
    of one pixel depend on. If `exact`, they depend on no other pixels, so that tiled and whole-image labels are
    identical; a network with global context is not exact. `input` is the format of the images.
    """

    labels: LabelSet
    windows: tuple[Window, Window]
    exact: bool
    input: InputFormat = RGB

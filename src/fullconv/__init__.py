"""Fully convolutional networks: any image classifier becomes a pixel classifier.

model = fullconv.load("runs/street")
result = model.predict("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from fullconv.model import Model
    from fullconv.run.load import RunnerKind

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str | os.PathLike[str], runner: RunnerKind | None = None) -> Model:
    """A model that labels images: a run folder, a weights or .onnx file, or the name of one that comes with fullconv.

    `runner` is "onnx", "openvino" or "torch", or None for the usual one. What it returns, and its errors, are those of
    `fullconv.model.load_model`. Nothing heavy is imported before.
    """
    from fullconv.model import load_model

    return load_model(model, runner)

"""Fully convolutional networks: any image classifier becomes a pixel classifier.

model = fullconv.load("runs/street")
result = model.predict("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from fullconv.choices import Backend
    from fullconv.model import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str | os.PathLike[str], backend: Backend | None = None) -> Model:
    """Load a model that labels images: a run folder, a weights or .onnx file, or a bundled model by its name.

    `backend` is "onnx", "openvino" or "torch", or None for the usual one. The result and the errors are those of
    `fullconv.model.load_model`. Only this call imports heavy packages.
    """
    from fullconv.model import load_model

    return load_model(model, backend)

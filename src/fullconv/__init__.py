"""Fully convolutional networks: any image classifier becomes a pixel classifier.

model = fullconv.load("runs/street")
result = model.predict("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from fullconv.model import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str | os.PathLike[str]) -> Model:
    """A model that labels images: a run folder, a weights file, or the name of a model that comes with fullconv.

    What it returns, and its errors, are those of `fullconv.model.load_model`. Nothing heavy is imported before.
    """
    from fullconv.model import load_model

    return load_model(model)

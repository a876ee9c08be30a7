"""The bundled models, by name."""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from fullconv.errors import ModelError
from fullconv.installation import real_path

__all__ = ["bundled", "bundled_names", "model_path", "taps_path"]

FOLDER: Traversable = files("fullconv").joinpath("models")

TAPS = "taps.onnx"
"""The network on whose taps a live model is fitted. It has no classes, so it is not a model."""


def taps_path() -> Path:
    """Return the file of the bundled taps."""
    return real_path(FOLDER.joinpath(TAPS))


def bundled_names(folder: Traversable = FOLDER) -> list[str]:
    """Return the names of the bundled models, sorted."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        file.name.removesuffix(".onnx") for file in inside if file.name.endswith(".onnx") if file.name != TAPS
    )


def bundled(name: str, folder: Traversable = FOLDER) -> Path:
    """Return the file of a bundled model; raise ModelError, which lists the names, for any other name."""
    names = bundled_names(folder)
    if name not in names:
        raise ModelError(
            f"there is no model {name!r}; name a run folder, a weights file, or a bundled model "
            f"({', '.join(names) or 'this installation has none'})",
            code="no-model",
        )
    return real_path(folder.joinpath(f"{name}.onnx"))


def model_path(model: str | os.PathLike[str], folder: Traversable = FOLDER) -> Path:
    """Return the path of a model, which is the name of a bundled model or an existing path.

    A bundled name has priority over a folder of that name: ./street is the folder. Raises ModelError for anything else.
    """
    if isinstance(model, str) and model in bundled_names(folder):
        return bundled(model, folder)
    path = Path(model)
    return path if path.exists() else bundled(str(model), folder)

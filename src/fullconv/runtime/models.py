"""The bundled models, by name."""

from __future__ import annotations

import os
from pathlib import Path

from fullconv.errors import ModelError

__all__ = ["bundled", "bundled_names", "model_path"]

FOLDER = Path(__file__).parent.parent / "models"


def bundled_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the bundled models, sorted."""
    return sorted(path.stem for path in folder.glob("*.onnx"))


def bundled(name: str, folder: Path = FOLDER) -> Path:
    """Return the file of a bundled model; raise ModelError, which lists the names, for any other name."""
    names = bundled_names(folder)
    if name not in names:
        raise ModelError(
            f"there is no model {name!r}; name a run folder, a weights file, or a bundled model "
            f"({', '.join(names) or 'this installation has none'})",
            code="no-model",
        )
    return folder / f"{name}.onnx"


def model_path(model: str | os.PathLike[str], folder: Path = FOLDER) -> Path:
    """Return the path of a model, which is the name of a bundled model or an existing path.

    A bundled name has priority over a folder of that name: ./street is the folder. Raises ModelError for anything else.
    """
    if isinstance(model, str) and model in bundled_names(folder):
        return bundled(model, folder)
    path = Path(model)
    return path if path.exists() else bundled(str(model), folder)

"""The models that come with fullconv, by name."""

from __future__ import annotations

import os
from pathlib import Path

from fullconv.errors import ModelError

__all__ = ["bundled", "bundled_names", "model_path"]

FOLDER = Path(__file__).parent.parent / "models"


def bundled_names() -> list[str]:
    """The names of the models inside the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def bundled(name: str) -> Path:
    """The file of a model inside the package; ModelError that lists the names for others."""
    names = bundled_names()
    if name not in names:
        known = f"those that come with fullconv: {', '.join(names)}" if names else "none comes with this fullconv"
        raise ModelError(f"there is no model {name!r}; name a run folder, a weights file, or a model's name ({known})")
    return FOLDER / f"{name}.onnx"


def model_path(model: str | os.PathLike[str]) -> Path:
    """What names a model: the name of a bundled one, or a path that exists.

    A bundled name comes before a folder of that name: ./street is the folder. Raises ModelError for anything else.
    """
    if isinstance(model, str) and model in bundled_names():
        return bundled(model)
    path = Path(model)
    return path if path.exists() else bundled(str(model))

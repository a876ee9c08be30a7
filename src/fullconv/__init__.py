"""Fully convolutional networks, which turn image classifiers into pixel classifiers.

model = fullconv.load("runs/street")
result = model.predict("photo.jpg")

`import fullconv` imports neither numpy nor torch; each function imports the packages that it needs (docs/python.md).
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fullconv.api import (
        check,
        convolutionalize,
        evaluate,
        export,
        fcn2s,
        fcn4s,
        fcn8s,
        fcn16s,
        fcn32s,
        load,
        train,
    )
    from fullconv.doctor.examine import Examination
    from fullconv.metrics import Scores
    from fullconv.packages.export import export_profile, export_web
    from fullconv.predict.model import Model
    from fullconv.predict.result import Result
    from fullconv.training.progress import Progress, TrainResult

_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything can import ONNX Runtime, which sends usage data

__version__ = "0.1.0"
__all__ = [
    "Examination",
    "Model",
    "Progress",
    "Result",
    "Scores",
    "TrainResult",
    "__version__",
    "check",
    "convolutionalize",
    "evaluate",
    "export",
    "export_profile",
    "export_web",
    "fcn2s",
    "fcn4s",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "load",
    "train",
]

_TYPES = {
    "Examination": "fullconv.doctor.examine",
    "Model": "fullconv.predict.model",
    "Progress": "fullconv.training.progress",
    "Result": "fullconv.predict.result",
    "Scores": "fullconv.metrics",
    "TrainResult": "fullconv.training.progress",
    "export_profile": "fullconv.packages.export",
    "export_web": "fullconv.packages.export",
}
"""The modules that define the types, and some functions. `fullconv.api` defines the other functions."""

if not TYPE_CHECKING:  # otherwise a type checker would give every name the type Any

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'fullconv' has no attribute {name!r}")
        from importlib import import_module

        from fullconv.forks import native_call

        with native_call():  # a child that is forked during an import would wait for it for ever
            value = getattr(import_module(_TYPES.get(name, "fullconv.api")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The Python interface: each function does the work of the command of its name. `fullconv` re-exports them all."""

from fullconv.api.models import evaluate, export, load
from fullconv.api.networks import convolutionalize, fcn2s, fcn4s, fcn8s, fcn16s, fcn32s
from fullconv.api.training import check, train

__all__ = [
    "check",
    "convolutionalize",
    "evaluate",
    "export",
    "fcn2s",
    "fcn4s",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "load",
    "train",
]

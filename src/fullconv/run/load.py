"""Which runner a model path asks for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fullconv.errors import MissingExtra, UsageError
from fullconv.run.runner import Runner

__all__ = ["RunnerKind", "load_runner"]

RunnerKind = Literal["onnx", "torch"]


def load_runner(path: Path, kind: RunnerKind | None = None) -> Runner:
    """The runner of an .onnx file (ONNX Runtime), or of a run folder or weights file (torch).

    ONNX Runtime reads .onnx files only, torch the others only: UsageError else. ModelError where the file
    is no model, MissingExtra where what runs it is not installed. Torch is imported only where it runs.
    """
    exported = path.suffix.lower() == ".onnx"
    kind = kind or ("onnx" if exported else "torch")
    if exported == (kind == "torch"):
        takes = "a run folder or a .safetensors file" if kind == "torch" else "an .onnx file of fullconv export"
        raise UsageError(f"{path}: the {kind} runner takes {takes}")
    if kind == "torch":
        for package in ("torch", "torchvision", "safetensors"):
            if find_spec(package) is None:
                raise MissingExtra(package, "train")
        from fullconv.net.runner import TorchRunner

        return TorchRunner.load(path)
    from fullconv.run.onnx import OnnxRunner

    return OnnxRunner.load(path)

"""Which runner a model path asks for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from fullconv.errors import MissingExtra, ModelError, UsageError
from fullconv.run.exported import ExportedRunner
from fullconv.run.runner import Runner

__all__ = ["RunnerKind", "load_runner"]

RunnerKind = Literal["onnx", "openvino", "torch"]


def load_runner(path: Path, kind: RunnerKind | None = None) -> Runner:
    """The runner of an .onnx file (ONNX Runtime, or OpenVINO), or of a run folder or weights file (torch).

    ONNX Runtime and OpenVINO read .onnx files only, torch the others only: UsageError else, and for other kinds.
    ModelError where the file is no model, MissingExtra where what runs it is not installed. Torch is imported only
    where it runs.
    """
    if kind not in (None, *get_args(RunnerKind)):
        raise UsageError(f"there is no runner {kind!r}; choose from {', '.join(get_args(RunnerKind))}")
    exported = path.suffix.lower() == ".onnx"
    if not exported and path.is_file() and path.suffix.lower() != ".safetensors":
        raise ModelError(f"{path} is no model; name a run folder, or a .safetensors or .onnx file")
    kind = kind or ("onnx" if exported else "torch")
    if exported == (kind == "torch"):
        takes = "a run folder or a .safetensors file" if kind == "torch" else "an .onnx file of fullconv export"
        raise UsageError(f"{path}: the {kind} runner takes {takes}")
    if kind == "torch":
        _need("train", "torch", "torchvision", "safetensors")
        from fullconv.net.runner import TorchRunner

        return TorchRunner.load(path)
    if kind == "openvino":
        _need("openvino", "openvino")
        from fullconv.run.openvino import OpenVinoFile

        fast = OpenVinoFile.load(path)
        return ExportedRunner(fast.about, fast.scores)
    from fullconv.run.onnx import OnnxFile

    file = OnnxFile.load(path)
    return ExportedRunner(file.about, file.scores)


def _need(extra: str, *packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)

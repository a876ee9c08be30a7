"""Load a model's files as a runner."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from fullconv.choices import Backend, Device, refuse_code
from fullconv.errors import ModelError, UsageError
from fullconv.extras import need
from fullconv.files import StrPath
from fullconv.forks import native_call
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.runner import Runner

__all__ = ["load_runner"]


def load_runner(
    path: Path,
    backend: Backend | None = None,
    code: StrPath | None = None,
    spin: bool = True,
    threads: int | None = None,
    device: Device = "auto",
) -> Runner:
    """Load an .onnx file (ONNX Runtime by default, or OpenVINO), or a run folder or weights file (torch).

    `code` is the FILE.py that builds a custom classifier, if the user names it. `spin` is that of `OnnxFile.load`;
    other backends ignore it. `threads` are those of ONNX Runtime and OpenVINO, None for all cores. `device` auto is the
    GPU for torch if there is one, else the CPU.

    Raises UsageError for a backend that does not run this kind of model, for a device that it does not have and for
    code that the model does not need, ModelError if the file is not a model, and MissingExtra if the backend is not
    installed. Torch is imported only to run a network with it.
    """
    _check_values(backend, device)
    with native_call():
        return _load(path, backend, code, spin, threads, device)


def _load(
    path: Path, backend: Backend | None, code: StrPath | None, spin: bool, threads: int | None, device: Device
) -> Runner:
    exported = path.suffix.lower() == ".onnx"
    if not exported and path.is_file() and path.suffix.lower() != ".safetensors":
        raise ModelError(
            f"{path} is not a model; name a run folder, or a .safetensors or .onnx file", code="not-a-model"
        )
    backend = backend or ("onnx" if exported else "torch")
    if exported == (backend == "torch"):
        models = "a run folder or a .safetensors file" if backend == "torch" else "an .onnx file of fullconv export"
        raise UsageError(
            f"{path}: the {backend} backend runs {models}; choose another backend or another model",
            code="backend-of-other-model",
        )
    if exported:
        refuse_code(path, code)
    if backend == "torch":
        need("train", "torch", "torchvision", "safetensors")
        from fullconv.net.torch_runner import TorchRunner, find_device

        return TorchRunner.load(path, find_device(device), code=code)
    if backend == "openvino":
        if device == "cuda":
            message = "--device cuda: OpenVINO has no CUDA; use --backend onnx, or leave one of the options out"
            raise UsageError(message, code="no-such-device")
        need("openvino", "openvino")
        from fullconv.runtime.openvino import OpenVinoFile

        compiled = OpenVinoFile.load(path, threads)
        return ExportedRunner(compiled.metadata, compiled.scores)
    from fullconv.runtime.onnx import OnnxFile

    file = OnnxFile.load(path, threads, spin, device)
    return ExportedRunner(file.metadata, file.scores, file.release_memory)


def _check_values(backend: Backend | None, device: Device) -> None:
    """Raise UsageError for a backend or a device that there is not."""
    if backend not in (None, *get_args(Backend)):
        choices = ", ".join(get_args(Backend))
        raise UsageError(f"there is no backend {backend!r}; choose from {choices}", code="unknown-backend")
    if device not in get_args(Device):
        choices = ", ".join(get_args(Device))
        raise UsageError(f"there is no device {device!r}; choose from {choices}", code="unknown-device")

"""A runner that goes to other processes as the name of its model, and loads it there."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from fullconv.arrays import Float32, UInt8
from fullconv.choices import Backend, Device
from fullconv.errors import ModelError
from fullconv.files import StrPath
from fullconv.model_info import ModelInfo
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import FOLDER, bundled, model_path
from fullconv.runtime.runner import Runner

__all__ = ["ReloadableRunner"]

KEPT = 4
"""The number of models that a process keeps for the objects that it unpickled."""


class ReloadableRunner:
    """A `Runner` of a model's files. Pickled, it holds the path of the model and its description, but no weights.

    An unpickled runner loads the model when it first computes something. A process loads each model once, as long as
    its files do not change. The methods then raise ModelError if the files are lost, or hold another kind of model.
    """

    def __init__(
        self, path: Path, backend: Backend | None = None, code: StrPath | None = None, device: Device = "auto"
    ) -> None:
        """Load the model; raise the errors of `load_runner`."""
        self._code = None if code is None else os.path.abspath(code)
        self._runner: Runner | None = load_runner(path, backend, self._code, device=device)
        self._backend, self._device, self._info = backend, device, self._runner.info
        self._bundled = path.stem if path.parent == FOLDER else ""
        self._path = os.path.abspath(path)

    @property
    def info(self) -> ModelInfo:
        """The network that runs."""
        return self._info

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32."""
        return self._load().logits(images)

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        return self._load().label_maps(images)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the loaded model."""
        return {**self.__dict__, "_runner": None}

    def _load(self) -> Runner:
        if self._runner is None:
            path = bundled(self._bundled) if self._bundled else model_path(self._path)
            runner = _load_once(path, self._backend, self._code, self._device, _identify(path))
            if runner.info != self._info:
                message = f"{path} now has other classes or takes other images than when it was pickled; load it again"
                raise ModelError(message, code="model-changed")
            self._runner = runner
        return self._runner


@lru_cache(KEPT)
def _load_once(
    path: Path, backend: Backend | None, code: str | None, device: Device, identity: tuple[object, ...]
) -> Runner:
    return load_runner(path, backend, code, device=device)


def _identify(path: Path) -> tuple[object, ...]:
    """Return the sizes and times of the file, or of the files in the folder that may hold weights."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)

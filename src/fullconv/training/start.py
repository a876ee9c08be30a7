"""Start a training from a trained network: its structure and its weights, for other data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullconv.choices import LateLayers
from fullconv.data.dataset import DataSet
from fullconv.errors import ModelError, UsageError
from fullconv.files import StrPath
from fullconv.net.checkpoint import find_weights, read_saved
from fullconv.net.fcn.spec import NetSpec
from fullconv.runtime.models import bundled_names, model_path

__all__ = ["find_start", "refuse_network_options", "spec_of_start"]


def find_start(start: StrPath) -> Path:
    """Return the weights file of a run folder, a .safetensors file, or the bundled model whose weights are bundled.

    Raises ModelError for anything else.
    """
    path = model_path(start)
    layers = path.with_suffix(".safetensors")
    is_bundled = isinstance(start, str) and start in bundled_names() and layers.is_file()
    path = layers if is_bundled else find_weights(path)
    if path.suffix.lower() == ".onnx":
        message = f"{path} cannot be trained on: it has no layers any more; name its run folder or .safetensors file"
        raise ModelError(message, code="start-is-exported")
    return path.absolute()


def spec_of_start(path: Path, dataset: DataSet, stride: int | None, late: LateLayers | None) -> NetSpec:
    """Return the network in a file for the classes of the data, with another stride or late layers if they are given.

    Raises ModelError if the file is not a network, or takes images with another number of channels.
    """
    spec = read_saved(path).spec
    if spec.channels != dataset.channels:
        message = f"{path} takes images of {spec.channels} channels, and {dataset.root} has {dataset.channels}"
        raise ModelError(f"{message}; start from another network, or leave out --start", code="start-of-other-images")
    return replace(
        spec,
        num_classes=dataset.labels.num_classes,
        stride=stride or spec.stride,
        late=late or spec.late,
        fixed=False,
    )


def refuse_network_options(start: StrPath, given: Mapping[str, Any]) -> None:
    """Raise UsageError if options of the network are given with a start, which has its own network."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if names:
        message = f"the network is that of {os.fspath(start)}; leave out {' and '.join(names)}, or --start"
        raise UsageError(message, code="start-has-network")

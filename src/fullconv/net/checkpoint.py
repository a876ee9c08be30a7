"""Weights with all it takes to use them, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.files import atomic_write
from fullconv.labels import LabelSet
from fullconv.net.backbones import classifier, input_size
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.spec import NetSpec
from fullconv.net.user_file import located

__all__ = [
    "Saved",
    "find_weights",
    "holds_classifier",
    "load_classifier",
    "load_net",
    "read_saved",
    "save_classifier",
    "save_net",
]

_KEY, _CLASSIFIER = "fullconv", "fullconv_classifier"


@dataclass(frozen=True)
class Saved:
    """What a weights file holds beside the weights. `notes` is free: scores, step, provenance."""

    spec: NetSpec
    labels: LabelSet
    notes: dict[str, Any] = field(default_factory=dict)


def save_net(path: Path, state: dict[str, Tensor], saved: Saved) -> None:
    """Write the state dict of an FCN and its description; the old file stays until the new one is whole."""
    meta = {"spec": saved.spec.to_dict(), "labels": saved.labels.to_dict(), "notes": saved.notes}
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in state.items()}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(meta)})


def find_weights(path: Path) -> Path:
    """The weights file that `path` means: a file itself, or the best of a run folder."""
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            raise ModelError(f"{path} holds no best.safetensors: it is not a run folder, or no epoch has ended yet")
        return best
    if not path.is_file():
        raise ModelError(f"there is no model {path}; name a run folder or a .safetensors file that fullconv wrote")
    return path


def read_saved(path: Path) -> Saved:
    """What a run folder or a file of `save_net` says about its network, without reading the weights."""
    path = find_weights(path)
    with _opened(path) as file:
        return _description(file, path)


def load_net(path: Path) -> tuple[FCN, Saved]:
    """The network in evaluation mode, on the CPU, from a run folder or a file of `save_net`."""
    path = find_weights(path)
    with _opened(path) as file:
        saved = _description(file, path)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.device("meta"):
        net = rebuild(saved.spec)
    if any(name not in state for name, _ in net.named_buffers()):  # constants that no file holds must be computed
        net = rebuild(saved.spec)
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit its own description: {error}") from error
    return net.eval(), saved


def save_classifier(path: Path, name: str, net: nn.Module, labels: LabelSet) -> None:
    """Write a classifier by its name in `backbones`, with its classes; its weights are as for any --weights FILE."""
    meta = {"model": name, "labels": labels.to_dict()}
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in net.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_CLASSIFIER: json.dumps(meta)})


def holds_classifier(path: Path) -> bool:
    """Whether `path` is a file of `save_classifier`; ModelError where it is no model at all."""
    with _opened(find_weights(path)) as file:
        return _CLASSIFIER in (file.metadata() or {})


def load_classifier(path: Path) -> tuple[nn.Module, tuple[int, int], LabelSet]:
    """The classifier in evaluation mode, on the CPU, the size of its images, and its classes."""
    with _opened(path) as file:
        meta = (file.metadata() or {}).get(_CLASSIFIER)
    try:
        values = json.loads(meta or "")
        name, labels = located(str(values["model"]), path), LabelSet.from_dict(values["labels"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} has no description of a classifier that can be read: {error!r}") from error
    net, missing = classifier(name, path)
    if missing:
        raise ModelError(f"{path} does not fit its own description: {', '.join(sorted(missing)[:3])} of {name} differ")
    return net.eval(), input_size(name), labels


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error


def _description(file: Any, path: Path) -> Saved:
    meta = (file.metadata() or {}).get(_KEY)
    if meta is None and _CLASSIFIER in (file.metadata() or {}):
        raise ModelError(f"{path} is a classifier, not a network that labels pixels: predict with --patchwise")
    if meta is None:
        raise ModelError(f"{path} was not written by fullconv: it has no description of its network")
    try:
        values = json.loads(meta)
        spec = NetSpec.from_dict(values["spec"])
        spec = replace(spec, model=located(spec.model, path))
        return Saved(spec, LabelSet.from_dict(values["labels"]), values["notes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} has a description that this version of fullconv cannot read: {error!r}") from error

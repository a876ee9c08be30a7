"""Model files: weights and the description of their network in one safetensors file."""

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

from fullconv.documents import parse_json
from fullconv.errors import ModelError
from fullconv.files import StrPath, atomic_write
from fullconv.labels import LabelSet
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.classifiers.user_file import allow_code, hash_code
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec

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
    """The description in a model file. `notes` may hold any values: scores, step, provenance."""

    spec: NetSpec
    labels: LabelSet
    notes: dict[str, Any] = field(default_factory=dict)


def save_net(path: Path, state: dict[str, Tensor], saved: Saved) -> None:
    """Write the state dict of an FCN and its description, atomically; layers for deep supervision are left out."""
    meta = {"spec": saved.spec.to_dict(), "labels": saved.labels.to_dict(), "notes": saved.notes}
    tensors = {
        name: value.detach().to("cpu").contiguous()
        for name, value in state.items()
        if not name.startswith("decoder.auxiliary.")
    }
    with atomic_write(path, errors=(SafetensorError,)) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(meta)})


def find_weights(path: Path) -> Path:
    """Return the model file that `path` names: the file itself, or best.safetensors of a run folder."""
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            message = f"{path} has no best.safetensors: it is not a run folder, or its first epoch is not complete"
            raise ModelError(message, code="no-best-weights")
        return best
    if not path.is_file():
        message = f"{path}: there is no such model; name a run folder or a .safetensors file that fullconv wrote"
        raise ModelError(message, code="no-model")
    return path


def read_saved(path: Path, code: StrPath | None = None) -> Saved:
    """Read the description from a run folder or a file of `save_net`, without the weights; `code` as in `load_net`."""
    path = find_weights(path)
    with _open(path) as file:
        return _parse_description(file, path, code)


def load_net(path: Path, code: StrPath | None = None) -> tuple[FCN, Saved]:
    """Load the network from a run folder or a file of `save_net`, in evaluation mode, on the CPU, in float32.

    `code` is the file of a custom classifier that the user names for this model (see `user_file.allow_code`).
    """
    path = find_weights(path)
    with _open(path) as file:
        saved = _parse_description(file, path, code)
        state = {name: _widen(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    with torch.device("meta"):
        net = rebuild(saved.spec)
    _check_weights(path, net, state)
    if any(name not in state for name, _ in net.named_buffers()):  # constants outside the file must be computed
        net = rebuild(saved.spec)
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        message = f"{path} does not fit its own description: {error}"
        raise ModelError(message, code="weights-differ-from-description") from error
    return net.eval(), saved


def save_classifier(path: Path, name: str, net: nn.Module, labels: LabelSet) -> None:
    """Write a classifier with its name in `backbones` and its classes; --weights FILE reads the file, too."""
    meta = {"model": name, "labels": labels.to_dict(), "code_sha256": hash_code(name)}
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in net.state_dict().items()}
    with atomic_write(path, errors=(SafetensorError,)) as temporary:
        save_file(tensors, temporary, metadata={_CLASSIFIER: json.dumps(meta)})


def holds_classifier(path: Path) -> bool:
    """Return whether `path` is a file of `save_classifier`; ModelError where it is not a model file."""
    with _open(find_weights(path)) as file:
        return _CLASSIFIER in (file.metadata() or {})


def load_classifier(path: Path, code: StrPath | None = None) -> tuple[nn.Module, tuple[int, int], LabelSet]:
    """Load a file of `save_classifier`: the classifier in evaluation mode on the CPU, its input size, its classes.

    `code` is as in `load_net`.
    """
    with _open(path) as file:
        meta = (file.metadata() or {}).get(_CLASSIFIER)
    try:
        values = parse_json(meta or "")
        name, labels = str(values["model"]), LabelSet.from_dict(values["labels"])
        sha256 = values.get("code_sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} has no readable description of a classifier: {_describe(error)}"
        raise ModelError(message, code="unreadable-description") from error
    name = allow_code(name, sha256, path, code)
    net, missing = build_classifier(name, path)
    if missing:
        message = f"{path} does not fit its own description: {', '.join(sorted(missing)[:3])} of {name} differ"
        raise ModelError(message, code="weights-differ-from-description")
    return net.eval(), input_size(name), labels


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}", code="unreadable-safetensors") from error


def _parse_description(file: Any, path: Path, code: StrPath | None) -> Saved:
    meta = (file.metadata() or {}).get(_KEY)
    if meta is None and _CLASSIFIER in (file.metadata() or {}):
        message = f"{path} is a classifier, not a segmentation network; use it with fullconv predict --patchwise"
        raise ModelError(message, code="classifier-without-patchwise")
    if meta is None:
        message = f"{path} was not written by fullconv: it has no description of its network"
        raise ModelError(message, code="not-written-by-fullconv")
    try:
        values = parse_json(meta)
        spec = NetSpec.from_dict(values["spec"])
        saved = Saved(spec, LabelSet.from_dict(values["labels"]), values["notes"])
        if not isinstance(saved.notes, dict):
            raise ValueError("notes must hold values by name")
        if saved.labels.num_classes != spec.num_classes:
            raise ValueError(f"{spec.num_classes} classes but {saved.labels.num_classes} class names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} has a description that this version of fullconv cannot read: {_describe(error)}"
        raise ModelError(message, code="unreadable-description") from error
    name = allow_code(spec.model, spec.code_sha256, path, code)
    return replace(saved, spec=replace(spec, model=name, code_sha256=hash_code(name)))


def _widen(value: Tensor) -> Tensor:
    """Return float16 as float32; some files, such as that of `street`, store kernels in half the bytes."""
    return value.float() if value.dtype == torch.float16 else value


def _describe(error: Exception) -> str:
    """Return what is wrong; KeyError has only a name."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _check_weights(path: Path, net: FCN, state: dict[str, Tensor]) -> None:
    """Raise ModelError for weights of another shape or type than those of the network, and for NaN and infinity."""
    wanted = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name, value in state.items():
        known = wanted.get(name)
        if known is not None and (known.shape != value.shape or known.dtype != value.dtype):
            kinds = [f"{tuple(one.shape)} {str(one.dtype).removeprefix('torch.')}" for one in (value, known)]
            message = f"{path} does not fit its own description: {name} is {kinds[0]}, not {kinds[1]}"
            raise ModelError(message, code="weights-differ-from-description")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            message = f"{path}: its weights {name} are not all finite numbers, so it can label nothing; train it again"
            raise ModelError(message, code="weights-not-finite")

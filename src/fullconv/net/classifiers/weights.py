"""Weights of classifiers: read from files and loaded into a model."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fullconv.errors import ModelError

__all__ = ["IMAGENET", "PRETRAINED", "load_weights", "read_state"]

IMAGENET = "imagenet"
"""The value of `weights` for the library's own ImageNet weights, from its cache or the network."""

PRETRAINED = "pretrained"
"""The value of `weights` for bundled weights (MobileNetV2, EfficientNet-Lite 0), or IMAGENET where none are bundled.

A classifier that a user's file or fullconv itself builds has no IMAGENET weights; it keeps those that its function
returns.
"""

_OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in torchvision's DenseNet checkpoints, which are older than its model: norm.1.weight, now norm1.weight."""


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> frozenset[str]:
    """Copy `state` into `model` and return the keys that `state` lacks, which must belong to the last layers.

    Raises ModelError where the features are incomplete or a shape differs, so that no half-loaded network is trained
    unnoticed. `source` names the state in the message.
    """
    current = model.state_dict()  # its _metadata, too, is passed on: torchvision's MNASNet demands it
    renamed = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items() if key not in current}
    state = {**renamed, **state}
    wrong = [f"{k} is {tuple(state[k].shape)}" for k in current if k in state and state[k].shape != current[k].shape]
    last_layers = _last_layers(model)
    wrong = [entry for entry in wrong if not entry.startswith(last_layers)]
    missing = [key for key in current if key not in state or state[key].shape != current[key].shape]
    vital = [key for key in missing if not key.startswith(last_layers) and not key.endswith("num_batches_tracked")]
    if wrong or vital:
        faults = [*wrong, *(f"{key} is missing" for key in vital if key not in state)]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(faults[:3])}{more}; it must have the "
            "classifier's own parameter names",
            code="weights-do-not-fit",
        )
    current.update({key: state[key] for key in current if key not in missing})
    model.load_state_dict(current, strict=False)
    return frozenset(missing)


def _last_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the last layers' names: torchvision's, timm's, and the last module with parameters."""
    config = getattr(model, "default_cfg", None)
    named = config.get("classifier", ()) if isinstance(config, dict) else ()
    named = (named,) if isinstance(named, str) else tuple(named or ())
    owners = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    return tuple(f"{name}." for name in ("classifier", "fc", *named, *owners[-1:]))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file or a state dict that torch saved, as names to tensors; ModelError for any other file."""
    if not path.is_file():
        message = f"{path}: there is no such weights file; name a .safetensors or .pth file, '{IMAGENET}' or 'none'"
        raise ModelError(message, code="no-weights-file")
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}", code="unreadable-weights") from error
    except Exception as error:  # the unpickler refuses anything but tensors with its own type of error
        message = f"{path} cannot be read as weights: it is not a state dict of tensors ({type(error).__name__})"
        raise ModelError(message, code="unreadable-weights") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        message = f"{path} cannot be read as weights: it is not a state dict (names to tensors)"
        raise ModelError(message, code="unreadable-weights")
    return state

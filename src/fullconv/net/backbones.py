"""Classifiers: torchvision's and timm's by name, the user's own from a file, with weights."""

from __future__ import annotations

import difflib
import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fullconv.errors import MissingExtra, ModelError
from fullconv.net.caffe import caffenet, classifier_state
from fullconv.net.user_file import file_and_function, from_file

__all__ = [
    "CLASSIFIERS",
    "IMAGENET",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRETRAINED",
    "bundled_weights",
    "classifier",
    "digit_net",
    "input_size",
    "is_classifier",
    "load_weights",
    "mean_std",
    "origin",
    "read_state",
]

CLASSIFIERS = ("vgg16", "alexnet", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "caffenet", "digits")
"""The classifiers that are named wherever a few stand for all."""

IMAGENET = "imagenet"
"""The `weights` that ask for the library's own, from its cache or the network."""

PRETRAINED = "pretrained"
"""The `weights` that ask for those that come with fullconv (MobileNetV2's features), and IMAGENET where none do.

A classifier from a file, and those that are built here, have no IMAGENET: they are taken as their function gives them.
"""

_BUNDLED = Path(__file__).parents[1] / "models"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_TRANSFORMING = ("googlenet", "inception_v3")
"""torchvision's that scale their input for themselves when they have its weights: here they always do."""


def classifier(name: str, weights: str | Path | None = None) -> tuple[nn.Module, frozenset[str]]:
    """The classifier, and the state dict keys that `weights` did not have (all of them without weights).

    `name` is torchvision's, or timm's ("timm/NAME" where torchvision has the name too), `digits`, or
    "path/to/file.py:build". The last imports that file and calls its function `build`, which gives an nn.Module that
    maps N x 3 x H x W to N x K logits: code of the file runs, now and whenever a network that was made of it is loaded.
    `weights` is a .safetensors or .pth file with the classifier's own names, a .caffemodel of VGG16 or
    CaffeNet, PRETRAINED, IMAGENET, or None for a random start (of a file's: what it gives, hidden layers from scratch).
    Raises ModelError for an unknown name and for weights that cannot be had or do not fit.
    """
    model = _built(name)
    if weights is None:
        return model, frozenset(model.state_dict())
    if str(weights) == PRETRAINED:
        if name in _OURS:
            return model, frozenset(model.state_dict())
        if file_and_function(name) is not None:
            return model, frozenset()
        weights = bundled_weights(name) or IMAGENET
    if Path(weights).suffix == ".caffemodel" and Path(weights).is_file():
        state = classifier_state(Path(weights), name, model)
    else:
        state = _download(name) if str(weights) == IMAGENET else read_state(Path(weights))
    return model, load_weights(model, state, source=str(weights))


def bundled_weights(name: str) -> Path | None:
    """The pretrained weights of a classifier that come with fullconv, beside a card of their origin."""
    path = _BUNDLED / f"{name}.safetensors"
    return path if path.is_file() else None


def origin(name: str) -> str:
    """Where the PRETRAINED weights of a classifier come from if that is its own function, in words; else empty."""
    own = file_and_function(name)
    if own is not None:
        return f"{own[0].name}: its weights are those that {own[1]}() gives, unless --weights says otherwise"
    return (
        f"{name}: there are no pretrained weights, it starts from random ones without --weights FILE"
        if name in _OURS
        else ""
    )


def is_classifier(name: str) -> bool:
    """Whether `classifier` knows the name; a file is not opened for that."""
    return (
        name in _torchvision() or name in _OURS or file_and_function(name) is not None or _timm_name(name) is not None
    )


def input_size(name: str) -> tuple[int, int]:
    """Height and width of the images that the classifier is made for.

    Of a classifier from a file, its attribute `input_size` (a number, (height, width) or (channels, height, width)) or
    that of its `default_cfg`; 224 x 224 where it has neither.
    """
    if name in _OURS:
        return _OURS[name][1]
    if name in _torchvision():
        size = int(_weights_of(name).transforms.keywords["crop_size"])
        return size, size
    size = _config(name).get("input_size", 224)
    values = [int(n) for n in size] if isinstance(size, Sequence) else [int(size)] * 2
    return values[-2], values[-1]


def mean_std(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the classifier wants its RGB channels, 0..1, to be shifted and scaled by: ImageNet's unless it says more."""
    if name in _OURS or name in _torchvision() or not is_classifier(name):
        return IMAGENET_MEAN, IMAGENET_STD
    config = _config(name)
    return tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))


def _built(name: str) -> nn.Module:
    """The classifier, on torch's current device.

    Constructors that need numbers, which the meta device has not, run on the CPU, and so do those of one's own.
    """
    meta = torch.get_default_device().type == "meta"
    try:
        model = _made(name)
    except RuntimeError:
        if not meta:
            raise
        with torch.device("cpu"):
            model = _made(name)
    return model.to("meta") if meta else model


def _made(name: str) -> nn.Module:
    if name in _OURS:
        return _OURS[name][0]()
    if name in _torchvision():
        extra = {"init_weights": False, "transform_input": True} if name in _TRANSFORMING else {}
        model: nn.Module = torchvision.models.get_model(name, **extra)
        return model
    own, theirs = file_and_function(name), _timm_name(name)
    if own is not None:
        return from_file(*own)
    if theirs is not None:
        import timm

        found: nn.Module = timm.create_model(theirs)
        return found
    raise _unknown(name)


def _as_built(name: str) -> bool:
    return name in _OURS or file_and_function(name) is not None


@cache
def _torchvision() -> frozenset[str]:
    return frozenset(torchvision.models.list_models(module=torchvision.models))


def _weights_of(name: str) -> Any:
    entries = torchvision.models.get_model_weights(name)
    return entries[
        "DEFAULT" if name == "mobilenet_v2" or "IMAGENET1K_V1" not in entries.__members__ else "IMAGENET1K_V1"
    ]


def _timm_name(name: str) -> str | None:
    """The name without its prefix if timm has it; MissingExtra where timm is asked for and not there."""
    bare = name.removeprefix("timm/")
    if importlib.util.find_spec("timm") is None:
        if bare != name:
            raise MissingExtra("timm", "train")
        return None
    import timm

    return bare if timm.is_model(bare) else None


def _config(name: str) -> dict[str, Any]:
    """Input size, mean and std as a classifier of timm or of a file says them."""
    own, theirs = file_and_function(name), _timm_name(name)
    if own is None and theirs is not None:
        from timm.models import get_pretrained_cfg

        known: Any = get_pretrained_cfg(theirs)
        return dict(known.to_dict()) if known is not None else {}
    if own is None:
        raise _unknown(name)
    model = from_file(*own)
    said = getattr(model, "default_cfg", None)
    config: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
    if hasattr(model, "input_size"):
        config["input_size"] = model.input_size
    return config


def _unknown(name: str) -> ModelError:
    near = difflib.get_close_matches(name, [*sorted(_torchvision()), *_OURS], 3, 0.7)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return ModelError(
        f"no classifier is called {name!r}{hint}; there are torchvision's and timm's by name "
        f"({', '.join(CLASSIFIERS)}, ...), and FILE.py:FUNCTION for your own"
    )


def digit_net(num_classes: int = 11) -> nn.Module:
    """A VGG in small, for 94 x 94 RGB patches: convolutions that halve the map five times, Flatten, linear layers.

    The classifier of the demo: background and ten digits. No convolution is padded and no size leaves a remainder,
    so its dense form equals it on every window of an image. 0.3 M parameters; stride 32 at the end, as in VGG16.
    """
    features: list[nn.Module] = []
    before = 3
    for width, kernel in ((24, 4), (32, 3), (64, 3), (128, 3), (128, 1)):
        stem = not features
        features += [nn.Conv2d(before, width, kernel, 2 if stem else 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if not stem:
            features.append(nn.MaxPool2d(2))
        before = width
    hidden = [
        nn.Linear(2 * 2 * before, 256),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(0.2),
    ]
    end = nn.Sequential(*hidden, nn.Linear(256, num_classes))
    parts = {"features": nn.Sequential(*features), "flatten": nn.Flatten(), "classifier": end}
    return nn.Sequential(OrderedDict(parts))


_OURS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "digits": (digit_net, (94, 94)),
    "caffenet": (caffenet, (227, 227)),
}
"""The classifiers that are built here, and the size of their images."""


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> frozenset[str]:
    """Copy `state` into `model` and give the keys that it lacks, which must belong to the classifier's end.

    Raises ModelError where the features are incomplete or a shape differs, so that no half-loaded
    network trains unnoticed.
    """
    own = model.state_dict()
    wrong = [f"{k} is {tuple(state[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    ends = _ends(model)
    wrong = [entry for entry in wrong if not entry.startswith(ends)]
    missing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    vital = [key for key in missing if not key.startswith(ends) and not key.endswith("num_batches_tracked")]
    if wrong or vital:
        faults = [*wrong, *(f"{key} is missing" for key in vital if key not in state)]
        raise ModelError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(faults[:3])}"
            f"{f' and {len(faults) - 3} more' if len(faults) > 3 else ''}. The classifier's own names are expected."
        )
    model.load_state_dict({key: state[key] for key in own if key not in missing}, strict=False)
    return frozenset(missing)


def _ends(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's end start: torchvision's, timm's, and the last layer with parameters."""
    config = getattr(model, "default_cfg", None)
    named = config.get("classifier", ()) if isinstance(config, dict) else ()
    named = (named,) if isinstance(named, str) else tuple(named or ())
    owners = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    return tuple(f"{name}." for name in ("classifier", "fc", *named, *owners[-1:]))


def read_state(path: Path) -> dict[str, Tensor]:
    """Names to tensors of a .safetensors file or of a state dict that torch saved; ModelError for others."""
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}; name a .safetensors or .pth file, '{IMAGENET}' or 'none'")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # the unpickler refuses anything but tensors with an error of its own
        raise ModelError(f"{path} is not a plain state dict of tensors ({type(error).__name__})") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} does not hold a state dict (names to tensors)")
    return state


def _download(name: str) -> dict[str, Tensor]:
    if _as_built(name):
        raise ModelError(
            f"{name} has no ImageNet weights; name a file with --weights FILE, or '{PRETRAINED}' or 'none'"
        )
    if name not in _torchvision():
        return _download_timm(name)
    entry = _weights_of(name)
    try:
        return dict(entry.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} could not be downloaded ({error}). Put the file at {file}, "
            "name a file with --weights FILE, or start without with --weights none."
        ) from error


def _download_timm(name: str) -> dict[str, Tensor]:
    import timm

    theirs = _timm_name(name) or name
    page = _config(name).get("hf_hub_id")
    if not page and not _config(name).get("url"):
        raise ModelError(f"timm has no weights for {theirs}; name a file with --weights FILE, or 'none'")
    try:
        return dict(timm.create_model(theirs, pretrained=True).state_dict())
    except Exception as error:  # the hub's client has errors of its own
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        source = f"https://huggingface.co/{page}/resolve/main/model.safetensors" if page else _config(name)["url"]
        raise ModelError(
            f"the weights of {theirs} could not be downloaded ({cause}). Get {source} where there is a network and "
            "name it with --weights FILE, or start without with --weights none."
        ) from error

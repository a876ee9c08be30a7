"""Classifiers by name, with weights from a file or from torchvision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.net.caffe import caffenet, classifier_state

__all__ = ["CLASSIFIERS", "IMAGENET", "classifier", "digit_net", "input_size", "load_weights", "read_state"]

CLASSIFIERS = ("vgg16", "alexnet", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "caffenet", "digits")
"""The classifiers that have builders: torchvision's for 224 x 224 RGB images, `caffenet` and `digit_net`."""

IMAGENET = "imagenet"
"""The `weights` that ask for torchvision's own, from its cache or the network."""


def classifier(name: str, weights: str | Path | None = None) -> tuple[nn.Module, frozenset[str]]:
    """The classifier, and the state dict keys that `weights` did not have (all of them without weights).

    `weights` is a .safetensors or .pth file with torchvision's names, a .caffemodel, IMAGENET, or None for a random
    start.
    Raises ModelError for an unknown name and for weights that cannot be had or do not fit.
    """
    if name not in CLASSIFIERS:
        raise ModelError(f"no classifier is called {name!r}; there are {', '.join(CLASSIFIERS)}")
    own: dict[str, Callable[[], nn.Module]] = {"digits": digit_net, "caffenet": caffenet}
    model = own[name]() if name in own else torchvision.models.get_model(name)
    if weights is None:
        return model, frozenset(model.state_dict())
    if name == "digits" and str(weights) == IMAGENET:
        raise ModelError("the digit classifier has no ImageNet weights; name a file with --weights FILE, or 'none'")
    if name == "caffenet" and str(weights) == IMAGENET:
        raise ModelError("torchvision has no weights of caffenet; name a .caffemodel with --weights FILE, or 'none'")
    if Path(weights).suffix == ".caffemodel" and Path(weights).is_file():
        state = classifier_state(Path(weights), name, model)
    else:
        state = _download(name) if str(weights) == IMAGENET else read_state(Path(weights))
    return model, load_weights(model, state, source=str(weights))


def input_size(name: str) -> tuple[int, int]:
    """Height and width of the images that the classifier is made for."""
    return {"digits": (94, 94), "caffenet": (227, 227)}.get(name, (224, 224))


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


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> frozenset[str]:
    """Copy `state` into `model` and give the keys that it lacks, which must belong to the classifier's end.

    Raises ModelError where the features are incomplete or a shape differs, so that no half-loaded
    network trains unnoticed.
    """
    own = model.state_dict()
    wrong = [f"{k} is {tuple(state[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    wrong = [entry for entry in wrong if not _is_end(entry)]
    missing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    vital = [key for key in missing if not _is_end(key) and not key.endswith("num_batches_tracked")]
    if wrong or vital:
        faults = [*wrong, *(f"{key} is missing" for key in vital if key not in state)]
        raise ModelError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(faults[:3])}"
            f"{f' and {len(faults) - 3} more' if len(faults) > 3 else ''}. torchvision's names are expected."
        )
    model.load_state_dict({key: state[key] for key in own if key not in missing}, strict=False)
    return frozenset(missing)


def _is_end(key: str) -> bool:
    return key.startswith(("classifier.", "fc."))


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
    entry = torchvision.models.get_model_weights(name)["DEFAULT" if name == "mobilenet_v2" else "IMAGENET1K_V1"]
    try:
        return dict(entry.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} could not be downloaded ({error}). Put the file at {file}, "
            "name a file with --weights FILE, or start without with --weights none."
        ) from error

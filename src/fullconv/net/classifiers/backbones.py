"""Classifiers by name: torchvision's, timm's, fullconv's and those of a user's file, with their weights."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from fullconv.errors import MissingExtra, ModelError
from fullconv.installation import real_path
from fullconv.net.classifiers.caffe import caffenet, read_classifier_state
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.classifiers.user_file import build_from_file, parse_user_file
from fullconv.net.classifiers.weights import IMAGENET, PRETRAINED, load_weights, read_state

__all__ = [
    "CLASSIFIERS",
    "IMAGENET",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRETRAINED",
    "build_classifier",
    "bundled_weights",
    "describe_pretrained",
    "input_size",
    "is_classifier",
    "mean_std",
]

CLASSIFIERS = (
    *("vgg16", "alexnet", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_lite0", "caffenet"),
    "digits",
)
"""The classifiers that messages and help texts list as examples."""

_BUNDLED = files("fullconv").joinpath("models")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_SETTINGS: dict[str, dict[str, Any]] = {"efficientnet_lite0": {"bn_eps": 1e-3}}
"""Batch norm of Google's EfficientNet-Lite, whose weights are bundled; timm/efficientnet_lite0 has epsilon 1e-5."""

_TRANSFORMING = ("googlenet", "inception_v3")
"""torchvision's classifiers that rescale their input if they have torchvision's weights; here they always do."""


def build_classifier(name: str, weights: str | Path | None = None) -> tuple[nn.Module, frozenset[str]]:
    """Build a classifier and load its weights.

    `name` is a name in torchvision or timm ("timm/NAME" where both have it), "digits", "caffenet", or
    "path/to/file.py:function". The last imports the file and calls the function, which returns an nn.Module that maps
    N x 3 x H x W images to N x K logits. This runs the code of the file, also whenever a network made from it is
    loaded.
    `weights` is a .safetensors or .pth file with the classifier's own parameter names, a .caffemodel of VGG16 or
    CaffeNet, PRETRAINED, IMAGENET, or None: random weights (for a file: those that its function returns, but new
    hidden layers).

    Returns the classifier and the state dict keys that `weights` lacks (all of them for None). Raises ModelError for
    an unknown name, and for weights that cannot be obtained or do not fit.
    """
    model = _build(name)
    if weights is None:
        return model, frozenset(model.state_dict())
    if str(weights) == PRETRAINED:
        if name in _BUILT_IN:
            return model, frozenset(model.state_dict())
        if parse_user_file(name) is not None:
            return model, frozenset()
        weights = bundled_weights(name) or IMAGENET
    if Path(weights).suffix.lower() == ".caffemodel" and Path(weights).is_file():
        state = read_classifier_state(Path(weights), name, model)
    else:
        state = _download(name) if str(weights) == IMAGENET else read_state(Path(weights))
    return model, load_weights(model, state, source=str(weights))


def bundled_weights(name: str) -> Path | None:
    """Return the file of the classifier's bundled weights, or None; NAME.md next to it says where they come from."""
    resource = _BUNDLED.joinpath(f"{name}.safetensors")
    return real_path(resource) if "/" not in name and resource.is_file() else None


def describe_pretrained(name: str) -> str:
    """Return a sentence on the PRETRAINED weights of a classifier that fullconv or a user's file builds, else ""."""
    user_file = parse_user_file(name)
    if user_file is not None:
        path, function = user_file
        return f"{path.name}: the weights are those that {function}() returns; --weights FILE loads others"
    if name in _BUILT_IN:
        return f"{name}: there are no pretrained weights; the start is random without --weights FILE"
    return ""


def is_classifier(name: str) -> bool:
    """Return whether `build_classifier` knows the name; a file is not opened."""
    return (
        name in _torchvision() or name in _BUILT_IN or parse_user_file(name) is not None or _timm_name(name) is not None
    )


def input_size(name: str) -> tuple[int, int]:
    """Return the height and width of the images that the classifier takes.

    For a classifier from a file, this is its attribute `input_size` (a number, (height, width) or (channels, height,
    width)) or that of its `default_cfg`, and 224 x 224 where it has neither.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name][1]
    if name in _torchvision():
        size = int(_torchvision_weights(name).transforms.keywords["crop_size"])
        return size, size
    given = _config(name).get("input_size")
    given = 224 if given is None else given
    values = tuple(given) if isinstance(given, tuple | list) else (given, given)
    if len(values) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in values):
        raise ModelError(
            f"{name}: its input_size is {given!r}; it must be a number of pixels, (height, width) or (channels, "
            "height, width)",
            code="wrong-input-size",
        )
    return values[-2], values[-1]


def mean_std(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std of RGB, 0..1, that the classifier expects; by default ImageNet's."""
    if name in _BUILT_IN or not is_classifier(name):
        return IMAGENET_MEAN, IMAGENET_STD
    if name in _torchvision():
        transforms = _torchvision_weights(name).transforms()
        return tuple(transforms.mean), tuple(transforms.std)
    config = _config(name)
    return tuple(config.get("mean") or IMAGENET_MEAN), tuple(config.get("std") or IMAGENET_STD)


def _build(name: str) -> nn.Module:
    """Build the classifier on torch's current device.

    A constructor that reads values out of tensors fails on the meta device, so it runs on the CPU.
    """
    meta = torch.get_default_device().type == "meta"
    try:
        model = _construct(name)
    except RuntimeError:
        if not meta:
            raise
        with torch.device("cpu"):
            model = _construct(name)
    return model.to("meta") if meta else model


def _construct(name: str) -> nn.Module:
    if name in _BUILT_IN:
        return _BUILT_IN[name][0]()
    if name in _torchvision():
        extra = {"init_weights": False, "transform_input": True} if name in _TRANSFORMING else {}
        model: nn.Module = torchvision.models.get_model(name, **extra)
        return model
    user_file, timm_name = parse_user_file(name), _timm_name(name)
    if user_file is not None:
        return build_from_file(*user_file)
    if timm_name is not None:
        import timm

        timm_model: nn.Module = timm.create_model(timm_name, **_SETTINGS.get(name, {}))
        return timm_model
    raise _unknown(name)


@cache
def _torchvision() -> frozenset[str]:
    return frozenset(torchvision.models.list_models(module=torchvision.models))


def _torchvision_weights(name: str) -> Any:
    entries = torchvision.models.get_model_weights(name)
    return entries[
        "DEFAULT" if name == "mobilenet_v2" or "IMAGENET1K_V1" not in entries.__members__ else "IMAGENET1K_V1"
    ]


def _timm_name(name: str) -> str | None:
    """Return timm's name, None where timm lacks it; MissingExtra for "timm/NAME" where timm is not installed."""
    bare = name.removeprefix("timm/")
    if importlib.util.find_spec("timm") is None:
        if bare != name:
            raise MissingExtra("timm", "train")
        return None
    import timm

    return bare if timm.is_model(bare) else None


def _config(name: str) -> dict[str, Any]:
    """Return what a classifier of timm or of a file states: input size, mean and std."""
    user_file, timm_name = parse_user_file(name), _timm_name(name)
    if user_file is None and timm_name is not None:
        from timm.models import get_pretrained_cfg

        pretrained: Any = get_pretrained_cfg(timm_name)
        return dict(pretrained.to_dict()) if pretrained is not None else {}
    if user_file is None:
        raise _unknown(name)
    model = build_from_file(*user_file)
    default = getattr(model, "default_cfg", None)
    config: dict[str, Any] = dict(default) if isinstance(default, dict) else {}
    if getattr(model, "input_size", None) is not None:
        config["input_size"] = model.input_size
    return config


def _unknown(name: str) -> ModelError:
    near = difflib.get_close_matches(name, [*sorted(_torchvision()), *_BUILT_IN], 3, 0.7)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return ModelError(
        f"{name!r} is not a classifier{hint}; name one of torchvision or timm ({', '.join(CLASSIFIERS)}, ...), or your "
        "own as FILE.py:FUNCTION",
        code="unknown-classifier",
    )


_BUILT_IN: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "digits": (digit_net, (94, 94)),
    "caffenet": (caffenet, (227, 227)),
}
"""The classifiers that fullconv itself builds, and the size of their images."""


def _download(name: str) -> dict[str, Tensor]:
    """Return the library's ImageNet weights, from its cache or the network."""
    if name in _BUILT_IN or parse_user_file(name) is not None:
        raise ModelError(
            f"{name} has no ImageNet weights; name a file with --weights FILE, or use '{PRETRAINED}' or 'none'",
            code="no-imagenet-weights",
        )
    if name not in _torchvision():
        return _download_timm(name)
    entry = _torchvision_weights(name)
    try:
        return dict(entry.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} could not be downloaded ({error}); put the file {entry.url} at {file}, "
            "name a file with --weights FILE, or start from random weights with --weights none",
            code="download-failed",
        ) from error


def _download_timm(name: str) -> dict[str, Tensor]:
    import timm

    timm_name = _timm_name(name) or name
    page = _config(name).get("hf_hub_id")
    if not page and not _config(name).get("url"):
        message = f"timm has no weights for {timm_name}; name a file with --weights FILE, or use 'none'"
        raise ModelError(message, code="no-imagenet-weights")
    try:
        return dict(timm.create_model(timm_name, pretrained=True).state_dict())
    except Exception as error:  # the hub's client raises errors of many types
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        source = f"https://huggingface.co/{page}/resolve/main/model.safetensors" if page else _config(name)["url"]
        raise ModelError(
            f"the weights of {timm_name} could not be downloaded ({cause}); download {source} on another machine and "
            "name the file with --weights FILE, or start from random weights with --weights none",
            code="download-failed",
        ) from error

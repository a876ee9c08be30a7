"""Import the published nets: weights of shelhamer/fcn.berkeleyvision.org as an `FCN`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fullconv.errors import ModelError, UsageError
from fullconv.net.classifiers.caffe import CONVS, caffe_mean_std, fit_shape
from fullconv.net.classifiers.caffemodel import read_caffemodel
from fullconv.net.classifiers.weights import read_state
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.fcn.upsample import Upsample

__all__ = ["NETS", "PublishedNet", "read_layers", "read_published"]


@dataclass(frozen=True)
class PublishedNet:
    """A published net: its classifier, its stride, and the factor of each map before its score layer."""

    model: str
    stride: int
    scales: Mapping[str, float] = field(default_factory=dict)


NETS = {
    "fcn32s": PublishedNet("vgg16", 32),
    "fcn16s": PublishedNet("vgg16", 16),
    "fcn8s": PublishedNet("vgg16", 8),
    "fcn8s-atonce": PublishedNet("vgg16", 8, {"pool4": 0.01, "pool3": 0.0001}),
    "alexnet": PublishedNet("caffenet", 32),
}
"""The net.py of voc-fcn32s, voc-fcn16s, voc-fcn8s, voc-fcn8s-atonce and voc-fcn-alexnet."""

_PARAMETER = re.compile(r"(?P<layer>.+)[./_](?:(?P<weight>weight|W)|(?P<bias>bias|b))")


def read_published(path: Path, name: str | None = None) -> tuple[str, NetSpec, dict[str, Tensor]]:
    """Read a published net: return its name (see `NETS`), its description, and its weights as a state dict of `FCN`.

    The net is recognized by its layers unless `name` is given. The result takes RGB images, as every `FCN`, with the
    published mean in its buffers, and returns the published logits. The scale of a map goes into its score layer:
    W (s x) = (W s) x. Upsampling kernels that are bilinear within 1e-4 are replaced by the fixed ones; others stay
    learned. Raises ModelError with every layer that is missing, unknown or of another shape, and UsageError for an
    unknown `name`.
    """
    if name is not None and name not in NETS:
        raise UsageError(f"--net {name} is not a published net; choose from {', '.join(NETS)}", code="unknown-net")
    layers = read_layers(path)
    if "score_fr.weight" not in layers:
        first = ", ".join(list(layers)[:5])
        message = f"{path} is not a published FCN: it has no layer score_fr; its first layers are {first}"
        raise ModelError(message, code="not-a-published-net")
    name = name or _recognize(layers)
    net = NETS[name]
    score = layers["score_fr.weight"]
    classes = len(score) if score.ndim else 0
    if not 1 <= classes <= 255:
        message = f"{path} is not a published FCN: score_fr.weight has the shape {tuple(score.shape)}"
        raise ModelError(message, code="not-a-published-net")
    spec = NetSpec(net.model, classes, net.stride, norm=False, upsample="learned", padding="reference")
    with torch.device("meta"):
        target = rebuild(spec)
    for key, value in layers.items():
        if not bool(torch.isfinite(value).all()):
            message = f"{path}: its weights {key} are not all finite numbers, so it can label nothing; train it again"
            raise ModelError(message, code="weights-not-finite")
    state = _convert(target, net, layers, f"{path}, read as {name},")
    kernels = _bilinear_kernels(target)
    if all(torch.allclose(state.get(key, kernel), kernel, atol=1e-4) for key, kernel in kernels.items()):
        spec = replace(spec, upsample="fixed")
        state = {key: value for key, value in state.items() if key not in kernels}
    state["mean"], state["std"] = caffe_mean_std()
    return name, spec, state


def read_layers(path: Path) -> dict[str, Tensor]:
    """Read a .caffemodel, .npz, .pth or .safetensors file as names such as conv1_1.weight and conv1_1.bias to float32.

    In the file, / or _ may also follow the layer's name, and W and b may stand for weight and bias.
    """
    if not path.is_file():
        message = f"{path}: there is no such weights file; name a .caffemodel, .npz, .pth or .safetensors file"
        raise ModelError(message, code="no-weights-file")
    if path.suffix.lower() == ".caffemodel":
        return _from_blobs(read_caffemodel(path))
    named = _read_npz(path) if path.suffix.lower() == ".npz" else read_state(path)
    layers = {}
    for key, value in named.items():
        match = _PARAMETER.fullmatch(key)
        layers[f"{match['layer']}.{'weight' if match['weight'] else 'bias'}" if match else key] = value.float()
    return layers


def _from_blobs(blobs: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return blobs under the names of parameters: the first is the weight, the second the bias."""
    kinds = {0: "weight", 1: "bias"}
    return {f"{layer}.{kinds.get(n, n)}": blob for layer, values in blobs.items() for n, blob in enumerate(values)}


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name], np.float32)) for name in file.files}
    except Exception as error:  # numpy and zipfile raise errors of many types for damaged archives
        raise ModelError(f"{path} cannot be read as an .npz of plain arrays: {error}", code="unreadable-npz") from error


def _recognize(layers: Mapping[str, Tensor]) -> str:
    """Return the name of the net with these layers; scales distinguish the at-once net from the other FCN-8s."""
    if "conv1.weight" in layers:
        return "alexnet"
    if "scale_pool3.weight" in layers or "scale_pool4.weight" in layers:
        return "fcn8s-atonce"
    return "fcn8s" if "score_pool3.weight" in layers else "fcn16s" if "score_pool4.weight" in layers else "fcn32s"


def _layer_names(net: FCN) -> dict[str, str]:
    """Return the published layer of each module."""
    convs = [name for name, module in net.backbone.named_modules() if isinstance(module, nn.Conv2d)]
    names = {f"backbone.{name}": layer for name, layer in zip(convs, CONVS[net.spec.model], strict=True)}
    names |= {f"head.{name}": name for name, module in net.head.named_children() if isinstance(module, nn.Conv2d)}
    names |= {name: name for name in ("score_fr", *(f"score_{skip}" for skip in net.skips), *net.upscores)}
    return names | ({"upscore32": "upscore"} if net.spec.stride == 32 else {})


def _convert(target: FCN, net: PublishedNet, layers: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the parameters of `target` from the file, in their shapes; all upsampling kernels may be missing."""
    names, unknown = _layer_names(target), dict(layers)
    scales = {pool: unknown.pop(f"scale_{pool}.weight", torch.tensor(scale)) for pool, scale in net.scales.items()}
    no_kernels = not any(f"{names[upscore]}.weight" in layers for upscore in target.upscores)
    state: dict[str, Tensor] = {}
    faults: list[str] = []
    for key, parameter in target.named_parameters():
        module, _, kind = key.rpartition(".")
        if no_kernels and module in target.upscores:
            continue
        value = unknown.pop(f"{names[module]}.{kind}", None)
        fitting = None if value is None else fit_shape(value, parameter.shape)
        if fitting is not None:
            state[key] = fitting
        else:
            shape = "missing" if value is None else f"{tuple(value.shape)}, not {tuple(parameter.shape)}"
            faults.append(f"{names[module]}.{kind} is {shape}")
    for pool, scale in scales.items():
        if scale.numel() not in (1, target.get_submodule(f"score_{pool}").in_channels):
            faults.append(f"scale_{pool}.weight is {tuple(scale.shape)}, not one number or one for each channel")
    faults += [f"{name} is unknown" for name in unknown]
    if faults:
        message = f"{source} does not have the published layers: {'; '.join(faults)}"
        raise ModelError(message, code="published-layers-differ")
    first = next(iter(names)) + ".weight"
    state[first] = state[first].flip(1)  # Caffe's images are BGR
    for pool, scale in scales.items():
        state[f"score_{pool}.weight"] = state[f"score_{pool}.weight"] * scale.view(1, -1, 1, 1)
    return state


def _bilinear_kernels(net: FCN) -> dict[str, Tensor]:
    """Return the kernels that the upsampling layers of `net` start from, by their names in its state dict."""
    steps = zip(net.upscores, *(g.upsamplings for g in net.geometry), strict=True)
    classes = net.spec.num_classes
    return {f"{name}.weight": Upsample(classes, v, h, "learned").weight.detach() for name, v, h in steps}

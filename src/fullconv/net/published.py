"""The published nets by their layer names: weights of shelhamer/fcn.berkeleyvision.org as a network of ours."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fullconv.errors import ModelError, UsageError
from fullconv.net.backbones import read_state
from fullconv.net.caffe import CONVS, caffe_mean_std, fitted
from fullconv.net.caffemodel import read_caffemodel
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.spec import NetSpec
from fullconv.net.upsample import Upsample

__all__ = ["NETS", "Published", "read_layers", "read_published"]


@dataclass(frozen=True)
class Published:
    """A published net: its classifier, its stride, and by how much a map is scaled before its score layer."""

    model: str
    stride: int
    scales: Mapping[str, float] = field(default_factory=dict)


NETS = {
    "fcn32s": Published("vgg16", 32),
    "fcn16s": Published("vgg16", 16),
    "fcn8s": Published("vgg16", 8),
    "fcn8s-atonce": Published("vgg16", 8, {"pool4": 0.01, "pool3": 0.0001}),
    "alexnet": Published("caffenet", 32),
}
"""The net.py of voc-fcn32s, voc-fcn16s, voc-fcn8s, voc-fcn8s-atonce and voc-fcn-alexnet."""

_PARAMETER = re.compile(r"(?P<layer>.+)[./_](?:(?P<weight>weight|W)|(?P<bias>bias|b))")


def read_published(path: Path, name: str | None = None) -> tuple[str, NetSpec, dict[str, Tensor]]:
    """The name of the net in a file (see `NETS`), its description, and its weights as a state dict of `FCN`.

    The net is recognised from its layers unless `name` is given. The result takes what our networks take, RGB
    images, with the published mean in its buffers, and gives the published logits. A scaled map's scale goes
    into its score layer, W (s x) = (W s) x. Upsampling kernels that are bilinear within 1e-4 are left out for
    the fixed ones; others are kept as learned ones. Raises ModelError with every layer that is missing, left over
    or of another shape; UsageError for a `name` that is no net.
    """
    if name is not None and name not in NETS:
        raise UsageError(f"--net {name}: there is {', '.join(NETS)}")
    layers = read_layers(path)
    if "score_fr.weight" not in layers:
        some = ", ".join(list(layers)[:5])
        raise ModelError(f"{path} holds no published FCN: it has no layer score_fr; it begins with {some}")
    name = name or _recognised(layers)
    net = NETS[name]
    classes = len(layers["score_fr.weight"])
    spec = NetSpec(net.model, classes, net.stride, norm=False, upsample="learned", padding="reference")
    with torch.device("meta"):
        ours = rebuild(spec)
    state = _state(ours, net, layers, f"{path}, read as {name},")
    kernels = _bilinear(ours)
    if all(torch.allclose(state.get(key, kernel), kernel, atol=1e-4) for key, kernel in kernels.items()):
        spec = replace(spec, upsample="fixed")
        state = {key: value for key, value in state.items() if key not in kernels}
    state["mean"], state["std"] = caffe_mean_std()
    return name, spec, state


def read_layers(path: Path) -> dict[str, Tensor]:
    """Names such as conv1_1.weight and conv1_1.bias to float32, from .caffemodel, .npz, .pth or .safetensors.

    In the file, the layer's name may be joined by / or _ too, and W and b stand for weight and bias.
    """
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}; name a .caffemodel, .npz, .pth or .safetensors file")
    if path.suffix == ".caffemodel":
        return _from_blobs(read_caffemodel(path))
    named = _read_npz(path) if path.suffix == ".npz" else read_state(path)
    layers = {}
    for key, value in named.items():
        match = _PARAMETER.fullmatch(key)
        layers[f"{match['layer']}.{'weight' if match['weight'] else 'bias'}" if match else key] = value.float()
    return layers


def _from_blobs(blobs: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Blobs under their names as parameters: the first is the weight, the second the bias."""
    kinds = {0: "weight", 1: "bias"}
    return {f"{layer}.{kinds.get(n, n)}": blob for layer, own in blobs.items() for n, blob in enumerate(own)}


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name], np.float32)) for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read as an .npz of plain arrays: {error}") from error


def _recognised(layers: Mapping[str, Tensor]) -> str:
    """The net whose layers these are; the scales of the at-once net tell it from the other FCN-8s."""
    if "conv1.weight" in layers:
        return "alexnet"
    if "scale_pool3.weight" in layers or "scale_pool4.weight" in layers:
        return "fcn8s-atonce"
    return "fcn8s" if "score_pool3.weight" in layers else "fcn16s" if "score_pool4.weight" in layers else "fcn32s"


def _names(net: FCN) -> dict[str, str]:
    """Our modules to the published layers."""
    convs = [name for name, module in net.backbone.named_modules() if isinstance(module, nn.Conv2d)]
    names = {f"backbone.{ours}": theirs for ours, theirs in zip(convs, CONVS[net.spec.model], strict=True)}
    names |= {f"head.{name}": name for name, module in net.head.named_children() if isinstance(module, nn.Conv2d)}
    names |= {name: name for name in ("score_fr", *(f"score_{skip}" for skip in net.skips), *net.upscores)}
    return names | ({"upscore32": "upscore"} if net.spec.stride == 32 else {})


def _state(ours: FCN, net: Published, layers: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The parameters of `ours` that the file has, fitted; upsampling may be missing as a whole."""
    names, left = _names(ours), dict(layers)
    scales = {pool: left.pop(f"scale_{pool}.weight", torch.tensor(scale)) for pool, scale in net.scales.items()}
    bare = not any(f"{names[up]}.weight" in layers for up in ours.upscores)
    state: dict[str, Tensor] = {}
    faults: list[str] = []
    for key, parameter in ours.named_parameters():
        module, _, kind = key.rpartition(".")
        if bare and module in ours.upscores:
            continue
        value = left.pop(f"{names[module]}.{kind}", None)
        fit = None if value is None else fitted(value, parameter.shape)
        if fit is not None:
            state[key] = fit
        else:
            shape = "missing" if value is None else f"{tuple(value.shape)}, not {tuple(parameter.shape)}"
            faults.append(f"{names[module]}.{kind} is {shape}")
    for pool, scale in scales.items():
        if scale.numel() not in (1, ours.get_submodule(f"score_{pool}").in_channels):
            faults.append(f"scale_{pool}.weight is {tuple(scale.shape)}, not one number or one for each channel")
    faults += [f"{name} is left over" for name in left]
    if faults:
        raise ModelError(f"{source} does not have the published layers: {'; '.join(faults)}")
    first = next(iter(names)) + ".weight"
    state[first] = state[first].flip(1)  # Caffe's images are BGR
    for pool, scale in scales.items():
        state[f"score_{pool}.weight"] = state[f"score_{pool}.weight"] * scale.view(1, -1, 1, 1)
    return state


def _bilinear(net: FCN) -> dict[str, Tensor]:
    """The kernels that the upsamplings of `net` start from, by their names in its state dict."""
    steps = zip(net.upscores, *(g.upsamplings for g in net.geometry), strict=True)
    classes = net.spec.num_classes
    return {f"{name}.weight": Upsample(classes, v, h, "learned").weight.detach() for name, v, h in steps}

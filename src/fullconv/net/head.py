"""The head of a skip network: the classifier's hidden linear layers as convolutions, fc6, fc7, ..."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fullconv.errors import UsageError
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import Surgery
from fullconv.net.trace import Node, Taps, layers_of

__all__ = ["head_of", "head_width", "through"]


def head_of(dense: Surgery, nodes: dict[str, Node], spec: NetSpec) -> nn.Sequential:
    """fc6, fc7, ... with the modules between them: what lies behind the features, without pooling and last linear."""
    names = list(nodes)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number, width = 5, nodes[dense.features].shape[0]
    if spec.head_width is not None and len(dense.linears) < 2:
        raise UsageError(f"{spec.model} has no hidden linear layer: --head-width does not apply")
    for name in names[names.index(dense.features) + 1 :]:
        module, target = nodes[name].module, nodes[name].target
        if target == dense.linears[-1]:
            break
        if target in dense.linears and isinstance(module, nn.Conv2d):
            number += 1
            layers[f"fc{number}"] = conv = _hidden(module, width, spec)
            width = conv.out_channels
            if spec.head_norm:
                layers[f"norm{number}"] = nn.BatchNorm2d(width)
        elif module is not None and not isinstance(module, nn.AvgPool2d):
            kind = "drop" if isinstance(module, nn.Dropout) else "relu" if isinstance(module, nn.ReLU) else name
            layers[f"{kind}{number}"] = module
    return nn.Sequential(layers)


def _hidden(linear: nn.Conv2d, channels: int, spec: NetSpec) -> nn.Conv2d:
    """A hidden layer with padding that keeps the map's size, or none; its own weights unless the width changes."""
    width = spec.head_width or linear.out_channels
    kernel, holes = (linear.kernel_size[0], linear.kernel_size[1]), (linear.dilation[0], linear.dilation[1])
    same = (holes[0] * (kernel[0] // 2), holes[1] * (kernel[1] // 2))
    padding = (0, 0) if spec.padding == "reference" else same
    conv = nn.Conv2d(channels, width, kernel, padding=padding, dilation=holes)
    if spec.head_norm or spec.head_width is not None:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    else:
        conv.load_state_dict(linear.state_dict())
    return conv


def through(head: nn.Sequential, taps: Taps) -> Taps:
    for module in head:
        layers = layers_of(module)
        if layers:
            taps = (taps[0].after(layers[0]), taps[1].after(layers[1]))
    return taps


def head_width(head: nn.Sequential, features: Node) -> int:
    convs = [module for module in head if isinstance(module, nn.Conv2d)]
    return convs[-1].out_channels if convs else features.shape[0]

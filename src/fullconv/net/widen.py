"""Classifiers of RGB made to take images of other channels, with the weights that they have."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.net.surgery import Surgery

__all__ = ["CHANNEL_MEAN_STD", "wide_kernel", "widened"]

CHANNEL_MEAN_STD = (0.449, 0.226)
"""ImageNet's over its three channels, for networks that were shown no image yet."""

_SHAPES = ("size", "shape", "dim", "getattr")


def widened(dense: Surgery, channels: int) -> Surgery:
    """Let the convolutions that read the image take `channels` of them; `dense` is changed and given back.

    See `wide_kernel` for the weights. Raises ModelError where something else than a convolution reads the image.
    """
    image = next(node for node in dense.module.graph.nodes if node.op == "placeholder")
    for name in dict.fromkeys(_kernels(dense.module, image)):
        owner, _, own = name.rpartition(".")
        module, kernel = dense.module.get_submodule(owner), dense.module.get_parameter(name)
        if kernel.shape[1] != 3:
            raise ModelError(f"{owner} convolves red, green and blue apart: it can take RGB only")
        setattr(module, own, nn.Parameter(wide_kernel(kernel.detach(), channels)))
        if isinstance(module, nn.Conv2d):
            module.in_channels = channels
        dense.coerced.append(f"{owner}: kernel of 3 channels became one of {channels}")
    return dense


def wide_kernel(kernel: Tensor, channels: int) -> Tensor:
    """A kernel, outputs x 3 x h x w, for images of `channels`: outputs x `channels` x h x w.

    Of four channels on, the first three keep their weights and the others get the mean of the three; of one or two, all
    get the mean. All are scaled by 3 / channels: an image whose channels are equal gives what grey gave in RGB.
    """
    mean = kernel.mean(1, keepdim=True)
    kept = kernel if channels > 3 else kernel[:, :0]
    return torch.cat([kept, mean.expand(-1, channels - kept.shape[1], -1, -1)], 1) * (3 / channels)


def _kernels(graph: fx.GraphModule, image: fx.Node) -> list[str]:
    """The parameters that convolve the image itself or in a frame of padding."""
    found: list[str] = []
    for node in image.users:
        what = str(getattr(node.target, "__name__", node.target))
        layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        weight = node.args[1] if what == "conv2d" and len(node.args) > 1 else None
        if isinstance(layer, nn.Conv2d):
            found.append(f"{node.target}.weight")
        elif isinstance(weight, fx.Node) and weight.op == "get_attr":
            found.append(str(weight.target))
        elif isinstance(layer, nn.ZeroPad2d | nn.Identity) or what == "pad":
            found += _kernels(graph, node)
        elif what not in _SHAPES:
            raise ModelError(f"{what} reads the image before any convolution: it can take RGB only")
    return found

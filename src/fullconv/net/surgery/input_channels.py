"""Adapt a classifier of RGB images to images of other channels, with its weights."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.net.surgery.convolutionalize import Surgery

__all__ = ["CHANNEL_MEAN_STD", "adapt_input_channels", "adapt_kernel"]

CHANNEL_MEAN_STD = (0.449, 0.226)
"""ImageNet's mean and std over all three channels, for networks that no image was measured for."""

_SHAPE_READERS = ("size", "shape", "dim", "getattr")


def adapt_input_channels(dense: Surgery, channels: int) -> Surgery:
    """Change the convolutions that read the image to take `channels` channels, in place, and return `dense`.

    `adapt_kernel` makes their weights. Raises ModelError where an operation other than a convolution reads the image.
    """
    image = next(node for node in dense.module.graph.nodes if node.op == "placeholder")
    for name in dict.fromkeys(_find_kernels(dense.module, image)):
        owner, _, attribute = name.rpartition(".")
        module, kernel = dense.module.get_submodule(owner), dense.module.get_parameter(name)
        if kernel.shape[1] != 3:
            message = f"{owner} convolves red, green and blue separately, so the network takes RGB images only"
            raise ModelError(message, code="rgb-only")
        setattr(module, attribute, nn.Parameter(adapt_kernel(kernel.detach(), channels)))
        if isinstance(module, nn.Conv2d):
            module.in_channels = channels
        dense.coerced.append(f"{owner}: kernel of 3 channels became one of {channels}")
    return dense


def adapt_kernel(kernel: Tensor, channels: int) -> Tensor:
    """Return an RGB kernel, outputs x 3 x h x w, adapted to `channels`: outputs x `channels` x h x w.

    For more than three channels, the first three keep their weights and the others get the mean of the three; for one
    or two, all get the mean. All are scaled by 3 / channels, so an image with equal channels gives the same as a gray
    image in RGB.
    """
    mean = kernel.mean(1, keepdim=True)
    rgb = kernel if channels > 3 else kernel[:, :0]
    return torch.cat([rgb, mean.expand(-1, channels - rgb.shape[1], -1, -1)], 1) * (3 / channels)


def _find_kernels(graph: fx.GraphModule, image: fx.Node) -> list[str]:
    """Return the names of the parameters that convolve the image, padded or not."""
    kernels: list[str] = []
    for node in image.users:
        operation = str(getattr(node.target, "__name__", node.target))
        layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        weight = node.args[1] if operation == "conv2d" and len(node.args) > 1 else None
        if isinstance(layer, nn.Conv2d):
            kernels.append(f"{node.target}.weight")
        elif isinstance(weight, fx.Node) and weight.op == "get_attr":
            kernels.append(str(weight.target))
        elif isinstance(layer, nn.ZeroPad2d | nn.Identity) or operation == "pad":
            kernels += _find_kernels(graph, node)
        elif operation not in _SHAPE_READERS:
            message = f"{operation} reads the image before any convolution, so the network takes RGB images only"
            raise ModelError(message, code="rgb-only")
    return kernels

"""The padding of the published nets, in place of the least that covers the image."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from fullconv.errors import UsageError
from fullconv.net.surgery import Surgery
from fullconv.net.trace import trace

__all__ = ["REFERENCE_PADDING", "reference_padding"]

REFERENCE_PADDING = 100
"""Pixels on every side; the published code has them in its first convolution, conv1_1 or conv1."""


def reference_padding(dense: Surgery, model: str) -> Surgery:
    """`dense`, changed in place, with the geometry of the published nets.

    The first convolution pads 100 pixels in place of its own padding, and max pooling rounds up as Caffe's does;
    the head goes without padding (`head.head_of`), so that fc6 is valid. `SkipGeometry` then finds the published
    crops: 5, 9 and 31 in FCN-8s, 27 in FCN-16s, 19 in FCN-32s, 18 in FCN-AlexNet, and pads no more. Raises
    UsageError for a classifier without a hidden linear layer: it has no fc6 that the padding could be for.
    """
    modules = [node.module for node in dense.nodes.values() if node.module is not None]
    first = next((module for module in modules if isinstance(module, nn.Conv2d)), None)
    if first is None or len(dense.linears) < 2:
        raise UsageError(
            f"--padding reference is for classifiers with hidden linear layers (fc6), such as vgg16 and caffenet; "
            f"{model} has none"
        )
    first.padding = (REFERENCE_PADDING, REFERENCE_PADDING)
    for module in modules:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
    return replace(dense, nodes=trace(dense.module, dense.size))

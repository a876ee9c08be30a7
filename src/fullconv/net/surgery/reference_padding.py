"""The padding of the published nets, instead of the minimal padding that covers the image."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from fullconv.errors import UsageError
from fullconv.net.surgery.convolutionalize import Surgery
from fullconv.net.trace.nodes import trace

__all__ = ["REFERENCE_PADDING", "apply_reference_padding"]

REFERENCE_PADDING = 100
"""Pixels on each side. The published code pads them in its first convolution, conv1_1 or conv1."""


def apply_reference_padding(dense: Surgery, model: str) -> Surgery:
    """Return `dense` with the geometry of the published nets; its modules are changed in place.

    The first convolution pads 100 pixels instead of its own padding, and max pooling rounds its size up, as Caffe's
    does. The head has no padding (`head.build_head`), so fc6 is a valid convolution. `SkipGeometry` then finds the
    published crops (5, 9 and 31 in FCN-8s, 27 in FCN-16s, 19 in FCN-32s, 18 in FCN-AlexNet) and adds no padding.
    Raises UsageError for a classifier without a hidden linear layer: it has no fc6, which the padding is for.
    """
    modules = [node.module for node in dense.nodes.values() if node.module is not None]
    first = next((module for module in modules if isinstance(module, nn.Conv2d)), None)
    if first is None or len(dense.linears) < 2:
        raise UsageError(
            f"{model} has no hidden linear layer (fc6), which --padding reference needs; "
            "use --padding minimal or a classifier such as vgg16 or caffenet",
            code="no-hidden-layer",
        )
    first.padding = (REFERENCE_PADDING, REFERENCE_PADDING)
    for module in modules:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
    return replace(dense, nodes=trace(dense.module, dense.size))

"""End a classifier before its last 1 x 1 convolution, which only widens the map for the linear layer."""

from __future__ import annotations

from dataclasses import replace

from torch import fx, nn

from fullconv.choices import LateLayers
from fullconv.errors import UsageError
from fullconv.net.surgery.convolutionalize import Surgery
from fullconv.net.surgery.head_rewriter import POSITION_PRESERVING
from fullconv.net.trace.nodes import Node

__all__ = ["drop_late_layers", "find_narrow"]


def drop_late_layers(dense: Surgery, model: str, late: LateLayers) -> Surgery:
    """Return the dense classifier with `features` before its last 1 x 1 convolution, which must widen the map.

    MobileNetV2's features.18 and EfficientNet's conv_head (both 320 -> 1280) are found by their place and shape. The
    classifier's hidden linear layers after it are not used either. With `short`, the last block is dropped, too, whose
    output only this convolution reads: it begins with a 1 x 1 convolution that widens the map, and has no residual.

    Raises UsageError where there is no such convolution or block.
    """
    narrow = find_narrow(dense.module, dense.nodes, dense.features)
    if narrow == dense.features:
        message = f"{model} does not end in a 1 x 1 convolution that widens its map; leave out --late"
        raise UsageError(message, code="no-late-layer")
    if late == "short":
        block, narrow = narrow, find_narrow(dense.module, dense.nodes, narrow, through_convolutions=True)
        if narrow == block or dense.nodes[narrow].geometry is None:
            message = f"{model} does not end in a block without residual; use --late narrow"
            raise UsageError(message, code="no-late-layer")
    return replace(dense, features=narrow)


def find_narrow(graph: fx.GraphModule, nodes: dict[str, Node], name: str, through_convolutions: bool = False) -> str:
    """Return the map before the 1 x 1 convolution that widens it to the map `name`; `name` itself without one.

    `through_convolutions` allows other convolutions with stride 1 in between.
    """
    (node,) = (node for node in graph.graph.nodes if node.name == name)
    while len(node.all_input_nodes) == 1:
        module = nodes[node.name].module
        if isinstance(module, nn.Conv2d):
            square = module.kernel_size == (1, 1) and module.stride == (1, 1) and module.groups == 1
            if square and module.out_channels > module.in_channels:
                return str(node.all_input_nodes[0].name)
            if not through_convolutions or module.stride != (1, 1):
                return name
        elif nodes[node.name].kind not in POSITION_PRESERVING:
            return name
        node = node.all_input_nodes[0]
    return name

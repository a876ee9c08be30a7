"""Where a skip network taps its backbone: the last map at each stride, found by geometry."""

from __future__ import annotations

from torch import fx

from fullconv.errors import ModelError
from fullconv.net.spec import NetSpec
from fullconv.net.trace import Node, Taps

__all__ = ["PAPER_TAPS", "SKIP_NAMES", "skip_nodes", "taps_of"]

SKIP_NAMES = {16: "pool4", 8: "pool3", 4: "pool2"}
"""Skips by their stride, under the names that they have in the paper's VGG16."""

PAPER_TAPS = {"vgg16": {16: "features_23", 8: "features_16", 4: "features_9"}}
"""The paper taps VGG16 behind its pooling layers, one stage before the last map at each stride."""


def taps_of(node: Node) -> Taps:
    if node.taps is None:
        raise ModelError(f"the geometry of {node.name} cannot be followed")
    return node.taps


def skip_nodes(graph: fx.GraphModule, nodes: dict[str, Node], features: str, spec: NetSpec) -> dict[int, str]:
    """Stride to node name, coarse to fine: the last map at each stride that every path to the features passes."""
    top = taps_of(nodes[features])[0].field.stride
    wanted = [stride for stride in SKIP_NAMES if spec.stride <= stride < top]
    if top < spec.stride:
        raise ModelError(f"{spec.model} ends at stride {top}, it has no FCN-{spec.stride}s")
    if spec.model in PAPER_TAPS:
        return {stride: PAPER_TAPS[spec.model][stride] for stride in wanted}
    found: dict[int, str] = {}
    for name in _bottlenecks(graph, features):
        taps = nodes[name].taps
        if taps and taps[0].field.stride == taps[1].field.stride:
            found[int(taps[0].field.stride)] = name
    lacking = [stride for stride in wanted if stride not in found]
    if lacking:
        raise ModelError(f"{spec.model} has no single feature map at stride {lacking[0]} to skip from")
    return {stride: found[stride] for stride in wanted}


def _bottlenecks(graph: fx.GraphModule, features: str) -> list[str]:
    """Nodes up to `features` after which no earlier value is needed any more."""
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in order}
    names, live = [], -1
    for node, index in order.items():
        if live <= index and node.op != "placeholder":
            names.append(node.name)
        live = max(live, last_use[node])
        if node.name == features:
            break
    return names

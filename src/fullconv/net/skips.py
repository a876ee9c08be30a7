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


_NO_TAP = frozenset({"pad", "chunk", "split", "split_with_sizes", "tensor_split", "unbind", "max", "min"})
"""Padding, whose border may be minus infinity, and operations that may give more than one map."""


def taps_of(node: Node) -> Taps:
    if node.taps is None:
        raise ModelError(f"the geometry of {node.name} cannot be followed")
    return node.taps


def skip_nodes(graph: fx.GraphModule, nodes: dict[str, Node], features: str, spec: NetSpec) -> dict[int, str]:
    """Stride to node name, coarse to fine: the last map at each stride that every path to the features passes.

    Where branches leave no such map at a stride, it is the one with the largest receptive field there, and of those
    the last. Raises ModelError where there is no map at a stride that `spec` needs.
    """
    top = taps_of(nodes[features])[0].field.stride
    if top < spec.stride:
        raise ModelError(f"{spec.model} ends at stride {top}, it has no FCN-{spec.stride}s")
    wanted = [stride for stride in SKIP_NAMES if spec.stride <= stride < top]
    if spec.model in PAPER_TAPS:
        return {stride: PAPER_TAPS[spec.model][stride] for stride in wanted}
    above = _above(graph, features)
    single = _by_stride(nodes, [name for name in _bottlenecks(graph, nodes, features) if name in above])
    found = {**_by_stride(nodes, [name for name in nodes if name in above], widest=True), **single}
    lacking = [stride for stride in (*wanted, spec.stride) if stride not in found and stride != top]
    if lacking:
        there = ", ".join(str(stride) for stride in sorted({*found, int(top)}) if stride > 1)
        raise ModelError(
            f"{spec.model} has no feature map at stride {lacking[0]}, so no FCN-{spec.stride}s: its strides are {there}"
        )
    return {stride: found[stride] for stride in wanted}


def _by_stride(nodes: dict[str, Node], names: list[str], widest: bool = False) -> dict[int, str]:
    """The last of these maps at each whole stride, or the last of those that see the most."""
    found: dict[int, tuple[int, str]] = {}
    for name in names:
        taps = nodes[name].taps
        if taps is None or nodes[name].kind in _NO_TAP or taps[0].field.stride != taps[1].field.stride:
            continue
        stride, seen = taps[0].field.stride, taps[0].field.receptive_field
        if stride.denominator == 1 and not (widest and seen < found.get(int(stride), (0, ""))[0]):
            found[int(stride)] = (seen, name)
    return {stride: name for stride, (_, name) in found.items()}


def _above(graph: fx.GraphModule, features: str) -> set[str]:
    """The nodes that the features need, themselves included."""
    todo = [node for node in graph.graph.nodes if node.name == features]
    found: set[str] = set()
    while todo:
        node = todo.pop()
        if node.name not in found:
            found.add(node.name)
            todo += node.all_input_nodes
    return found


def _bottlenecks(graph: fx.GraphModule, nodes: dict[str, Node], features: str) -> list[str]:
    """Nodes up to `features` after which no earlier map is needed any more."""
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    names, live = [], -1
    for node, index in order.items():
        if node.name not in nodes or nodes[node.name].seen.kind == "plain":
            continue
        if live <= index and node.op != "placeholder":
            names.append(node.name)
        live = max([live, *(order[user] for user in node.users if nodes.get(user.name) and _counts(nodes[user.name]))])
        if node.name == features:
            break
    return names


def _counts(node: Node) -> bool:
    return node.seen.kind != "plain"

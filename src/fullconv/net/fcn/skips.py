"""Find the feature maps at which a skip network reads its backbone: the last one at each stride."""

from __future__ import annotations

from torch import fx

from fullconv.errors import ModelError
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.trace.nodes import Node, geometry_of

__all__ = ["PAPER_SKIPS", "SKIP_NAMES", "find_skips"]

SKIP_NAMES = {16: "pool4", 8: "pool3", 4: "pool2", 2: "pool1"}
"""The names of the skips by stride, as in the paper's VGG16."""

PAPER_SKIPS = {"vgg16": {16: "features_23", 8: "features_16", 4: "features_9", 2: "features_4"}}
"""The paper reads VGG16 after its pooling layers, one stage before the last map at each stride."""

_EXCLUDED = frozenset({"pad", "chunk", "split", "split_with_sizes", "tensor_split", "unbind", "max", "min"})
"""Padding, whose border may be minus infinity, and operations that may return more than one map."""


def find_skips(graph: fx.GraphModule, nodes: dict[str, Node], features: str, spec: NetSpec) -> dict[int, str]:
    """Return the node of each skip by stride, coarse to fine: the last map at that stride on all paths to `features`.

    Where branches leave no such map at a stride, it is the map with the largest receptive field, and of those the last
    one. Raises ModelError where there is no map at a stride that `spec` needs.
    """
    last_stride = geometry_of(nodes[features]).vertical.field.stride
    if last_stride < spec.stride:
        message = f"cannot build FCN-{spec.stride}s: the last feature map of {spec.model} is at stride {last_stride}"
        raise ModelError(message, code="no-map-at-stride")
    wanted = [stride for stride in SKIP_NAMES if spec.stride <= stride < last_stride]
    if spec.model in PAPER_SKIPS:
        return {stride: PAPER_SKIPS[spec.model][stride] for stride in wanted}
    upstream = _find_upstream(graph, features)
    on_all_paths = [name for name in _find_bottlenecks(graph, nodes, features) if name in upstream]
    skips = {
        **_last_by_stride(nodes, [name for name in nodes if name in upstream], widest=True),
        **_last_by_stride(nodes, on_all_paths),
    }
    lacking = [stride for stride in (*wanted, spec.stride) if stride not in skips and stride != last_stride]
    if lacking:
        available = ", ".join(str(stride) for stride in sorted({*skips, int(last_stride)}) if stride > 1)
        raise ModelError(
            f"cannot build FCN-{spec.stride}s: {spec.model} has no feature map at stride {lacking[0]} "
            f"(available: {available})",
            code="no-map-at-stride",
        )
    return {stride: skips[stride] for stride in wanted}


def _last_by_stride(nodes: dict[str, Node], names: list[str], widest: bool = False) -> dict[int, str]:
    """Return the last of these maps at each whole stride; with `widest`, of those with the largest receptive field."""
    last: dict[int, tuple[int, str]] = {}
    for name in names:
        geometry = nodes[name].geometry
        if geometry is None or nodes[name].kind in _EXCLUDED:
            continue
        vertical, horizontal = geometry.fields
        if vertical.stride != horizontal.stride or vertical.stride.denominator != 1:
            continue
        stride = int(vertical.stride)
        if not (widest and vertical.receptive_field < last.get(stride, (0, ""))[0]):
            last[stride] = (vertical.receptive_field, name)
    return {stride: name for stride, (_, name) in last.items()}


def _find_upstream(graph: fx.GraphModule, features: str) -> set[str]:
    """Return the nodes that the features depend on, including themselves."""
    todo = [node for node in graph.graph.nodes if node.name == features]
    names: set[str] = set()
    while todo:
        node = todo.pop()
        if node.name not in names:
            names.add(node.name)
            todo += node.all_input_nodes
    return names


def _find_bottlenecks(graph: fx.GraphModule, nodes: dict[str, Node], features: str) -> list[str]:
    """Return the nodes up to `features` after which no earlier map is used."""
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    names, last_use = [], -1
    for node, index in order.items():
        if not _depends_on_image(nodes.get(node.name)):
            continue
        if last_use <= index and node.op != "placeholder":
            names.append(node.name)
        last_use = max([last_use, *(order[user] for user in node.users if _depends_on_image(nodes.get(user.name)))])
        if node.name == features:
            break
    return names


def _depends_on_image(node: Node | None) -> bool:
    return node is not None and node.info.kind != "constant"

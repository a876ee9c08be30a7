"""The part of a graph that given results need."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

__all__ = ["described_maps", "needed_nodes", "used_constants"]


def needed_nodes(graph: onnx.GraphProto, results: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that compute `results`, in their order in the graph.

    What the inner graph of a node reads from outside is not followed: no result may need such a node.
    """
    producers = {name: node for node in graph.node for name in node.output}
    needed, names = set[str](), list(results)
    while names:
        node = producers.get(names.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            names += node.input
    return [node for node in graph.node if node.output[0] in needed]


def used_constants(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names that nodes read."""
    return {name for node in nodes for name in node.input}


def described_maps(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> list[onnx.ValueInfoProto]:
    """Return the descriptions of maps in `graph` that these nodes compute (see `grids.py`)."""
    names = {name for node in nodes for name in node.output}
    return [info for info in graph.value_info if info.name in names]

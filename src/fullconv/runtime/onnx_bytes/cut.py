"""Cut an ONNX file down to the nodes that one of its outputs needs, on its bytes.

ONNX Runtime computes all nodes of a file, also those whose results nobody asked for. In a file of `fullconv export`,
the label map is a sixth of the time of a small network.
"""

from __future__ import annotations

from pathlib import Path

from fullconv.runtime.onnx_bytes.wire import Field, iterate_fields, pack

__all__ = ["MAX_CUT", "cut_to_output", "read_for"]

MAX_CUT = 64 * 2**20
"""Larger files are not cut: cutting holds the file in memory, and their networks take far longer than the label map."""

_GRAPH = 7
_NODE, _OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_SUBGRAPHS = (6, 11)


def read_for(path: Path, output: str) -> bytes | str:
    """Return the bytes of a file that `read_onnx` has checked, cut to `output`; its absolute path if it stays whole."""
    if path.stat().st_size > MAX_CUT:
        return str(path.absolute())
    try:
        return cut_to_output(path.read_bytes(), output) or str(path.absolute())
    except (ValueError, IndexError):  # a description that ONNX Runtime refuses, too
        return str(path.absolute())


def cut_to_output(content: bytes, output: str) -> bytes | None:
    """Return a ModelProto without the nodes and the other outputs that `output` does not need.

    `content` has passed `read_onnx`. Returns None where nothing can be cut: no such output, or one that needs a node
    with a subgraph, whose inputs are not listed in the node.
    """
    graphs = [field for field in iterate_fields(content) if field.number == _GRAPH]
    if len(graphs) != 1:
        return None
    graph = graphs[0]
    dropped = _unneeded(content, list(iterate_fields(content, graph.start, graph.end)), output.encode())
    if not dropped:
        return None
    kept, at = [], graph.start
    for low, high in dropped:
        kept.append(content[at:low])
        at = high
    left = b"".join([*kept, content[at : graph.end]])
    return b"".join([content[: graph.begin], pack(_GRAPH, left), content[graph.end :]])


def _unneeded(content: bytes, fields: list[Field], output: bytes) -> list[tuple[int, int]] | None:
    """Return the bounds of the fields of a graph that `output` does not need, in order; None if it cannot be cut."""
    outputs = [field for field in fields if field.number == _OUTPUT]
    others = [field for field in outputs if _texts(content, field, 1) != [output]]
    if len(outputs) != len(others) + 1:
        return None
    dropped, needed = [(field.begin, field.end) for field in others], {output}
    for field in reversed([field for field in fields if field.number == _NODE]):
        if needed.isdisjoint(_texts(content, field, _NODE_OUTPUT)):
            dropped.append((field.begin, field.end))
        elif _has_subgraph(content, field):
            return None
        else:
            needed.update(_texts(content, field, _NODE_INPUT))
    return sorted(dropped)


def _has_subgraph(content: bytes, node: Field) -> bool:
    attributes = (one for one in iterate_fields(content, node.start, node.end) if one.number == _NODE_ATTRIBUTE)
    return any(
        inner.number in _SUBGRAPHS and inner.value is None
        for one in attributes
        for inner in iterate_fields(content, one.start, one.end)
    )


def _texts(content: bytes, message: Field, number: int) -> list[bytes]:
    """Return the texts under a number in a message."""
    inner = iterate_fields(content, message.start, message.end)
    return [content[one.start : one.end] for one in inner if one.number == number]

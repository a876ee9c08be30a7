"""Cut an ONNX file down to the nodes that one of its outputs needs, on its bytes.

ONNX Runtime computes all nodes of a file, also those whose results nobody asked for. In a file of `fullconv export`,
the label map is a sixth of the time of a small network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["MAX_CUT", "cut_to_output", "read_for"]

MAX_CUT = 64 * 2**20
"""Larger files are not cut: cutting holds the file in memory, and their networks take far longer than the label map."""

_GRAPH = 7
_NODE, _OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_SUBGRAPHS = (6, 11)

Field = tuple[int, int, int, int]
"""The number of a field, the position of its tag, and the bounds of its content."""


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
    graphs = [field for field in _fields(content, 0, len(content)) if field[0] == _GRAPH]
    if len(graphs) != 1:
        return None
    _, begin, start, end = graphs[0]
    dropped = _unneeded(content, list(_fields(content, start, end)), output.encode())
    if not dropped:
        return None
    kept, at = [], start
    for low, high in dropped:
        kept.append(content[at:low])
        at = high
    graph = b"".join([*kept, content[at:end]])
    return b"".join([content[:begin], bytes([_GRAPH << 3 | 2]), _varint(len(graph)), graph, content[end:]])


def _unneeded(content: bytes, fields: list[Field], output: bytes) -> list[tuple[int, int]] | None:
    """Return the bounds of the fields of a graph that `output` does not need, in order; None if it cannot be cut."""
    outputs = [field for field in fields if field[0] == _OUTPUT]
    others = [field for field in outputs if _texts(content, field, 1) != [output]]
    if len(outputs) != len(others) + 1:
        return None
    dropped, needed = [(begin, end) for _, begin, _, end in others], {output}
    for field in reversed([field for field in fields if field[0] == _NODE]):
        if needed.isdisjoint(_texts(content, field, _NODE_OUTPUT)):
            dropped.append((field[1], field[3]))
        elif _has_subgraph(content, field):
            return None
        else:
            needed.update(_texts(content, field, _NODE_INPUT))
    return sorted(dropped)


def _has_subgraph(content: bytes, node: Field) -> bool:
    attributes = (field for field in _fields(content, *node[2:]) if field[0] == _NODE_ATTRIBUTE)
    return any(inner[0] in _SUBGRAPHS for one in attributes for inner in _fields(content, *one[2:]))


def _texts(content: bytes, message: Field, number: int) -> list[bytes]:
    """Return the texts under a number in a message."""
    return [content[field[2] : field[3]] for field in _fields(content, *message[2:]) if field[0] == number]


def _fields(content: bytes, start: int, end: int) -> Iterator[Field]:
    """Yield the fields with a length in a message; the others are skipped."""
    at = start
    while at < end:
        begin = at
        tag, at = _read_varint(content, at)
        if tag & 7 == 2:
            length, at = _read_varint(content, at)
            yield tag >> 3, begin, at, at + length
            at += length
        elif tag & 7 == 0:
            _, at = _read_varint(content, at)
        else:
            at += 8 if tag & 7 == 1 else 4


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number is too long")


def _varint(value: int) -> bytes:
    """Encode a number."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])

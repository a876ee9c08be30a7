"""Weights that a file stores as float16: given back as float32 before a library opens the file.

Such a file has a tensor of float16 and a Cast node for each weight. ONNX Runtime would compute these nodes while it
loads the file only where their results are small (see `MAX_FOLDED`), and compute the others for each image. So they are
replaced here, in the wire format of protocol buffers (see `onnx_scan`), and the session is that of a float32 file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["has_halves", "restore_weights"]

_FLOAT, _FLOAT16 = 1, 10
"""Data types of a TensorProto."""

_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_TENSOR = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE = 1, 2, 4
_TENSOR_SIZES, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 1, 2, 8, 9

Field = tuple[int, memoryview, memoryview | int]
"""A field of a message: its number, all its bytes, and its content: bytes, or the number of a varint."""


def has_halves(path: Path) -> bool:
    """Return whether a file, which `read_onnx` has checked, stores weights as float16."""
    return bool(_find_halves(memoryview(path.read_bytes())))


def restore_weights(content: bytes) -> bytes:
    """Return a file whose weights are float32: with the values of float16, without the nodes that convert them.

    A file without such weights is returned as it is.
    """
    halves = _find_halves(memoryview(content))
    if not halves:
        return content
    parts: list[bytes | memoryview] = []
    for number, whole, inner in _fields(memoryview(content)):
        if number == _MODEL_GRAPH and isinstance(inner, memoryview):
            graph = b"".join(_restore_graph(inner, halves))
            parts += [_varint(number << 3 | 2), _varint(len(graph)), graph]
        else:
            parts.append(whole)
    return b"".join(parts)


def _find_halves(content: memoryview) -> dict[bytes, bytes]:
    """Return the names of the float16 tensors that one Cast node converts, with the names of their results."""
    tensors, casts = set[bytes](), list[tuple[bytes, bytes]]()
    for number, _, graph in _fields(content):
        if number != _MODEL_GRAPH or isinstance(graph, int):
            continue
        for kind, _, inner in _fields(graph):
            if kind == _GRAPH_TENSOR and isinstance(inner, memoryview):
                values = {name: value for name, _, value in _fields(inner)}
                if values.get(_TENSOR_TYPE) == _FLOAT16 and _TENSOR_BYTES in values:
                    tensors.add(_text(values.get(_TENSOR_NAME)))
            elif kind == _GRAPH_NODE and isinstance(inner, memoryview):
                values = {name: value for name, _, value in _fields(inner)}
                if _text(values.get(_NODE_TYPE)) == b"Cast":
                    casts.append((_text(values.get(_NODE_INPUT)), _text(values.get(_NODE_OUTPUT))))
    sources = [source for source, _ in casts]
    return {source: result for source, result in casts if source in tensors and sources.count(source) == 1}


def _restore_graph(graph: memoryview, halves: dict[bytes, bytes]) -> Iterator[bytes | memoryview]:
    for number, whole, inner in _fields(graph):
        if isinstance(inner, int) or number not in (_GRAPH_NODE, _GRAPH_TENSOR):
            yield whole
            continue
        values = {name: value for name, _, value in _fields(inner)}
        if number == _GRAPH_NODE:
            if not (_text(values.get(_NODE_TYPE)) == b"Cast" and _text(values.get(_NODE_INPUT)) in halves):
                yield whole
        elif _text(values.get(_TENSOR_NAME)) in halves:
            tensor = b"".join(_restore_tensor(inner, halves))
            yield _varint(number << 3 | 2) + _varint(len(tensor))
            yield tensor
        else:
            yield whole


def _restore_tensor(tensor: memoryview, halves: dict[bytes, bytes]) -> Iterator[bytes | memoryview]:
    for number, whole, inner in _fields(tensor):
        if number == _TENSOR_TYPE:
            yield _varint(number << 3) + _varint(_FLOAT)
        elif number == _TENSOR_NAME:
            name = halves[_text(inner)]
            yield _varint(number << 3 | 2) + _varint(len(name)) + name
        elif number == _TENSOR_BYTES and not isinstance(inner, int):
            floats = np.frombuffer(inner, "<f2").astype("<f4").tobytes()
            yield _varint(number << 3 | 2) + _varint(len(floats))
            yield floats
        else:
            yield whole


def _fields(message: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _read_varint(message, at)
            yield number, message[start:at], value
            continue
        length = 8 if wire == 1 else 4
        if wire == 2:
            length, at = _read_varint(message, at)
        at += length
        yield number, message[start:at], message[at - length : at]


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _text(value: memoryview | int | None) -> bytes:
    return bytes(value) if isinstance(value, memoryview) else b""

"""Weights that a file stores as float16: given back as float32 before a library opens the file.

Such a file has a tensor of float16 and a Cast node for each weight. ONNX Runtime would compute these nodes while it
loads the file only where their results are small (see `MAX_FOLDED`), and compute the others for each image. So they are
replaced here, in the wire format of protocol buffers (see `onnx_scan`), and the session is that of a float32 file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fullconv.runtime.onnx_bytes.wire import Field, iterate_fields, pack, pack_number

__all__ = ["has_halves", "restore_weights"]

_FLOAT, _FLOAT16 = 1, 10
"""Data types of a TensorProto."""

_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_TENSOR = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE = 1, 2, 4
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 2, 8, 9


def has_halves(path: Path) -> bool:
    """Return whether a file, which `read_onnx` has checked, stores weights as float16."""
    return bool(_find_halves(path.read_bytes()))


def restore_weights(content: bytes) -> bytes:
    """Return a file whose weights are float32: with the values of float16, without the nodes that convert them.

    A file without such weights is returned as it is.
    """
    halves = _find_halves(content)
    if not halves:
        return content
    parts = []
    for field in iterate_fields(content):
        is_graph = field.number == _MODEL_GRAPH and field.value is None
        parts.append(
            pack(_MODEL_GRAPH, b"".join(_restore_graph(content, field, halves)))
            if is_graph
            else content[field.begin : field.end]
        )
    return b"".join(parts)


def _find_halves(content: bytes) -> dict[bytes, bytes]:
    """Return the names of the float16 tensors that one Cast node converts, with the names of their results."""
    tensors, casts = set[bytes](), list[tuple[bytes, bytes]]()
    for graph in iterate_fields(content):
        if graph.number != _MODEL_GRAPH or graph.value is not None:
            continue
        for field in iterate_fields(content, graph.start, graph.end):
            if field.value is not None or field.number not in (_GRAPH_TENSOR, _GRAPH_NODE):
                continue
            values = _read_message(content, field)
            if field.number == _GRAPH_TENSOR:
                if _TENSOR_BYTES in values and _TENSOR_TYPE in values and values[_TENSOR_TYPE].value == _FLOAT16:
                    tensors.add(_text(content, values.get(_TENSOR_NAME)))
            elif _text(content, values.get(_NODE_TYPE)) == b"Cast":
                source, result = (_text(content, values.get(number)) for number in (_NODE_INPUT, _NODE_OUTPUT))
                casts.append((source, result))
    sources = [source for source, _ in casts]
    return {source: result for source, result in casts if source in tensors and sources.count(source) == 1}


def _restore_graph(content: bytes, graph: Field, halves: dict[bytes, bytes]) -> Iterator[bytes]:
    for field in iterate_fields(content, graph.start, graph.end):
        whole = content[field.begin : field.end]
        if field.value is not None or field.number not in (_GRAPH_NODE, _GRAPH_TENSOR):
            yield whole
            continue
        values = _read_message(content, field)
        if field.number == _GRAPH_TENSOR:
            is_half = _text(content, values.get(_TENSOR_NAME)) in halves
            yield pack(_GRAPH_TENSOR, b"".join(_restore_tensor(content, field, halves))) if is_half else whole
        elif not (
            _text(content, values.get(_NODE_TYPE)) == b"Cast" and _text(content, values.get(_NODE_INPUT)) in halves
        ):
            yield whole


def _restore_tensor(content: bytes, tensor: Field, halves: dict[bytes, bytes]) -> Iterator[bytes]:
    for field in iterate_fields(content, tensor.start, tensor.end):
        if field.number == _TENSOR_TYPE:
            yield pack_number(_TENSOR_TYPE, _FLOAT)
        elif field.number == _TENSOR_NAME:
            yield pack(_TENSOR_NAME, halves[_text(content, field)])
        elif field.number == _TENSOR_BYTES:
            values = np.frombuffer(content, "<f2", (field.end - field.start) // 2, field.start)
            yield pack(_TENSOR_BYTES, values.astype("<f4").tobytes())
        else:
            yield content[field.begin : field.end]


def _read_message(content: bytes, message: Field) -> dict[int, Field]:
    """Return the fields of a message by number; the last one where a number is repeated."""
    return {field.number: field for field in iterate_fields(content, message.start, message.end)}


def _text(content: bytes, field: Field | None) -> bytes:
    return b"" if field is None else content[field.start : field.end]

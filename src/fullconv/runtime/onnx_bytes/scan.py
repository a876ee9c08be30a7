"""Read the metadata of an ONNX file, and refuse what such a file may not hold, before any library opens it.

An ONNX file is a ModelProto (onnx.proto3 of onnx/onnx) in the wire format of protocol buffers (protobuf.dev,
programming-guides/encoding). This module follows the fields that can hold tensors, and skips all others by their
length.
A tensor whose numbers are in another file could name any file of the computer, so it is refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fullconv.errors import ModelError

__all__ = ["MAX_FOLDED", "OnnxContent", "read_onnx", "scan_onnx"]

MAX_FIELDS = 2_000_000
"""More fields than any network has; a hostile file could hold very many."""

MAX_DEPTH = 100
"""The depth of messages that protocol buffers allow."""

MAX_METADATA = 64 * 2**20
"""The largest size of the metadata in bytes."""

MAX_FOLDED = 256 * 2**20
"""The bytes that the constant expressions of a file may take when a library computes them in advance."""

_ROOT, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING, _TEXT = range(9)

_CHILDREN: dict[int, dict[int, int]] = {
    _ROOT: {7: _GRAPH, 14: _TEXT, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
"""The fields of each kind of message that hold messages, with the kind of these."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""The fields of a TensorProto that say that its numbers are in another file."""


@dataclass(frozen=True)
class OnnxContent:
    """What a file says without any library: its metadata by name, and the number of its nodes at all depths."""

    metadata: dict[str, str]
    nodes: int


def scan_onnx(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file, by name, after all checks of `read_onnx`."""
    return read_onnx(path).metadata


def read_onnx(path: Path) -> OnnxContent:
    """Check an ONNX file, and return its metadata and its size.

    Raises ModelError for a file that is not an ONNX file or is damaged, that has numbers in other files, or that has
    functions or a training, which `fullconv export` does not write.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                return _Scan(path, view).content()
            finally:
                view.release()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as an ONNX file: {error}", code="invalid-onnx-file") from error


class _Scan:
    """One pass over the messages of a file."""

    def __init__(self, path: Path, content: memoryview) -> None:
        self._path, self._content, self._fields = path, content, 0

    def content(self) -> OnnxContent:
        """Check all messages, and return the metadata and the number of nodes."""
        texts: dict[str, str] = {}
        nodes = 0
        waiting = [(_ROOT, 0, len(self._content), 0)]
        while waiting:
            kind, start, end, depth = waiting.pop()
            nodes += kind == _NODE
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
            for number, low, high in self._messages(kind, start, end):
                child = _CHILDREN[kind].get(number) if kind in _CHILDREN else None
                if child == _TEXT:
                    name, text = self._entry(low, high)
                    texts[name] = text
                elif child is not None:
                    waiting.append((child, low, high, depth + 1))
        return OnnxContent(texts, nodes)

    def _messages(self, kind: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number and bounds of each field with a length; refuse what the kind of message may not hold."""
        if kind in (_FUNCTION, _TRAINING):
            what = "functions" if kind == _FUNCTION else "a training"
            raise ValueError(f"it has {what}, which fullconv export does not write")
        at = start
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            tag, at = self._varint(at, end)
            number, wire = (tag >> 3), tag & 7
            if tag >= 2**32 or number == 0:
                raise ValueError("it is not in the format of protocol buffers")
            if wire == 2:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise ValueError("it is truncated or of another type")
                if kind == _TENSOR and number == _EXTERNAL_DATA:
                    raise self._external()
                yield number, at, at + length
                at += length
            elif wire == 0:
                value, at = self._varint(at, end)
                if kind == _TENSOR and number == _DATA_LOCATION and value:
                    raise self._external()
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                raise ValueError("it is not in the format of protocol buffers")
        if at > end:
            raise ValueError("it is truncated or of another type")

    def _entry(self, start: int, end: int) -> tuple[str, str]:
        """Return the name and the text of an entry of the metadata."""
        if end - start > MAX_METADATA:
            raise ValueError(f"its metadata take more than {MAX_METADATA:,} bytes")
        fields = self._messages(_TEXT, start, end)
        parts = {number: bytes(self._content[low:high]).decode() for number, low, high in fields}
        return parts.get(1, ""), parts.get(2, "")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._content[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
        raise ValueError("it is truncated or of another type")

    def _external(self) -> ModelError:
        return ModelError(
            f"{self._path} keeps numbers in other files, which could be any file of this computer; fullconv reads "
            "only networks that are one file, as fullconv export writes them",
            code="external-data",
        )

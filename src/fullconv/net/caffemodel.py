"""The weights in a .caffemodel, read without Caffe and without protocol buffer classes.

The file is one NetParameter of caffe.proto (BVLC/caffe). Only five of its messages matter here, and only the
fields that hold names, shapes and numbers; every other field is passed over by its length. The wire format is
that of protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fullconv.errors import ModelError

__all__ = ["read_caffemodel"]

_LAYERS = {100: (1, 7), 2: (4, 6)}
"""Field of NetParameter to the fields of name and blobs in it: LayerParameter, and V1LayerParameter before 2015."""

_SHAPE, _DIM = 7, 1
_LEGACY = (1, 2, 3, 4)
"""BlobProto's num, channels, height and width, from before it had a shape."""

_NUMBERS = {5: "<f4", 8: "<f8"}
"""BlobProto's data and double_data."""


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """The blobs of each layer that has any, float32, by the layer's name: weight first, then bias.

    Shapes are those of the file: older files give every blob four axes. Raises ModelError for a file that is cut
    off or is something else.
    """
    try:
        view = memoryview(np.memmap(path, np.uint8, "r").data)
        layers = [_layer(value, *_LAYERS[number]) for number, value in _fields(view) if number in _LAYERS]
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a .caffemodel: {error}; it is incomplete or another kind") from None
    found = {name: blobs for name, blobs in layers if blobs}
    if not found:
        raise ModelError(f"{path} cannot be read as a .caffemodel: it holds no layer with weights")
    return found


def _layer(value: int | memoryview, name_field: int, blob_field: int) -> tuple[str, list[Tensor]]:
    name, blobs = "", []
    for number, part in _fields(_message(value)):
        if number == name_field:
            name = str(_message(part), "utf-8")
        elif number == blob_field:
            blobs.append(_blob(_message(part)))
    return name, blobs


def _blob(view: memoryview) -> Tensor:
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    chunks: list[memoryview] = []
    kind = "<f4"
    for number, value in _fields(view):
        if number in _LEGACY and isinstance(value, int):
            legacy[number] = value
        elif number == _SHAPE:
            shape = tuple(_dims(_message(value)))
        elif number in _NUMBERS:
            chunks.append(_message(value))
            kind = _NUMBERS[number]
    if shape is None:
        shape = tuple(legacy.get(number, 0) for number in _LEGACY)
    values = np.frombuffer(b"".join(chunks), kind)
    if prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} numbers")
    return torch.from_numpy(values.astype(np.float32)).view(shape)


def _dims(view: memoryview) -> Iterator[int]:
    """The lengths in a BlobShape, packed into one field or in a field each."""
    for number, value in _fields(view):
        if number == _DIM and isinstance(value, int):
            yield value
        elif number == _DIM:
            packed, at = _message(value), 0
            while at < len(packed):
                length, at = _varint(packed, at)
                yield length


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")
    return value


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of the fields of a message; what is not a varint comes as its bytes."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if wire not in (1, 2, 5) or number == 0:
            raise ValueError(f"byte {at} starts no field")
        size, at = _varint(view, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if at + size > len(view):
            raise ValueError("it ends in the middle of a field")
        yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise ValueError("it ends in the middle of a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than ten bytes")

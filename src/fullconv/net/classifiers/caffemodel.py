"""Read the weights in a .caffemodel without Caffe and without protocol buffer classes.

The file is one NetParameter of caffe.proto (BVLC/caffe). Only five of its messages matter here, and only the
fields that hold names, shapes and numbers; every other field is skipped by its length. The wire format is
specified at protobuf.dev/programming-guides/encoding.
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
"""Fields of NetParameter, and the fields of name and blobs in each: LayerParameter; V1LayerParameter before 2015."""

_SHAPE, _DIM = 7, 1
_LEGACY = (1, 2, 3, 4)
"""BlobProto's num, channels, height and width, which older files have instead of a shape."""

_NUMBERS = {5: "<f4", 8: "<f8"}
"""BlobProto's data and double_data."""


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """Read the blobs of each layer that has any, float32, by the layer's name: weight first, then bias.

    Shapes are those of the file; in older files every blob has four axes. Raises ModelError for a truncated file and
    for a file of another type.
    """
    try:
        view = memoryview(np.memmap(path, np.uint8, "r").data)
        layers = [_read_layer(value, *_LAYERS[number]) for number, value in _fields(view) if number in _LAYERS]
    except (ValueError, OSError, RuntimeError, OverflowError) as error:
        message = f"{path} cannot be read as a .caffemodel: {error}; it is truncated or of another type"
        raise ModelError(message, code="unreadable-caffemodel") from None
    blobs_by_layer = {name: blobs for name, blobs in layers if blobs}
    if not blobs_by_layer:
        message = f"{path} cannot be read as a .caffemodel: it has no layer with weights"
        raise ModelError(message, code="unreadable-caffemodel")
    return blobs_by_layer


def _read_layer(value: int | memoryview, name_field: int, blob_field: int) -> tuple[str, list[Tensor]]:
    name, blobs = "", []
    for number, part in _fields(_message(value)):
        if number == name_field:
            name = str(_message(part), "utf-8")
        elif number == blob_field:
            blobs.append(_read_blob(_message(part)))
    return name, blobs


def _read_blob(view: memoryview) -> Tensor:
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    chunks: list[memoryview] = []
    kind = "<f4"
    for number, value in _fields(view):
        if number in _LEGACY and isinstance(value, int):
            legacy[number] = value
        elif number == _SHAPE:
            shape = tuple(_read_shape(_message(value)))
        elif number in _NUMBERS:
            chunks.append(_message(value))
            kind = _NUMBERS[number]
    if shape is None:
        shape = tuple(legacy.get(number, 0) for number in _LEGACY)
    values = np.frombuffer(b"".join(chunks), kind)
    if len(shape) > 8 or prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} numbers")
    return torch.from_numpy(values.astype(np.float32)).view(shape)


def _read_shape(view: memoryview) -> Iterator[int]:
    """Yield the lengths in a BlobShape, which are packed into one field or in a field each."""
    for number, value in _fields(view):
        if number == _DIM and isinstance(value, int):
            yield value
        elif number == _DIM:
            packed, at = _message(value), 0
            while at < len(packed):
                length, at = _read_varint(packed, at)
                yield length


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it has a number instead of a message")
    return value


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: varints as numbers, all others as their bytes."""
    at = 0
    while at < len(view):
        key, at = _read_varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _read_varint(view, at)
            yield number, value
            continue
        if wire not in (1, 2, 5) or number == 0:
            raise ValueError(f"no field starts at byte {at}")
        size, at = _read_varint(view, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if at + size > len(view):
            raise ValueError("it ends inside a field")
        yield number, view[at : at + size]
        at += size


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """Read a number in groups of 7 bits, the lowest first; return it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise ValueError("it ends inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than ten bytes")

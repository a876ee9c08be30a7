"""The wire format of protocol buffers, for checked files (protobuf.dev, programming-guides/encoding)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Field", "iterate_fields", "pack", "pack_number"]


class Field(NamedTuple):
    """A field of a message: its number, the position of its tag, the bounds of its content, and the value of a varint.

    `value` is None for a field with a length: bytes, text, or a message. Other fields of fixed size are 0.
    """

    number: int
    begin: int
    start: int
    end: int
    value: int | None


def iterate_fields(content: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in content[start:end]. Raises ValueError or IndexError where it is damaged."""
    at, end = start, len(content) if end is None else end
    while at < end:
        begin = at
        tag, at = _read_varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, after = _read_varint(content, at)
            yield Field(number, begin, at, after, value)
            at = after
        elif wire == 2:
            length, at = _read_varint(content, at)
            yield Field(number, begin, at, at + length, None)
            at += length
        else:
            length = 8 if wire == 1 else 4
            yield Field(number, begin, at, at + length, 0)
            at += length


def pack(number: int, content: bytes) -> bytes:
    """Return a field with a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def pack_number(number: int, value: int) -> bytes:
    """Return a field with a varint, which is not negative."""
    return _varint(number << 3) + _varint(value)


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
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])

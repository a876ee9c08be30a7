"""Reading of matrices of numbers from MATLAB files up to version 7. Every size is checked before it is believed.

Only full arrays of real numbers are read, as variables or as fields of a struct. Sources: MathWorks, "MAT-File Format",
and the matrix header of version 4 in its appendix.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["Matrix", "read_field", "read_matrices", "read_matrix"]

HEADER, MATRIX, COMPRESSED, STRUCT = 128, 14, 15, 2

NUMBERS = range(6, 16)
"""The codes of the classes of full arrays of numbers, from double to uint64."""

LAST_CLASS, COMPLEX = 15, 0x0800

STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The types in which numbers are stored, by their code. MATLAB stores doubles that are small integers as integers."""

OLD = ("f8", "f4", "i4", "i2", "u2", "u1")
"""The types of version 4."""

BLOCK = 2**16
MOST_AXES, MOST_NAMES = 32, 2**16
LARGEST_RATIO = 1040
"""zlib makes at most 1,032 bytes from one."""


@dataclass(frozen=True)
class Matrix:
    """The header of one variable.

    Attributes:
        name: The name of the variable.
        shape: Its axes.
        numbers: Whether it is a full array of real numbers.
        is_struct: Whether it is a struct.
        start: Where its element starts in the file.
    """

    name: str
    shape: tuple[int, ...]
    numbers: bool
    is_struct: bool
    start: int


class _Bytes:
    """Bytes that are read forwards, `left` of them at most."""

    def __init__(self, take: Callable[[int], bytes], left: int) -> None:
        self._take, self.left = take, left

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError("a size in it is larger than what is there")
        self.left -= count
        content = self._take(count)
        if len(content) != count:
            raise ValueError("it ends early")
        return content

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.read(min(count, BLOCK)))

    def part(self, count: int) -> _Bytes:
        """Return the next `count` bytes, which must be read or skipped before others."""
        if count > self.left:
            raise ValueError("a size in it is larger than what is there")
        return _Bytes(self.read, count)


class _Inflater:
    """Decompresses as much of a zlib stream as is asked for."""

    def __init__(self, stored: _Bytes) -> None:
        self._stored, self._stream = stored, zlib.decompressobj()

    def take(self, count: int) -> bytes:
        blocks, missing = [], count
        while missing:
            packed = self._stream.unconsumed_tail or self._stored.read(min(self._stored.left, BLOCK))
            if not packed or self._stream.eof:
                break
            blocks.append(self._stream.decompress(packed, missing))
            missing -= len(blocks[-1])
        return b"".join(blocks)

    def finish(self) -> None:
        """Read the rest of the stream, with its checksum; nothing may follow."""
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._stored.read(min(self._stored.left, BLOCK))
            if not packed:
                raise ValueError("it ends early")
            if self._stream.decompress(packed, BLOCK):
                raise ValueError("it holds more than its sizes say")


@dataclass(frozen=True)
class _Open:
    """A variable that is being read: the bytes of its matrix, its header, and what checks that nothing is left."""

    order: str
    bytes: _Bytes
    header: Matrix
    finish: Callable[[], None]


def read_matrices(file: BinaryIO) -> list[Matrix]:
    """Return the headers of all variables.

    This and the other functions raise ValueError, zlib.error or OSError for anything that is no such file.
    """
    if (order := _byte_order(file)) is None:
        return [matrix for matrix, _, _ in _old_matrices(file)]
    found, start, end = [], HEADER, file.seek(0, os.SEEK_END)
    while start < end:
        variable, size = _open_variable(file, order, start)
        found.append(variable.header)
        start += size
    return found


def read_matrix(file: BinaryIO, matrix: Matrix) -> npt.NDArray[Any]:
    """Return the numbers of a variable, in the type in which they are stored."""
    if (order := _byte_order(file)) is None:
        kind, start = next((kind, start) for other, kind, start in _old_matrices(file) if other == matrix)
        file.seek(start)
        return _as_array(file.read(prod(matrix.shape) * kind.itemsize), kind, matrix.shape)
    variable, _ = _open_variable(file, order, matrix.start)
    values = _read_numbers(order, variable.bytes, matrix.shape)
    variable.bytes.skip(variable.bytes.left)
    variable.finish()
    return values


def read_field(file: BinaryIO, matrix: Matrix, field: str) -> npt.NDArray[Any] | None:
    """Return the numbers of a field of a struct's first element, or None if there is no such field of numbers."""
    order = _byte_order(file)
    if order is None or not matrix.is_struct or not prod(matrix.shape):
        return None
    variable, _ = _open_variable(file, order, matrix.start)
    source = variable.bytes
    width = int.from_bytes(_read_small(order, source)[:4], "little" if order == "<" else "big")
    packed = _read_small(order, source)
    names = [packed[at : at + width].split(b"\0")[0] for at in range(0, len(packed), width)] if width else []
    if field.encode() not in names:
        return None
    for _ in range(names.index(field.encode())):
        source.skip(_read_tag(order, source)[1])
    kind, size, _ = _read_tag(order, source)
    if kind != MATRIX:
        raise ValueError("it has a field that is no variable")
    inside = source.part(size)
    header = _read_header(order, inside, matrix.start)
    if not header.numbers:
        return None
    values = _read_numbers(order, inside, header.shape)
    inside.skip(inside.left)
    source.skip(source.left)
    variable.finish()
    return values


def _byte_order(file: BinaryIO) -> str | None:
    """Return "<" or ">"; None for version 4. Raises ValueError for other files."""
    file.seek(0)
    start = file.read(HEADER)
    if start[:8] == b"\x89HDF\r\n\x1a\n" or b"MATLAB 7.3" in start:
        raise ValueError("it is of version 7.3")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(start[HEADER - 4 :])
    if order is None and (len(start) < 20 or 0 not in start[:4]):
        raise ValueError("it has no header of MATLAB")
    return order


def _open_variable(file: BinaryIO, order: str, start: int) -> tuple[_Open, int]:
    """Return the variable that starts at a byte of the file, and how many bytes it takes there."""
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    stored = _Bytes(file.read, end - start)
    kind, size, _ = _read_tag(order, stored)
    source, finish = stored.part(size), _nothing
    if kind == COMPRESSED:
        inflater = _Inflater(source)
        whole = _Bytes(inflater.take, size * LARGEST_RATIO)
        kind, inner, _ = _read_tag(order, whole)
        source, finish = whole.part(inner), inflater.finish
    if kind != MATRIX:
        raise ValueError("it holds something that is no variable")
    return _Open(order, source, _read_header(order, source, start), finish), 8 + size


def _nothing() -> None:
    """Check nothing: what is not compressed has no checksum."""


def _read_tag(order: str, source: _Bytes) -> tuple[int, int, bytes | None]:
    """Return type and size of an element, and its content if it lies in its tag."""
    tag = source.read(8)
    kind, size = struct.unpack(order + "II", tag)
    if kind >> 16:  # up to four bytes lie in the tag
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError("it has a damaged tag")
        return kind, size, tag[4 : 4 + size]
    return kind, size, None


def _read_small(order: str, source: _Bytes) -> bytes:
    """Return the content of an element of names or axes."""
    _, size, content = _read_tag(order, source)
    if content is None:
        if size > MOST_NAMES:
            raise ValueError("a size in it is too large")
        content = source.read(size)
        source.skip(-size % 8)
    return content


def _read_header(order: str, source: _Bytes, start: int) -> Matrix:
    """Return the header of a matrix; afterwards, `source` is at its content."""
    if not source.left:  # an empty field
        return Matrix("", (0, 0), False, False, start)
    flags = _read_small(order, source)
    if len(flags) != 8:
        raise ValueError("it has a damaged header")
    word = struct.unpack(order + "II", flags)[0]
    code, is_complex = word & 0xFF, bool(word & COMPLEX)
    if code > LAST_CLASS:  # objects and functions have no axes
        return Matrix("", (), False, False, start)
    axes = _read_small(order, source)
    if len(axes) % 4 or not 2 <= len(axes) // 4 <= MOST_AXES:
        raise ValueError("it has a damaged header")
    shape = struct.unpack(f"{order}{len(axes) // 4}i", axes)
    if min(shape) < 0:
        raise ValueError("it has a negative size")
    name = _read_small(order, source).decode("latin-1")
    return Matrix(name, shape, code in NUMBERS and not is_complex, code == STRUCT, start)


def _read_numbers(order: str, source: _Bytes, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    kind, size, content = _read_tag(order, source)
    if kind not in STORED:
        raise ValueError("it has numbers of an unknown type")
    numbers = np.dtype(order + STORED[kind])
    if size != prod(shape) * numbers.itemsize:
        raise ValueError("its numbers are not as many as its sizes say")
    if content is None:
        content = source.read(size)
        source.skip(min(-size % 8, source.left))
    return _as_array(content, numbers, shape)


def _as_array(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return numbers that are stored column by column, in the byte order of this machine."""
    values = np.frombuffer(content, kind).reshape(shape, order="F")
    return np.ascontiguousarray(values, kind.newbyteorder("="))


def _old_matrices(file: BinaryIO) -> Iterator[tuple[Matrix, np.dtype[Any], int]]:
    """Yield the matrices of version 4: header, type, and where the numbers start."""
    start, end = 0, file.seek(0, os.SEEK_END)
    while start < end:
        file.seek(start)
        head = file.read(20)
        if len(head) < 20:
            raise ValueError("it ends early")
        order = "<" if struct.unpack("<i", head[:4])[0] in range(1000) else ">"
        form, rows, columns, is_complex, length = struct.unpack(order + "5i", head)
        precision, content = form // 10 % 10, form % 10
        if form // 100 != (0 if order == "<" else 10) or precision >= len(OLD) or content > 2:
            raise ValueError("it has no header of MATLAB")
        kind = np.dtype(order + OLD[precision])
        size = rows * columns * kind.itemsize * (2 if is_complex else 1)
        if min(rows, columns) < 0 or not 0 < length <= MOST_NAMES or start + 20 + length + size > end:
            raise ValueError("a size in it is larger than what is there")
        name = file.read(length).split(b"\0")[0].decode("latin-1")
        yield Matrix(name, (rows, columns), content == 0 and not is_complex, False, start), kind, start + 20 + length
        start += 20 + length + size

"""Masks as lengths of runs: those of COCO, plain and compressed, and those of Label Studio's brush."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fullconv.data.formats.shapes import Patch, Size
from fullconv.errors import DataError

__all__ = ["brush_area", "count_runs", "pack_counts", "read_counts", "run_area"]

Counts = npt.NDArray[np.int64] | npt.NDArray[np.int32]

CHANNELS = 4
"""Of a brush: red, green, blue and alpha, of which the last one says what is covered."""


def read_counts(counts: str | Sequence[int], size: Size) -> Counts:
    """COCO's `counts`, plain or compressed, as int64; DataError if they are not of an image of `size`."""
    pixels = size[0] * size[1]
    try:
        found = _unpacked(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    except OverflowError:
        raise DataError(f"a run is longer than the {size[1]}x{size[0]} of the image", code="damaged-shape") from None
    if len(found) == 0 or found.min() < 0 or found.max() > pixels or int(found.sum()) != pixels:
        told = f"{found.sum(dtype=np.float64):.0f}"
        problem = f"its runs cover {told} pixels, not the {size[1]}x{size[0]} of the image"
        raise DataError(problem, code="damaged-shape")
    return found


def run_area(counts: Counts, size: Size) -> Patch:
    """The pixels of COCO's run lengths: down the columns, from the left, first of pixels outside, then in turn."""
    inside = np.arange(len(counts)) % 2 == 1
    height, width = size
    return Patch(0, 0, np.repeat(inside, counts).reshape(width, height).T)


def count_runs(mask: npt.NDArray[np.bool_]) -> Counts:
    """The run lengths of an H x W mask, as `run_area` reads them."""
    column_major = np.concatenate([[False], mask.ravel(order="F"), [mask[-1, -1] ^ True]])
    return np.diff(np.flatnonzero(np.diff(column_major)), prepend=0)


def pack_counts(counts: Counts) -> str:
    """Run lengths as COCO compresses them into text.

    From the fourth on, a length is told as its difference from the one before the last. Numbers are cut into digits of
    five bits, the lowest first; a sixth bit says that more follow, and 48 is added to make a printable character. The
    highest bit of the last digit is the sign. Source: `rleToString` in `maskApi.c` of the COCO API.
    """
    letters = []
    numbers = counts.tolist()
    for index, count in enumerate(numbers):
        number = count - numbers[index - 2] if index > 2 else count
        more = True
        while more:
            digit = number & 31
            number >>= 5
            more = number != (-1 if digit & 16 else 0)
            letters.append(chr(digit + 32 * more + 48))
    return "".join(letters)


def _unpacked(text: str) -> Counts:
    """The inverse of `pack_counts`; DataError for text that it cannot have written."""
    digits = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise DataError("its compressed runs are damaged or cut short", code="damaged-shape")
    last = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    if lengths.max() > 8:
        raise DataError("its compressed runs are damaged or cut short", code="damaged-shape")
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((digits & 31) << (5 * place), starts)
    counts -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def brush_area(data: bytes, size: Size) -> Patch:
    """The pixels of a mask that was painted in Label Studio.

    A stream of bits, the highest of each byte first: 32 bits for the number of values, 5 for the bits of a value
    less 1, four times 4 for the bits of a length less 1. Then, until all values are told: 1 for a run of one value or
    0 for values one by one, 2 bits for which of the four lengths follows, the number of values less 1, and the value
    or values. They are the channels red, green, blue and alpha of the pixels row by row; covered is where alpha is not
    0. Sources: the encoder that it uses, `packages/rle-pack` of thi.ng/umbrella, and `brush.py` of its converter.
    """
    height, width = size
    try:
        values = _brush_values(data)
    except ValueError:
        raise DataError("a brush mask is damaged or cut short", code="truncated-file") from None
    if len(values) != height * width * CHANNELS:
        pixels = len(values) // CHANNELS
        problem = f"a brush mask has {pixels} pixels, not the {width}x{height} of the image"
        raise DataError(problem, code="damaged-shape")
    return Patch(0, 0, values.reshape(height, width, CHANNELS)[..., -1] > 0)


def _brush_values(data: bytes) -> npt.NDArray[np.int64]:
    """The values of the stream; ValueError if it ends too early."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).tobytes().translate(bytes.maketrans(b"\0\1", b"01"))
    position = 0

    def read(count: int) -> int:
        nonlocal position
        position += count
        if position > len(bits):
            raise ValueError("the stream ends too early")
        return int(bits[position - count : position], 2)

    total, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values, lengths, told = [], [], 0
    while told < total:
        is_run = read(1)
        length = read(widths[read(2)]) + 1
        if is_run:
            values.append(read(word))
            lengths.append(length)
        else:
            values += [read(word) for _ in range(length)]
            lengths += [1] * length
        told += length
    if told != total:
        raise ValueError("the last run is too long")
    return np.repeat(np.array(values, np.int64), lengths)

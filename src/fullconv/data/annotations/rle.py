"""Read and write masks as run lengths: COCO's, plain and compressed, and those of Label Studio's brush."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fullconv.arrays import Int32, Int64, Mask
from fullconv.data.annotations.shapes import Patch, Rasterizer, Size
from fullconv.errors import DataError

__all__ = ["Runs", "count_runs", "pack_counts", "rasterize_brush", "rasterize_runs", "read_counts"]

Counts = Int64 | Int32

CHANNELS = 4
"""Channels of a brush mask: red, green, blue and alpha. Pixels with alpha above 0 are covered."""


@dataclass(frozen=True)
class Runs:
    """A mask as COCO's run lengths, plain or compressed; `size` is height and width."""

    counts: str | list[int]
    size: Size

    def rasterizer(self, size: Size) -> Rasterizer:
        """Return the rasterizer for an image of `size`. Raises DataError if the runs do not fit it."""
        if self.size != size:
            height, width = self.size
            problem = f"its runs are for {width}x{height} (width x height), but its image is {size[1]}x{size[0]}"
            raise DataError(problem, code="damaged-shape")
        return partial(rasterize_runs, read_counts(self.counts, size).astype(np.int32))


def read_counts(counts: str | Sequence[int], size: Size) -> Counts:
    """Return COCO's `counts`, plain or compressed, as int64. Raises DataError if they do not fit an image of `size`."""
    pixels = size[0] * size[1]
    try:
        lengths = _unpack_counts(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    except OverflowError:
        raise DataError(f"a run is longer than the image of {size[1]}x{size[0]}", code="damaged-shape") from None
    if len(lengths) == 0 or lengths.min() < 0 or lengths.max() > pixels or int(lengths.sum()) != pixels:
        total = f"{lengths.sum(dtype=np.float64):.0f}"
        problem = f"its runs cover {total} pixels, but the image has {size[1]}x{size[0]}"
        raise DataError(problem, code="damaged-shape")
    return lengths


def rasterize_runs(counts: Counts, size: Size) -> Patch:
    """Return the pixels of COCO's run lengths.

    Runs go down the columns, from the left column to the right one. The first run is outside of the mask, the second
    inside, and so on.
    """
    inside = np.arange(len(counts)) % 2 == 1
    height, width = size
    return Patch(0, 0, np.repeat(inside, counts).reshape(width, height).T)


def count_runs(mask: Mask) -> Counts:
    """Return the run lengths of an H x W mask, as `rasterize_runs` reads them."""
    column_major = np.concatenate([[False], mask.ravel(order="F"), [mask[-1, -1] ^ True]])
    return np.diff(np.flatnonzero(np.diff(column_major)), prepend=0)


def pack_counts(counts: Counts) -> str:
    """Return run lengths in COCO's compressed text.

    From the fourth on, a length is stored as its difference from the length two places before. Numbers are cut into
    digits of five bits, the lowest first. A sixth bit marks that another digit follows, and 48 is added to make a
    printable character. The highest bit of the last digit is the sign. Source: `rleToString` in `maskApi.c` of the
    COCO API.
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


def _unpack_counts(text: str) -> Counts:
    """Invert `pack_counts`. Raises DataError for text that `pack_counts` cannot have written."""
    digits = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise DataError("its compressed runs are damaged or truncated", code="damaged-shape")
    last = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    if lengths.max() > 8:
        raise DataError("its compressed runs are damaged or truncated", code="damaged-shape")
    position = np.arange(len(digits)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((digits & 31) << (5 * position), starts)
    counts -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def rasterize_brush(data: bytes, size: Size) -> Patch:
    """Return the pixels of a mask that was painted in Label Studio.

    `data` is a stream of bits, the highest bit of each byte first. Its head is: the number of values (32 bits), the
    bits of a value less 1 (5 bits), and the bits of four kinds of lengths less 1 (4 bits each). Then blocks follow
    until all values are read. A block is: 1 for a run of one value or 0 for single values (1 bit), the kind of length
    (2 bits), the number of values less 1, and the value or values. The values are red, green, blue and alpha of all
    pixels, row by row. Pixels with alpha above 0 are covered.

    Sources: Label Studio's encoder, `packages/rle-pack` of thi.ng/umbrella, and `brush.py` of its converter.
    """
    height, width = size
    total = int.from_bytes(data[:4], "big")
    if len(data) >= 4 and total != height * width * CHANNELS:
        problem = f"a brush mask has {total // CHANNELS} pixels, but the image has {width}x{height}"
        raise DataError(problem, code="damaged-shape")
    try:
        values = _brush_values(data)
    except ValueError:
        raise DataError("a brush mask is damaged or truncated", code="truncated-file") from None
    return Patch(0, 0, values.reshape(height, width, CHANNELS)[..., -1])


def _brush_values(data: bytes) -> Mask:
    """Return which values of the stream are above 0. Raises ValueError if it ends too early."""
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
    values, lengths, count = [], [], 0
    while count < total:
        is_run = read(1)
        length = read(widths[read(2)]) + 1
        if is_run:
            values.append(read(word))
            lengths.append(length)
        else:
            values += [read(word) for _ in range(length)]
            lengths += [1] * length
        count += length
    if count != total:
        raise ValueError("the last run is too long")
    return np.repeat(np.array(values, np.int64) > 0, lengths)

"""Masks as the run lengths of Label Studio's brush; `data.annotations.rle.rasterize_brush` describes and reads them."""

from __future__ import annotations

import numpy as np

from fullconv.arrays import Mask

__all__ = ["encode_brush"]

CHANNELS = 4
WORD = 8
WIDTHS = (3, 4, 8, 16)
"""The bits of the four kinds of lengths."""


def encode_brush(mask: Mask) -> list[int]:
    """Return the bytes of an H x W mask: red, green, blue and alpha of its pixels are 255, of all others 0."""
    flat = mask.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * CHANNELS
    parts = [f"{flat.size * CHANNELS:032b}{WORD - 1:05b}", *(f"{width - 1:04b}" for width in WIDTHS)]
    longest = 1 << WIDTHS[-1]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        word = "1" * WORD if value else "0" * WORD
        for left in range(length, 0, -longest):
            count = min(left, longest) - 1
            kind = next(number for number, width in enumerate(WIDTHS) if count < 1 << width)
            parts.append(f"1{kind:02b}{count:0{WIDTHS[kind]}b}{word}")
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))

"""Writing of PNG files in bands of rows, so that the memory does not depend on the height.

Source: PNG specification, third edition (W3C). A file is a sequence of chunks: length, type, data, CRC-32. All rows
have filter type 0 (none), which suits label maps, and form one zlib stream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import UsageError

__all__ = ["write_png"]

LONGEST = 2**31 - 1
COLOR_TYPES = {1: 3, 3: 2}
"""The colour type of the specification by the number of channels: 1 is indexed, 3 is RGB."""


def write_png(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[UInt8],
    palette: UInt8 | None,
    level: int = 6,
) -> None:
    """Write an image of `size` (height, width) from bands of rows, h x W or h x W x 3 uint8, in order from the top.

    With `palette`, 256 x 3 uint8 RGB, the bands hold its indices; without, they hold RGB. `level` is zlib's compression
    level, 0 to 9. Raises UsageError for images that are too large for PNG.
    """
    height, width = size
    channels = 3 if palette is None else 1
    if max(size) > LONGEST:
        raise UsageError(
            f"{path}: {width} x {height} pixels do not fit in a .png file; use .tif", code="image-too-large-for-format"
        )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0))
        if palette is not None:
            _write_chunk(file, b"PLTE", palette.tobytes())
        stream = zlib.compressobj(level)
        for band in bands:
            rows = np.zeros((len(band), 1 + width * channels), np.uint8)  # each row begins with its filter type
            rows[:, 1:] = band.reshape(len(band), -1)
            _write_data(file, stream.compress(rows.tobytes()))
        _write_data(file, stream.flush())
        _write_chunk(file, b"IEND", b"")


def _write_data(file: IO[bytes], packed: bytes) -> None:
    if packed:
        _write_chunk(file, b"IDAT", packed)


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

"""PNG written row by row: of any height in the memory of a band.

The format is that of the PNG specification, third edition (W3C): chunks of length, type, data and CRC-32; rows of
filter type 0 (none), which suits label maps, through one zlib stream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from fullconv.errors import UsageError

__all__ = ["write_png"]

LONGEST = 2**31 - 1
COLOR_TYPES = {1: 3, 3: 2}
"""Channels to the colour types of the specification: 1 indexed, 3 RGB."""


def write_png(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[npt.NDArray[np.uint8]],
    palette: npt.NDArray[np.uint8] | None,
    level: int = 6,
) -> None:
    """Write an image of `size` (height, width) that comes in bands, h x W or h x W x 3 uint8, from the top.

    With `palette`, 256 x 3 uint8 RGB, the bands hold indices, without one RGB. `level` is zlib's, 0 to 9.
    """
    height, width = size
    channels = 3 if palette is None else 1
    if max(size) > LONGEST:
        raise UsageError(f"{path}: {height} x {width} pixels are more than PNG can hold; write TIFF")
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0))
        if palette is not None:
            _chunk(file, b"PLTE", palette.tobytes())
        stream = zlib.compressobj(level)
        for band in bands:
            rows = np.zeros((len(band), 1 + width * channels), np.uint8)  # each row begins with its filter type
            rows[:, 1:] = band.reshape(len(band), -1)
            _data(file, stream.compress(rows.tobytes()))
        _data(file, stream.flush())
        _chunk(file, b"IEND", b"")


def _data(file: IO[bytes], packed: bytes) -> None:
    if packed:
        _chunk(file, b"IDAT", packed)


def _chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

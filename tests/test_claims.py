"""Sizes in headers against the bytes of the file."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.images import read_header, read_image
from fullconv.images.label_map import read_label_map
from refusals import refuses


def put_png(path: Path, width: int, height: int, bits: int, color: int, content: bytes) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", content), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("color", [0, 2, 6])
def test_png_headers_that_the_bytes_cannot_hold_are_refused(tmp_path: Path, color: int) -> None:
    put_png(tmp_path / "a.png", 30000, 30000, 8, color, zlib.compress(bytes(30001)))
    with refuses("too-large", "30000 x 30000"):
        read_header(tmp_path / "a.png")


def test_a_constant_mask_of_one_bit_is_read_at_any_size(tmp_path: Path) -> None:
    side, packer = 30000, zlib.compressobj(9)
    rows = b"".join([packer.compress(bytes(side // 8 + 1)) for _ in range(side)] + [packer.flush()])
    put_png(tmp_path / "a.png", side, side, 1, 0, rows)
    assert (tmp_path / "a.png").stat().st_size < 150_000
    assert read_header(tmp_path / "a.png").stored == (side, side)


def test_a_constant_mask_above_the_limit_is_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8300, 8300), np.uint8)).save(tmp_path / "a.png", compress_level=9)
    assert (read_label_map(tmp_path / "a.png") == 1).all()


def test_jpeg_and_webp_headers_that_the_bytes_cannot_hold_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    (tmp_path / "a.jpg").write_bytes(content)
    with refuses("too-large", "65500 x 65500"):
        read_header(tmp_path / "a.jpg", None)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", lossless=True)
    content = bytearray((tmp_path / "a.webp").read_bytes())
    at = content.index(b"VP8L") + 9
    content[at : at + 4] = struct.pack("<I", 16382 | 16382 << 14)
    (tmp_path / "a.webp").write_bytes(content)
    with refuses("too-large", "16383 x 16383", "save it as PNG"):
        read_header(tmp_path / "a.webp")


def test_tiff_headers_that_the_bytes_cannot_hold_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    for tag in (256, 257):
        old = struct.pack("<HHI", tag, 4, 1) + struct.pack("<I", 8)
        short = struct.pack("<HHI", tag, 3, 1) + struct.pack("<I", 8)
        new = struct.pack("<HHI", tag, 4, 1) + struct.pack("<I", 32000)
        content = content.replace(old, new).replace(short, new)
    (tmp_path / "a.tif").write_bytes(content)
    with refuses("too-large", "32000 x 32000"):
        read_header(tmp_path / "a.tif")


def test_chunks_that_state_more_bytes_than_the_file_has_take_no_memory(tmp_path: Path) -> None:
    put_png(tmp_path / "a.png", 8, 8, 8, 0, zlib.compress(bytes(72)))
    content = bytearray((tmp_path / "a.png").read_bytes())
    at = content.index(b"IDAT") - 4
    content[at : at + 4] = struct.pack(">I", 2**32 - 1)
    (tmp_path / "a.png").write_bytes(content)
    tracemalloc.start()
    try:
        assert np.array_equal(read_label_map(tmp_path / "a.png"), np.zeros((8, 8)))  # all its rows are there
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tag", [277, 258])
@pytest.mark.parametrize("kind", [1, 2])
def test_numbers_of_tiffs_that_are_stored_as_bytes_or_text_are_a_fault(tmp_path: Path, tag: int, kind: int) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    start = content.index(struct.pack("<HH", tag, 3))
    content = content[:start] + struct.pack("<HHI", tag, kind, 1) + b"\x03\0\0\0" + content[start + 12 :]
    (tmp_path / "a.tif").write_bytes(content)
    for read in (read_header, read_image):
        with refuses("truncated-file", f"its tag {tag} is not a number"):
            read(tmp_path / "a.tif")
    with refuses("not-an-image"):
        read_label_map(tmp_path / "a.tif")

"""Windows of an image have the same pixels as the whole image, with every decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.arrays import Mask, UInt8
from fullconv.images import InputFormat, open_image, read_image
from fullconv.images.decoders.base import RowCache
from geotiffs import geotiff, picture
from refusals import refuses


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 1), ("float32", 1), ("int32", 1), ("uint8", 1), ("uint8", 3)])
def test_pixels_in_windows_equal_those_of_read_image(tmp_path: Path, reader: str, dtype: str, bands: int) -> None:
    pixels = picture(40, 50, bands, dtype) // (1 if dtype != "int32" else 65536)
    whole = read_image(geotiff(tmp_path / "a.tif", pixels)).pixels
    with open_image(tmp_path / "a.tif") as raster:
        for rows, columns in ((range(40), range(50)), (range(7, 39), range(20, 50)), (range(3, 4), range(49, 50))):
            window, empty = raster.read(rows, columns)
            np.testing.assert_array_equal(window, whole[rows.start : rows.stop, columns.start : columns.stop])
            assert empty is None


@pytest.mark.parametrize("kind", ["palette", "white at 0", "1 bit", "rotated"])
def test_windows_of_rare_kinds_of_tiff_equal_the_whole_image(tmp_path: Path, reader: str, kind: str) -> None:
    image = Image.fromarray(picture(40, 50).astype(np.uint8))
    path = tmp_path / "a.tif"
    if kind == "palette":
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    elif kind == "1 bit":
        image.convert("1").save(path)
    elif kind == "white at 0":
        tifffile.imwrite(path, np.asarray(image.convert("L")), photometric="miniswhite")
    else:
        image.save(path, tiffinfo={274: 6})
    whole = read_image(path).pixels
    with open_image(path) as raster:
        assert raster.size == whole.shape[:2]
        np.testing.assert_array_equal(raster.read(range(5, 30), range(3, 33))[0], whole[5:30, 3:33])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "images", [InputFormat(3), InputFormat(1), InputFormat(3, (0, 2000)), InputFormat(1, (0, 2000))]
)
def test_white_at_0_is_white_with_any_number_of_channels_and_range(
    tmp_path: Path, reader: str, dtype: str, images: InputFormat
) -> None:
    grey = picture(20, 33, 1, dtype)[..., 0]
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "black.tif", grey, photometric="minisblack")
    white, black = (read_image(tmp_path / f"{name}.tif", images).pixels for name in ("white", "black"))
    np.testing.assert_array_equal(white, 255 - black)


def test_16_bit_colours_are_read_by_their_high_byte_and_a_note_names_unread_bands(tmp_path: Path, reader: str) -> None:
    pixels = picture(20, 33, 5, "uint16")
    with open_image(geotiff(tmp_path / "a.tif", pixels, photometric="minisblack")) as raster:
        np.testing.assert_array_equal(raster.read(range(20), range(33))[0], pixels[..., :3] >> 8)
        assert raster.note == "5 bands, of which the first 3 are read"


def test_values_outside_the_range_raise_an_error(tmp_path: Path, reader: str) -> None:
    path = geotiff(tmp_path / "a.tif", picture(20, 33, 1, "float32") * 7)
    with open_image(path) as raster, refuses("value-range", path):
        raster.read(range(20), range(33))


class Rows:
    """A reader of noise, stored by rows, that counts how often each row is read."""

    by_rows, geo, note, block_bytes, masked = True, None, "", 0, True

    def __init__(self, height: int, width: int) -> None:
        self.size, self.pixels = (height, width), picture(height, width).astype(np.uint8)
        self.times = np.zeros(height, int)

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask]:
        self.times[rows.start : rows.stop] += 1
        window = self.pixels[rows.start : rows.stop, columns.start : columns.stop]
        return window, window[..., 0] > 200


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), min_size=1, max_size=6))
def test_row_cache_gives_each_window_and_reads_each_row_once(height: int, moves: list[tuple[int, int]]) -> None:
    source, top = Rows(height, 7), 0
    bands = RowCache(source)
    for step, length in moves:
        top = min(top + step, height - 1)
        rows = range(top, min(top + max(length, len(bands._rows) - step), height))
        window, empty = bands.read(rows, range(2, 6))
        expected = source.pixels[rows.start : rows.stop, 2:6]
        np.testing.assert_array_equal(window, expected)
        np.testing.assert_array_equal(empty if empty is not None else False, expected[..., 0] > 200)
    assert source.times.max() == 1


def test_blocks_above_the_limit_raise_an_error(tmp_path: Path, reader: str) -> None:
    path = geotiff(tmp_path / "a.tif", picture(70, 90))
    block_bytes = 32 * 16 * 3
    with open_image(path, max_block_bytes=block_bytes):
        pass
    with refuses("too-large", path), open_image(path, max_block_bytes=block_bytes - 1):
        pass

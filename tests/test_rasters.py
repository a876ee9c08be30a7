"""Windows of images hold what the whole image does, whoever reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.errors import DataError
from fullconv.images import open_image, read_image
from fullconv.images.decoders.base import RowCache
from geotiffs import geotiff, picture

UInt8 = npt.NDArray[np.uint8]


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 1), ("float32", 1), ("int32", 1), ("uint8", 1), ("uint8", 3)])
def test_windows_hold_what_read_image_gives(tmp_path: Path, reader: str, dtype: str, bands: int) -> None:
    pixels = picture(40, 50, bands, dtype) // (1 if dtype != "int32" else 65536)
    whole = read_image(geotiff(tmp_path / "a.tif", pixels)).pixels
    with open_image(tmp_path / "a.tif") as raster:
        for rows, columns in ((range(40), range(50)), (range(7, 39), range(20, 50)), (range(3, 4), range(49, 50))):
            window, empty = raster.read(rows, columns)
            np.testing.assert_array_equal(window, whole[rows.start : rows.stop, columns.start : columns.stop])
            assert empty is None


@pytest.mark.parametrize("kind", ["palette", "white at 0", "1 bit", "rotated"])
def test_so_do_those_of_the_rarer_kinds(tmp_path: Path, reader: str, kind: str) -> None:
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


def test_16_bit_colours_take_the_high_byte_and_more_bands_are_told(tmp_path: Path, reader: str) -> None:
    pixels = picture(20, 33, 5, "uint16")
    with open_image(geotiff(tmp_path / "a.tif", pixels, photometric="minisblack")) as raster:
        np.testing.assert_array_equal(raster.read(range(20), range(33))[0], pixels[..., :3] >> 8)
        assert raster.note == "5 bands, of which the first 3 are read"


def test_values_beyond_the_scale_are_refused(tmp_path: Path, reader: str) -> None:
    path = geotiff(tmp_path / "a.tif", picture(20, 33, 1, "float32") * 7)
    with open_image(path) as raster, pytest.raises(DataError, match=r"a\.tif: grey values from"):
        raster.read(range(20), range(33))


class Rows:
    """A raster of noise, stored by rows, that counts how often each row is read."""

    by_rows, geo, note, block_bytes, masked = True, None, "", 0, True

    def __init__(self, height: int, width: int) -> None:
        self.size, self.pixels = (height, width), picture(height, width).astype(np.uint8)
        self.times = np.zeros(height, int)

    def read(self, rows: range, columns: range) -> tuple[UInt8, npt.NDArray[np.bool_]]:
        self.times[rows.start : rows.stop] += 1
        window = self.pixels[rows.start : rows.stop, columns.start : columns.stop]
        return window, window[..., 0] > 200


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), min_size=1, max_size=6))
def test_bands_hold_what_was_asked_for_and_go_down_once(height: int, moves: list[tuple[int, int]]) -> None:
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


def test_a_block_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.setattr("fullconv.images.reader.LARGEST_BLOCK", 1000)
    with (
        pytest.raises(DataError, match="write the file in tiles"),
        open_image(geotiff(tmp_path / "a.tif", picture(70, 90))),
    ):
        pass

"""Photos as tiles: each level shows the photo, however the file is read, within bounds of memory and disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.images import RGB, InputFormat, open_image, read_image, rgb_view
from fullconv.images.decoders.base import ReducingReader
from fullconv.label.pyramid import Pyramid, count_levels, tile_window
from fullconv.label.store.session import open_session
from label_folder import make_photo
from refusals import refuses

SIZE = (2100, 2304)
"""More pixels than are decoded whole in every case."""


def draw() -> UInt8:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 200, (30, 33, 3), dtype=np.uint8))
    return np.asarray(small.resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))


def write_tiff(path: Path, bands: Any, overviews: bool = False, **options: Any) -> None:
    shape = {"height": SIZE[0], "width": SIZE[1], "count": len(bands), "dtype": bands.dtype}
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 5, 0, -2, 5)}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **tiles, **options) as target:
        target.write(bands)
        if overviews:
            target.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)


def write(kind: str, folder: Path) -> tuple[Path, InputFormat]:
    rgb = draw()
    bands = np.moveaxis(rgb, -1, 0)
    path = folder / f"photo.{'npy' if kind == 'array' else kind if kind in ('png', 'jpg') else 'tif'}"
    if kind in ("png", "jpg"):
        Image.fromarray(rgb).save(path, compress_level=1)
    elif kind == "array":
        np.save(path, rgb)
    elif kind == "16 bits":
        write_tiff(path, (bands[:1].astype(np.uint16) * 20 + 100), compress="lzw")
        return path, InputFormat(3, (100, 5200))
    elif kind == "five bands":
        write_tiff(path, np.concatenate([bands, bands[:2]]))
        return path, InputFormat(5)
    else:
        write_tiff(path, bands, overviews=kind == "overviews", photometric="rgb", compress="deflate")
    return path, RGB


@pytest.mark.parametrize("kind", ["png", "jpg", "array", "tiles", "overviews", "16 bits", "five bands"])
def test_every_level_shows_the_photo(tmp_path: Path, kind: str) -> None:
    path, input = write(kind, tmp_path)
    truth = rgb_view(read_image(path, input).pixels).astype(np.float64)
    pyramid = Pyramid(tmp_path / "cache", input)
    assert count_levels(SIZE) == 4
    for level in range(4):
        side = 1 << level
        for column, row in ((0, 0), ((SIZE[1] - 1) // (512 << level), (SIZE[0] - 1) // (512 << level))):
            shown = np.asarray(Image.open(io.BytesIO(pyramid.tile(path, SIZE, level, column, row))))
            rows, columns = tile_window(SIZE, level, column, row)
            assert shown.shape == (-(-len(rows) // side), -(-len(columns) // side), 3)
            height, width = len(rows) // side, len(columns) // side
            part = truth[rows.start : rows.start + height * side, columns.start : columns.start + width * side]
            means = part.reshape(height, side, width, side, 3).mean((1, 3))
            assert np.abs(shown[:height, :width] - means).mean() < 3
            assert pyramid.tile(path, SIZE, level, column, row) == pyramid.tile(path, SIZE, level, column, row)
    window = pyramid.window(path, SIZE, range(300, 400), range(1000, 1200))
    assert (window == truth[300:400, 1000:1200]).all()
    for tile in ((4, 0, 0), (0, 5, 0), (0, 0, 5), (-1, 0, 0), (3, 1, 0)):
        with refuses("no-tile"):
            pyramid.tile(path, SIZE, *tile)


def test_tiles_of_large_photos_come_from_the_disk_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, input = write("tiles", tmp_path)
    first = Pyramid(tmp_path / "cache", input).tile(path, SIZE, 2, 1, 1)
    later = Pyramid(tmp_path / "cache", input)
    monkeypatch.setattr(Pyramid, "_reduced_tile", lambda *_: pytest.fail("it was read again"))
    assert later.tile(path, SIZE, 2, 1, 1) == first
    assert later._disk.key(path, InputFormat(3, (0, 9)), 2, 1, 1) != later._disk.key(path, input, 2, 1, 1)


def test_memory_and_disk_are_bounded(tmp_path: Path) -> None:
    photos = [tmp_path / f"{number}.png" for number in range(4)]
    for path in photos:
        make_photo(path, (600, 600))
    pyramid = Pyramid(tmp_path / "cache", RGB, memory_bytes=3_000_000, disk_bytes=40_000)
    for path in photos:
        pyramid.tile(path, (600, 600), 0, 0, 0)
    assert list(pyramid._decoded) == photos[-2:]
    large, _ = write("tiles", tmp_path)
    for column in range(3):
        for row in range(3):
            pyramid.tile(large, SIZE, 1, min(column, 2), min(row, 2))
    kept = list((tmp_path / "cache").iterdir())
    assert 0 < sum(path.stat().st_size for path in kept) <= 40_000
    assert {path.name for path in kept} == set(pyramid._disk._sizes)


def test_deep_images_get_one_range_for_display_and_learning(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    path, _ = write("16 bits", photos)
    with open_session(photos) as store:
        low, high = store.input.value_range or (0, 0)
        assert 0 <= low <= 200
        assert 3000 < high < 5000
        pixels = Pyramid(tmp_path / "cache", store.input).window(path, SIZE, range(500), range(500))
        assert pixels.std() > 30
    assert f"range: [{low}, {high}]" in (store.data / "dataset.yaml").read_text("utf-8")
    with open_session(photos) as again:
        assert again.input == store.input


@pytest.mark.parametrize("kind", ["tiles", "16 bits", "five bands", "nodata"])
def test_a_sparse_read_is_the_read_of_every_second_pixel(tmp_path: Path, kind: str) -> None:
    path, input = write("tiles" if kind == "nodata" else kind, tmp_path)
    if kind == "nodata":
        write_tiff(path, np.moveaxis(draw(), -1, 0), photometric="rgb", nodata=7)
    rows, columns = range(101, 730), range(33, 2000)
    with open_image(path, input) as reader:
        assert isinstance(reader, ReducingReader)
        whole, empty = reader.read(rows, columns)
        assert (empty is not None) == (kind == "nodata")
        np.testing.assert_array_equal(reader.read_sparse(rows, columns, 2), whole[::2, ::2])

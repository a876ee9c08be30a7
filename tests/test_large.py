"""Images read, labelled and written in windows get the labels of the whole image, even after a killed process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.errors import MissingExtra
from fullconv.images import open_image, read_image, read_label_map
from fullconv.images.decoders.base import RowCache
from fullconv.images.png import write_png
from fullconv.predict.large import large_targets, predict_large
from fullconv.predict.outputs import DEFAULT_SAVES
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.predict.resumable import read_progress
from fullconv.runtime.tiles import TiledRunner
from geotiffs import LABELS, TRANSFORM, Shifted, geotiff, hide, picture
from refusals import matches, refuses

UInt8 = npt.NDArray[np.uint8]


def test_label_map_of_a_small_geotiff_is_georeferenced(tmp_path: Path, reader: str) -> None:
    pixels = picture(30, 40)
    pixels[5:9, 6:20] = 0
    path = geotiff(tmp_path / "a.tif", pixels, nodata=0)
    kinds = {"labels", "overlay", *(["areas"] if reader == "rasterio" else [])}  # areas of a GeoTIFF need rasterio
    report = predict_files(Shifted(), [path], tmp_path / "out", PredictOptions(kinds))
    assert not report.failed
    expected = Shifted().label_maps(pixels[None])[0]
    expected[(pixels == 0).all(2)] = 255
    with rasterio.open(tmp_path / "out" / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert (dataset.crs, dataset.transform, dataset.nodata) == ("EPSG:32633", TRANSFORM, 255)
    assert (tmp_path / "out" / "overlays" / "a.jpg").is_file()
    assert not (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"tiled": False}, {"interleave": "band"}])
def test_label_map_of_a_tiled_geotiff_is_georeferenced_and_equals_that_of_the_whole_image(
    tmp_path: Path, reader: str, options: dict[str, object]
) -> None:
    pixels = picture(70, 90)
    path = geotiff(tmp_path / "a.tif", pixels, **options)
    runner = TiledRunner(Shifted(), 32)
    targets = large_targets(path, {"labels": tmp_path / "out" / "a.png", "overlay": tmp_path / "out" / "a.jpg"})
    assert targets == {"labels": tmp_path / "out" / "a.tif", "overlay": tmp_path / "out" / "a.tif"}
    calls: list[tuple[int, int]] = []
    result = predict_large(runner, path, {"labels": targets["labels"]}, lambda *call: calls.append(call))
    expected = Shifted().label_maps(pixels[None])[0]
    with rasterio.open(targets["labels"]) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert (dataset.crs, dataset.transform, dataset.nodata) == ("EPSG:32633", TRANSFORM, 255)
        assert dataset.colormap(1)[1][:3] == LABELS.palette[1]
        assert dataset.profile["tiled"]
        assert dataset.profile["compress"] == "deflate"
    assert result.size == (70, 90)
    assert sum(result.counts) == 70 * 90
    assert result.counts[:3] == tuple(np.bincount(expected.ravel(), minlength=3))
    assert calls == [(n + 1, result.tiles) for n in range(result.tiles)]
    assert result.tiles > 4
    assert os.listdir(tmp_path / "out") == ["a.tif"]


@pytest.mark.parametrize("nodata", [0, np.nan, None])
def test_pixels_without_data_get_the_ignored_label(tmp_path: Path, reader: str, nodata: float | None) -> None:
    """Pixels have no data by a value, also NaN, or by alpha (with GDAL); the network skips tiles without data."""
    if nodata is None and reader == "tifffile":
        pytest.skip("alpha is dropped without GDAL")
    pixels = picture(64, 64, 4 if nodata is None else 3, "float32" if nodata != nodata else "uint8")
    pixels[..., :3] = np.maximum(pixels[..., :3], 1 if pixels.dtype == np.uint8 else 0)
    pixels[:40, :50] = 0 if nodata is None else nodata
    if nodata is None:
        pixels[40:, :, 3] = pixels[:, 50:, 3] = 255
        path = geotiff(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    else:
        path = geotiff(tmp_path / "a.tif", pixels, nodata=nodata)
    runner = Shifted()
    result = predict_large(TiledRunner(runner, 16), path, {"labels": tmp_path / "b.tif"})
    with rasterio.open(tmp_path / "b.tif") as dataset:
        labels = dataset.read(1)
        np.testing.assert_array_equal(dataset.dataset_mask() == 0, labels == 255)
    empty = np.zeros((64, 64), bool)
    empty[:40, :50] = True
    np.testing.assert_array_equal(labels == 255, empty)
    assert runner.calls - 1 < result.tiles * 3 / 4
    values = np.rint(pixels * 255) if pixels.dtype == np.float32 else pixels
    known = np.where(empty[..., None], 0, values)[..., :3]
    np.testing.assert_array_equal(labels[~empty], Shifted().label_maps(known.astype(np.uint8)[None])[0][~empty])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_files_stored_by_rows_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, suffix: str
) -> None:
    monkeypatch.setattr("fullconv.images.reader.MAX_IN_MEMORY_PIXELS", 1000)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture(70, 41).astype(np.uint8)).save(path, **({"subsampling": 0} if suffix == ".jpg" else {}))
    whole = read_image(path).pixels
    predict_large(TiledRunner(Shifted(), 24), path, {"labels": tmp_path / "b.png"})
    np.testing.assert_array_equal(read_label_map(tmp_path / "b.png"), Shifted().label_maps(whole[None])[0])
    with open_image(path) as raster:
        assert isinstance(raster, RowCache) == (reader == "rasterio" or suffix == ".tif")


def test_overlay_of_a_large_image_is_written_on_request(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", np.full((70, 90, 3), (200, 10, 60), np.uint8))
    predict_large(TiledRunner(Shifted(), 32), path, {"overlay": tmp_path / "c.tif"})
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert (dataset.crs, dataset.transform) == ("EPSG:32633", TRANSFORM)
        middle = dataset.read(window=((20, 40), (20, 40)))
    assert np.abs(middle.mean((1, 2)) - np.array([100, 5, 30])).max() < 3  # half of it black, the colour of class 0


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 9),
    st.booleans(),
)
def test_streamed_png_has_the_pixels_and_palette(height: int, width: int, band: int, indexed: bool) -> None:
    pixels = picture(height, width, seed=height).astype(np.uint8)
    pixels = pixels[..., 0] if indexed else pixels
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8) if indexed else None
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fullconv-{os.getpid()}.png"
    try:
        write_png(path, (height, width), (pixels[top : top + band] for top in range(0, height, band)), palette)
        with Image.open(path) as image:
            assert image.mode == ("P" if indexed else "RGB")
            np.testing.assert_array_equal(np.asarray(image), pixels)
            if palette is not None:
                assert bytes(image.getpalette() or []) == palette.tobytes()
    finally:
        path.unlink(missing_ok=True)


class Stopped(Exception):
    pass


@contextmanager
def stopping(after: int) -> Iterator[Callable[[int, int], None]]:
    """Yield an `on_tile` that stops the work after this number of tiles."""

    def on_tile(done: int, tiles: int) -> None:
        if done == after:
            raise Stopped

    with pytest.raises(Stopped):
        yield on_tile


def test_stopped_work_resumes_after_the_last_complete_tile(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", picture(70, 90))
    first, second = Shifted(), Shifted()
    with stopping(5) as on_tile:
        predict_large(TiledRunner(first, 32), path, {"labels": tmp_path / "b.tif"}, on_tile=on_tile)
    journal = tmp_path / ".b.tif.journal"
    journal.write_bytes(journal.read_bytes() + b"6")  # an incomplete last line
    result = predict_large(TiledRunner(second, 32), path, {"labels": tmp_path / "b.tif"})
    assert result.resumed == 5
    assert second.calls == 1 + result.tiles - 5
    predict_large(TiledRunner(Shifted(), 32), path, {"labels": tmp_path / "c.tif"})
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "c.tif").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif", "c.tif"]


class Other(Shifted):
    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        return super().logits(images) * np.array([1, 1, 1.01], np.float32)[:, None, None]


class Rounded(Shifted):
    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        return super().logits(images) * np.float32(1.000001)


@pytest.mark.parametrize("change", ["image", "model", "tile", "part", "journal", "rounding"])
def test_changed_inputs_restart_the_work(tmp_path: Path, change: str) -> None:
    path, target = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "b.tif"
    with stopping(5) as on_tile:
        predict_large(TiledRunner(Shifted(), 32), path, {"labels": target}, on_tile=on_tile)
    if change == "image":
        geotiff(path, picture(70, 90, seed=1))
    elif change == "part":
        (tmp_path / ".b.tif.part").write_bytes(b"short")
    elif change == "journal":
        (tmp_path / ".b.tif.journal").write_bytes(b"{}\n1\n")
    runner = {"model": Other, "rounding": Rounded}.get(change, Shifted)()
    result = predict_large(TiledRunner(runner, 40 if change == "tile" else 32), path, {"labels": target})
    assert result.resumed == (5 if change == "rounding" else 0)
    with rasterio.open(target) as dataset, rasterio.open(path) as source:
        expected = runner.label_maps(np.moveaxis(source.read(), 0, -1)[None])[0]
        np.testing.assert_array_equal(dataset.read(1), expected)


KILLED = """
import os, signal, sys
from pathlib import Path
from geotiffs import Shifted
from fullconv.predict.large import predict_large
from fullconv.runtime.tiles import TiledRunner
def on_tile(done, tiles):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
predict_large(TiledRunner(Shifted(), 32), Path(sys.argv[1]), {"labels": Path(sys.argv[2])}, on_tile)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_process_loses_one_tile(tmp_path: Path) -> None:
    path, target = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "b.tif"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.run([sys.executable, "-c", KILLED, path, target, "7"], env=environment, check=False)
    assert run.returncode == -signal.SIGKILL
    assert not target.exists()
    assert predict_large(TiledRunner(Shifted(), 32), path, {"labels": target}).resumed == 7
    with rasterio.open(target) as dataset:
        expected = Shifted().label_maps(read_image(path).pixels[None])[0]
        np.testing.assert_array_equal(dataset.read(1), expected)


def test_image_is_decoded_whole_without_rasterio_and_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "rasterio", "tifffile")
    path = geotiff(tmp_path / "a.tif", picture(70, 90))
    predict_large(TiledRunner(Shifted(), 32), path, {"labels": tmp_path / "b.png"})
    expected = Shifted().label_maps(read_image(path).pixels[None])[0]
    np.testing.assert_array_equal(read_label_map(tmp_path / "b.png"), expected)
    with refuses("missing-extra", tmp_path / "b.tif", "[geo]"):
        predict_large(TiledRunner(Shifted(), 32), path, {"labels": tmp_path / "b.tif"})


def test_a_damaged_large_image_raises_an_error_of_one_sentence(tmp_path: Path, reader: str) -> None:
    path = geotiff(tmp_path / "a.tif", picture(256, 256), compress="deflate")
    path.write_bytes(path.read_bytes()[:90000])
    with refuses("truncated-file" if reader == "rasterio" else "unsupported-format", path) as refusal:
        predict_large(TiledRunner(Shifted(), 64), path, {"labels": tmp_path / "b.tif"})
    assert "\n" not in refusal.message
    assert not (tmp_path / "b.tif").exists()
    assert read_progress(tmp_path / "b.tif")  # the next reading may succeed, as after an error of a network disk


def test_result_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", picture(70, 90))
    (tmp_path / "file").touch()
    with refuses("file-not-writable", tmp_path / "file"):
        predict_large(TiledRunner(Shifted(), 32), path, {"labels": tmp_path / "file" / "b.tif"})


def test_predict_files_predicts_only_large_images_in_windows(tmp_path: Path) -> None:
    """Large images get no overlay unless --save names it; no input is overwritten."""
    limit = 70 * 90 - 1
    pixels = picture(70, 90).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    Image.fromarray(pixels[:60]).save(tmp_path / "small.png")
    paths = [tmp_path / "large.png", tmp_path / "small.png"]
    tiles: list[tuple[int, int]] = []
    options = PredictOptions(on_tile=lambda *call: tiles.append(call), max_in_memory_pixels=limit)
    report = predict_files(Shifted(), paths, tmp_path / "out", options)
    assert report.done == tuple(paths)
    assert tiles == [(1, 1)]
    assert sorted(os.listdir(tmp_path / "out" / "overlays")) == ["small.jpg"]
    np.testing.assert_array_equal(read_label_map(tmp_path / "out" / "large.png"), Shifted().label_maps(pixels[None])[0])
    predict_files(Shifted(), paths[:1], tmp_path / "out", PredictOptions(DEFAULT_SAVES, max_in_memory_pixels=limit))
    assert sorted(os.listdir(tmp_path / "out" / "overlays")) == ["large.png", "small.jpg"]
    located = geotiff(tmp_path / "place.tif", picture(70, 90))
    report = predict_files(TiledRunner(Shifted(), 32), [located], tmp_path, PredictOptions(max_in_memory_pixels=limit))
    assert matches("overwrites-input", report.failed[0][1])
    options = PredictOptions(["polygons"], max_in_memory_pixels=limit)
    ((_, message),) = predict_files(Shifted(), paths[:1], tmp_path / "out", options).failed
    assert matches("too-large-for-results", message)
    assert "polygons" in message


def test_a_run_into_the_folder_of_a_large_image_resumes_but_replaces_no_file(tmp_path: Path) -> None:
    Image.fromarray(picture(70, 90).astype(np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_text("mine")
    options = PredictOptions(["labels"], max_in_memory_pixels=1000)
    ((_, message),) = predict_files(TiledRunner(Shifted(), 32), [tmp_path / "a.jpg"], tmp_path, options).failed
    assert matches("overwrites-file", message)
    assert (tmp_path / "a.png").read_text() == "mine"
    for name in (".a.png.journal", ".a.png.part"):  # the run that wrote a.png was interrupted before its overlay
        (tmp_path / name).touch()
    assert not predict_files(TiledRunner(Shifted(), 32), [tmp_path / "a.jpg"], tmp_path, options).failed


def test_a_georeference_that_cannot_be_read_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runner = geotiff(tmp_path / "a.tif", picture(70, 90)), Shifted()

    def fail(path: Path) -> None:
        raise MissingExtra("rasterio", "geo", path)

    monkeypatch.setattr("fullconv.predict.predict_files.read_georeference", fail)
    options = PredictOptions(["labels", "areas"], max_in_memory_pixels=1000)
    ((_, message),) = predict_files(runner, [path], tmp_path / "out", options).failed
    assert matches("missing-extra", message)
    assert runner.calls == 0

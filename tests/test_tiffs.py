"""A TIFF gets the same labels with tiles and without, by the command and from Python, for all kinds of TIFFs."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.control import GroundControlPoint

import command_line
from fullconv.images import georeference as geo
from fullconv.images import read_label_map
from fullconv.images.decoders.pillow import GEO_LOST
from fullconv.installation import pip_command
from fullconv.predict.large import predict_large
from fullconv.predict.model import Model
from fullconv.predict.outputs import DEFAULT_SAVES, SAVES
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.tiles import TiledRunner
from geotiffs import TRANSFORM, Shifted, geotiff, hide, picture
from image_kinds import SIZE, TIFFS, smooth
from refusals import refuses


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("kind", TIFFS)
def test_predict_writes_the_same_files_with_tiles_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reader: str, kind: str
) -> None:
    monkeypatch.setattr("fullconv.runtime.load.load_runner", lambda model, backend, code, **options: Shifted())
    saves = set(SAVES) - ({"areas", "polygons"} if reader == "tifffile" else set())  # these need rasterio
    path = tmp_path / "a.tif"
    TIFFS[kind](path)
    reported, made = [], []
    for tile in ((), ("--tile", "24")):
        out = tmp_path / f"out{len(made)}"
        code = command_line.predict(monkeypatch, tmp_path, path, *tile, "--out", out, "--save", ",".join(saves))
        reported.append((code, capsys.readouterr().err))
        made.append(files_of(out))
    assert made[0] == made[1]
    assert reported[0] == reported[1]
    if reader == "rasterio" or kind != "JPEG":
        assert reported[0][0] == 0
        assert len(made[0]) == len(saves)
    bands = {"five bands": "5 bands", "infrared": "4 bands"}.get(kind)
    assert reported[0][1] == (f"{path}: {bands}, of which the first 3 are read\n" if bands else reported[0][1])


@pytest.mark.parametrize("kind", ["mask", "nodata", "16 bits", "five bands"])
def test_python_writes_the_same_files_as_the_command(tmp_path: Path, kind: str) -> None:
    """Neither areas nor polygons count pixels without data, and the label map is georeferenced."""
    path = tmp_path / "a.tif"
    TIFFS[kind](path)
    predict_files(Shifted(), [path], tmp_path / "command", PredictOptions(SAVES))
    result = Model(Shifted()).predict(path)
    written = result.save(tmp_path / "python", SAVES)
    assert written["labels"] == tmp_path / "python" / "a.tif"
    assert files_of(tmp_path / "python") == files_of(tmp_path / "command")
    with rasterio.open(written["labels"]) as label_map:
        assert (label_map.crs, label_map.transform, label_map.nodata) == ("EPSG:32633", TRANSFORM, 255)
        np.testing.assert_array_equal(label_map.read(1), result.label_map)
    without = int((result.label_map == 255).sum())
    assert bool(without) == (kind in ("mask", "nodata"))
    assert sum(area.pixels for area in result.areas().values()) == result.label_map.size - without
    assert sum(part["properties"]["pixels"] for part in result.polygons()["features"]) == SIZE[0] * SIZE[1] - without
    assert result.note == ("5 bands, of which the first 3 are read" if kind == "five bands" else "")


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    path, corners = tmp_path / "a.tif", [(0, 0), (0, 90), (70, 0), (70, 90)]
    points = [GroundControlPoint(row, column, 5e5 + column, 4.6e6 - row) for row, column in corners]
    geotiff(path, smooth(), transform=None, gcps=points)
    predict_files(Shifted(), [path], tmp_path / "out", PredictOptions(["labels"]))
    with rasterio.open(tmp_path / "out" / "a.tif") as label_map:
        written, crs = label_map.gcps
        assert crs == "EPSG:32633"
        assert [(point.row, point.col, point.x, point.y) for point in written] == [
            (point.row, point.col, point.x, point.y) for point in points
        ]


def with_entry(path: Path, code: int, kind: int) -> Path:
    """Write a TIFF whose last tag is unknown to all programs."""
    Image.fromarray(smooth()).save(path, compression="tiff_deflate")
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    entry = start + 2 + 12 * (count - 1)
    struct.pack_into("<HHI", data, entry, code, kind, 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("code", "kind"), [(439, 53), (65000, 4), (3072, 9), (64000, 2**16 - 1)])
def test_tiffs_with_unknown_tags_are_labelled(tmp_path: Path, reader: str, code: int, kind: int) -> None:
    first, second = with_entry(tmp_path / "a.tif", code, kind), tmp_path / "b.png"
    Image.fromarray(smooth()).save(second)
    report = predict_files(Shifted(), [first, second], tmp_path / "out", PredictOptions(["labels"]))
    assert report.done == (first, second), report.failed
    np.testing.assert_array_equal(*(read_label_map(tmp_path / "out" / name) for name in ("a.png", "b.png")))


@pytest.mark.parametrize("kind", ["strips", "size"])
def test_damaged_tags_affect_only_that_image(tmp_path: Path, reader: str, kind: str) -> None:
    """Fewer strips than the rows need, and an impossible size."""
    path, other = tmp_path / "a.tif", tmp_path / "b.png"
    Image.fromarray(smooth()).save(other)
    tifffile.imwrite(path, smooth(), rowsperstrip=16, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        if kind == "strips":
            tags["StripOffsets"].overwrite(tags["StripOffsets"].value[:2])
            tags["StripByteCounts"].overwrite(tags["StripByteCounts"].value[:2])
        else:
            tags["ImageWidth"].overwrite(2**31, dtype="I")
            tags["ImageLength"].overwrite(2**31, dtype="I")
    for runner in (Shifted(), TiledRunner(Shifted(), 16)):
        report = predict_files(runner, [path, other], tmp_path / "out", PredictOptions(["labels"]))
        assert report.done[-1] == other
        assert all("a.tif" in message and "\n" not in message for _, message in report.failed)
        assert len(report.failed) == (kind == "size" or reader == "tifffile")


NOISY = """
import sys
from pathlib import Path
from image_kinds import SIZE, TIFFS, smooth
from geotiffs import Shifted
from fullconv.predict.outputs import SAVES
from fullconv.predict.predict_files import PredictOptions, predict_files
assert not predict_files(Shifted(), [Path(sys.argv[1])], Path(sys.argv[2]), PredictOptions(SAVES)).failed
"""


def test_libraries_print_nothing_about_damaged_tags(tmp_path: Path) -> None:
    """Tags whose data lie after the end of the file, and GeoTIFF keys without a transformation."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        smooth(),
        photometric="rgb",
        metadata=None,
        extratags=[(34735, 3, 4, (1, 1, 0, 0), True), (65001, 2, 0, "x" * 50, True)],
    )
    with tifffile.TiffFile(path) as file:
        entry = file.pages.first.tags[65001].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, entry + 4, 10**6)
    path.write_bytes(data)
    environment = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path]), "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", NOISY, path, tmp_path / "out"], capture_output=True, env=environment, check=True
    )
    assert run.stderr == b""


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fullconv.predict.predict_files"]


def test_a_lost_georeference_is_logged_once_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hide(monkeypatch, "rasterio", "tifffile")
    paths = [geotiff(tmp_path / name, smooth(), photometric="rgb") for name in ("a.tif", "b.tif")]
    Image.fromarray(smooth()).save(tmp_path / "c.tif")
    options = PredictOptions(["labels"])
    report = predict_files(Shifted(), [*paths, tmp_path / "c.tif"], tmp_path / "out", options)
    assert len(report.done) == 3
    lost = f"{GEO_LOST}; to keep them, run: {pip_command('geo')}"
    assert messages(caplog) == [lost]
    predict_files(Shifted(), [tmp_path / "c.tif"], tmp_path / "out", options)
    assert messages(caplog) == [lost]


def test_a_missing_extra_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = geotiff(tmp_path / "a.tif", smooth(), photometric="rgb")
    hide(monkeypatch, "rasterio")
    with refuses("missing-extra", path, "rasterio", "[geo]"):
        geo.read_georeference(path)


def test_kinds_that_a_large_image_cannot_have_are_logged_before_the_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limit = SIZE[0] * SIZE[1] - 1
    path, runner = geotiff(tmp_path / "a.tif", smooth()), Shifted()
    report = predict_files(
        runner, [path], tmp_path / "out", PredictOptions(["polygons", "probabilities"], max_in_memory_pixels=limit)
    )
    assert f"a.tif: has more than {limit:,} pixels, and polygons and probabilities would" in report.failed[0][1]
    assert runner.calls == 0
    assert not messages(caplog)
    options = PredictOptions(["labels", "labelme"], max_in_memory_pixels=limit)
    assert predict_files(runner, [path], tmp_path / "out", options).done == (path,)
    assert messages(caplog) == [
        f"{path}: has more than {limit:,} pixels: without labelme, which would need all of them in memory"
    ]


@pytest.mark.parametrize("late", [False, True])
def test_damaged_large_images_leave_only_their_stored_tiles(tmp_path: Path, late: bool) -> None:
    """Both if the damage is met by the labels, and if only by the overlay."""
    path = geotiff(tmp_path / "a.tif", picture(256, 256), compress="deflate")
    data = path.read_bytes()

    def cut(done: int, tiles: int) -> None:
        if done == tiles:
            path.write_bytes(data[:90000])

    if not late:
        cut(1, 1)
    options = PredictOptions(DEFAULT_SAVES, on_tile=cut if late else None, max_in_memory_pixels=1000)
    report = predict_files(TiledRunner(Shifted(), 64), [path], tmp_path / "out", options)
    assert "damaged or cut short" in report.failed[0][1]
    left = sorted(path.name for path in (tmp_path / "out").rglob("*") if "a.tif." in path.name)
    assert left == [".a.tif.journal", ".a.tif.part"]


def test_a_missing_library_for_writing_is_reported_before_the_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "rasterio", "tifffile")
    runner = Shifted()
    with refuses("missing-extra", tmp_path / "b.tif", "rasterio"):
        predict_large(runner, geotiff(tmp_path / "a.tif", smooth()), {"labels": tmp_path / "b.tif"})
    assert runner.calls == 0


def test_an_impossible_size_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[name].overwrite(2**31, dtype="I")
    with refuses("too-large", path, 2**31):
        Model(Shifted()).predict(path)

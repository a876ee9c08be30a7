"""Shares of one image have the labels of one machine; join names every share that is missing, damaged or different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

import command_line
from fullconv.cluster import records
from fullconv.cluster.blocks import block_folder, label_block, resume_shares
from fullconv.cluster.join import Joined, join_blocks
from fullconv.cluster.records import Share, list_records, read_record
from fullconv.errors import FullconvError
from fullconv.files import atomic_write
from fullconv.geometry.blocks import split_grid
from fullconv.geometry.tiles import Window
from fullconv.model_info import ModelInfo
from fullconv.predict.areas_table import read_areas
from fullconv.predict.large import predict_large
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner
from geotiffs import LABELS, TRANSFORM, Shifted, geotiff, picture
from refusals import refuses

UInt8 = npt.NDArray[np.uint8]


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_rectangles_cover_each_tile_once_and_are_about_equal(rows: int, columns: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(rows * columns, 100)))
    covered = np.zeros((rows, columns), int)
    parts = split_grid(rows, columns, count)
    for down, across in parts:
        covered[down.start : down.stop, across.start : across.stop] += 1
        assert down
        assert across
    assert (covered == 1).all()
    assert len(parts) == count


@pytest.mark.parametrize("count", [2, 3, 8, 16, 37, 64])
def test_shares_of_a_large_image_take_about_the_same_time(count: int) -> None:
    sizes = [len(rows) * len(columns) for rows, columns in split_grid(196, 196, count)]
    assert 196 * 196 / count / max(sizes) > 0.95


def test_more_shares_than_tiles_are_refused() -> None:
    with refuses("more-shares-than-tiles", "7 shares", 6):
        split_grid(2, 3, 7)


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "1/", "1/4/2", "a/b", "-1/4"])
def test_other_texts_than_a_share_are_refused(text: str) -> None:
    with refuses("invalid-share", text):
        Share.parse(text)


class Strided(Shifted):
    """A runner whose labels depend on the phase of a stride: wrong alignment of a block would change them."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.info = ModelInfo(LABELS, (Window(3, 5 + stride, stride), Window(0, 4 + stride, stride)), exact=True)

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        scores = super().logits(images)
        height, width = scores.shape[2:]
        rows, columns = np.arange(height) % self.stride, np.arange(width) % self.stride
        return scores + 100 * ((rows[:, None] + columns) % 3 == np.arange(3)[:, None, None]).astype(np.float32)


def label_all(runner: Runner, image: Path, out: Path, of: int, kinds: tuple[str, ...] = ("labels",)) -> None:
    for number in range(of, 0, -1):  # any order
        label_block(runner, image, out, Share(number, of), kinds)


def read(path: Path) -> tuple[UInt8, dict[str, Any]]:
    """Return the labels of a file, and its place, nodata value and colours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            labels: UInt8 = dataset.read(1)
            points = [(point.row, point.col, point.x, point.y) for point in dataset.gcps[0]]
            facts = {"crs": dataset.crs, "transform": dataset.transform, "nodata": dataset.nodata}
            return labels, facts | {"points": points, "crs of points": dataset.gcps[1], "colors": dataset.colormap(1)}


def check_equal(joined: Joined, whole: Path) -> None:
    """Assert that VRT and COG have the pixels, place, nodata value and colours of the result of one machine."""
    expected, reference = read(whole)
    assert joined.cog is not None
    for path in (joined.vrt, joined.cog):
        labels, facts = read(path)
        np.testing.assert_array_equal(labels, expected)
        assert facts == reference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(joined.cog) as cog:
            assert cog.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize(
    ("size", "stride", "tile", "of", "options"),
    [
        ((70, 90), 1, 32, 3, {}),
        ((613, 777), 1, 64, 7, {"nodata": 0}),
        ((613, 777), 8, 64, 4, {"nodata": 0, "compress": "deflate"}),
        ((1201, 599), 16, 96, 6, {"tiled": False}),
        ((777, 1030), 32, 128, 5, {"interleave": "band", "crs": "EPSG:4326"}),
        ((97, 101), 4, 40, 9, {"crs": None, "transform": None}),
    ],
)
def test_shares_have_the_labels_of_one_machine(
    tmp_path: Path, size: tuple[int, int], stride: int, tile: int, of: int, options: dict[str, object]
) -> None:
    pixels = picture(*size)
    pixels[10 : size[0] // 2, 5 : size[1] // 3] = 0
    pixels[-30:, -40:] = 0  # whole tiles without data
    options = {"blockxsize": 64, "blockysize": 64} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        image = geotiff(tmp_path / "a.tif", pixels, **options)
    runner = TiledRunner(Strided(stride), tile)
    predict_large(runner, image, {"labels": tmp_path / "whole.tif"})
    out = tmp_path / "out"
    label_all(runner, image, out, of)
    (joined,) = join_blocks(out, cog=True)
    assert (joined.size, joined.shares) == (size, of)
    check_equal(joined, tmp_path / "whole.tif")
    names = [f"{number}-of-{of}.{suffix}" for number in range(1, of + 1) for suffix in ("json", "tif")]
    assert sorted(os.listdir(out)) == ["a.blocks", "a.tif", "a.vrt"]
    assert sorted(os.listdir(out / "a.blocks")) == names


def test_ground_control_points_move_with_the_blocks(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c / 90, 50 - r / 70) for r, c in ((0, 0), (0, 90), (70, 0), (70, 90))]
    image = geotiff(tmp_path / "a.tif", picture(70, 90), transform=None, gcps=points, crs="EPSG:4326")
    runner = TiledRunner(Shifted(), 32)
    predict_large(runner, image, {"labels": tmp_path / "whole.tif"})
    label_all(runner, image, tmp_path / "out", 4)
    (joined,) = join_blocks(tmp_path / "out", cog=True)
    check_equal(joined, tmp_path / "whole.tif")
    facts = read(joined.vrt)[1]
    assert facts["points"] == [(point.row, point.col, point.x, point.y) for point in points]
    assert facts["crs of points"] == "EPSG:4326"


def test_each_block_is_a_geotiff_at_its_place(tmp_path: Path) -> None:
    image = geotiff(tmp_path / "a.tif", picture(70, 90))
    result = label_block(TiledRunner(Shifted(), 32), image, tmp_path / "out", Share(4, 4))
    record = read_record(result.path.with_suffix(".json"))
    assert record is not None
    top, left, height, width = record.region
    assert top > 0
    assert left > 0
    assert sum(record.counts) == height * width
    corner = TRANSFORM.c + TRANSFORM.a * left, TRANSFORM.f + TRANSFORM.e * top
    with rasterio.open(result.path) as block:
        assert block.shape == (height, width)
        assert (block.transform.c, block.transform.f, block.transform.a) == (*corner, TRANSFORM.a)
        assert block.profile["tiled"]


def test_areas_of_the_joined_image_are_those_of_one_machine(tmp_path: Path) -> None:
    pixels = picture(70, 90)
    pixels[:20, :30] = 0
    image = geotiff(tmp_path / "a.tif", pixels, nodata=0)
    runner = TiledRunner(Shifted(), 32)
    options = PredictOptions(["labels", "areas"], max_in_memory_pixels=100)
    assert not predict_files(runner, [image], tmp_path / "whole", options).failed
    label_all(runner, image, tmp_path / "out", 3, ("labels", "areas"))
    join_blocks(tmp_path / "out")
    assert (tmp_path / "out" / "areas.csv").read_bytes() == (tmp_path / "whole" / "areas.csv").read_bytes()
    assert read_areas(tmp_path / "out" / "areas.csv")[0][4] != ""


def test_a_finished_share_is_not_computed_again_and_a_stopped_one_resumes(tmp_path: Path) -> None:
    image, out = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "out"

    def stop(done: int, tiles: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_block(TiledRunner(Shifted(), 24), image, out, Share(2, 3), on_tile=stop)
    label_block(TiledRunner(Shifted(), 24), image, out, Share(1, 3))
    with refuses("blocks-missing", "2 of 3", "share 2/3: unfinished, 2 tiles are stored", "share 3/3: missing"):
        join_blocks(out)
    assert sorted(path.name for path in out.iterdir()) == ["a.blocks"]
    resumed = label_block(TiledRunner(Shifted(), 24), image, out, Share(2, 3))
    assert resumed.resumed == 2
    runner = Shifted()
    again = label_block(TiledRunner(runner, 24), image, out, Share(2, 3))
    assert (again.resumed, runner.calls) == (again.tiles, 1)  # the probe
    label_block(TiledRunner(Shifted(), 24), image, out, Share(3, 3))
    join_blocks(out)


KILLED = """
import os, signal, sys
from pathlib import Path
from geotiffs import Shifted
from fullconv.cluster.blocks import label_block
from fullconv.cluster.records import Share
from fullconv.runtime.tiles import TiledRunner
def on_tile(done, tiles):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
label_block(TiledRunner(Shifted(), 24), Path(sys.argv[1]), Path(sys.argv[2]), Share(1, 2), on_tile=on_tile)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_share_loses_one_tile(tmp_path: Path) -> None:
    image, out = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.run([sys.executable, "-c", KILLED, image, out], env=environment, check=False, timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert not list(out.glob("*.blocks/*.tif"))
    with refuses("blocks-missing", "1-of-2: unfinished"):
        join_blocks(out)
    runner = TiledRunner(Shifted(), 24)
    assert label_block(runner, image, out, Share(1, 2)).resumed == 3
    label_block(runner, image, out, Share(2, 2))
    predict_large(runner, image, {"labels": tmp_path / "whole.tif"})
    check_equal(join_blocks(out, cog=True)[0], tmp_path / "whole.tif")


class Other(Shifted):
    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        return super().logits(images) * np.array([1, 1, 1.01], np.float32)[:, None, None]


@pytest.fixture
def half(tmp_path: Path) -> tuple[Path, Path]:
    """Return an image and the folder with the first of two shares."""
    image = geotiff(tmp_path / "a.tif", picture(70, 90))
    label_block(TiledRunner(Shifted(), 32), image, tmp_path / "out", Share(1, 2))
    return image, tmp_path / "out"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("content", "another state of the image"),
        ("time", "another state of the image"),
        ("model", "another model"),
        ("tile", "another value of tile"),
        ("kinds", "another value of save"),
        ("number", "2 shares in all, not 4"),
    ],
)
def test_shares_of_another_image_or_model_are_refused(half: tuple[Path, Path], change: str, words: str) -> None:
    """A share refuses at its start; shares that were made in different folders are refused by join."""
    image, out = half
    if change == "content":
        stamp = image.stat()
        geotiff(image, picture(70, 90, seed=1))
        os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    elif change == "time":
        os.utime(image)
    runner = TiledRunner((Other if change == "model" else Shifted)(), 40 if change == "tile" else 32)
    kinds = ("labels", "areas") if change == "kinds" else ("labels",)
    share = Share(2, 4 if change == "number" else 2)
    with refuses("other-blocks", block_folder(out, image), "share 1/2", words):
        label_block(runner, image, out, share, kinds)
    label_block(runner, image, out.with_name("elsewhere"), share, kinds)
    for path in (out.with_name("elsewhere") / "a.blocks").iterdir():
        path.rename(out / "a.blocks" / path.name)
    with refuses("blocks-differ", "made with"):
        join_blocks(out)
    assert os.listdir(out) == ["a.blocks"]


def test_a_copy_of_the_image_on_another_machine_is_the_same_image(half: tuple[Path, Path]) -> None:
    image, out = half
    copy = image.parent / "other" / "a.tif"
    copy.parent.mkdir()
    copy.write_bytes(image.read_bytes())
    label_block(TiledRunner(Shifted(), 32), copy, out, Share(2, 2))
    assert join_blocks(out)[0].shares == 2


@pytest.mark.parametrize("damage", ["short", "bits", "gone", "record"])
def test_join_names_damaged_shares(half: tuple[Path, Path], damage: str) -> None:
    image, out = half
    runner = TiledRunner(Shifted(), 32)
    label_block(runner, image, out, Share(2, 2))
    block = out / "a.blocks" / "2-of-2.tif"
    content = block.read_bytes()
    if damage == "record":
        record = block.with_suffix(".json")
        record.write_text(record.read_text()[:-40])
        with refuses("blocks-differ", "2-of-2.json"):
            join_blocks(out)
    else:
        block.unlink()
        if damage != "gone":
            block.write_bytes(content[:-9] if damage == "short" else content[:-9] + bytes(9))
        with refuses("blocks-missing", "share 2/2: 2-of-2.tif is damaged or incomplete"):
            join_blocks(out)
    label_block(runner, image, out, Share(2, 2))  # repairs it
    join_blocks(out)
    assert block.read_bytes() == content


def test_records_that_do_not_cover_the_image_are_refused(half: tuple[Path, Path]) -> None:
    image, out = half
    label_block(TiledRunner(Shifted(), 32), image, out, Share(2, 2))
    for path in list_records(out / "a.blocks"):
        values = json.loads(path.read_text()) | {"region": [0, 0, 70, 90]}
        path.write_text(json.dumps(values))
    with refuses("blocks-uncovered", out):
        join_blocks(out)


def test_an_image_that_changes_meanwhile_gives_no_share(tmp_path: Path) -> None:
    image = geotiff(tmp_path / "a.tif", picture(70, 90))

    def change(done: int, tiles: int) -> None:
        os.utime(image, ns=(1, time.time_ns()))

    with refuses("image-changed", image, "1/2"):
        label_block(TiledRunner(Shifted(), 32), image, tmp_path / "out", Share(1, 2), on_tile=change)
    assert not list((tmp_path / "out").glob("*.blocks/*.[tj]*"))


def test_errors_of_shares_say_what_to_do(tmp_path: Path) -> None:
    image, runner = geotiff(tmp_path / "a.tif", picture(70, 90)), TiledRunner(Shifted(), 32)
    with refuses("no-blocks", tmp_path):
        join_blocks(tmp_path)
    with refuses("overwrites-input", image):
        label_block(runner, image, tmp_path, Share(1, 2))
    (tmp_path / "a.tiff").hardlink_to(image)
    with refuses("overwrites-file", image):
        label_block(runner, tmp_path / "a.tiff", tmp_path, Share(1, 2))
    with refuses("kinds-of-blocks", "overlay"):
        label_block(runner, image, tmp_path / "out", Share(1, 2), ("labels", "overlay"))
    with refuses("more-shares-than-tiles"):
        label_block(runner, image, tmp_path / "out", Share(1, 99))
    (tmp_path / "file").touch()
    with refuses("file-not-writable"):
        label_block(runner, image, tmp_path / "file", Share(1, 2))
    label_all(runner, image, tmp_path / "out", 2)
    (tmp_path / "out" / "a.vrt").mkdir()
    with refuses("file-not-writable", "a.vrt"):
        join_blocks(tmp_path / "out")


def test_a_share_that_fills_the_disk_leaves_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, out = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "out"

    def full(path: Path, *arguments: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr("fullconv.images.decoders.gdal.write_geotiff", full)
    with refuses("file-not-writable", "No space left"):
        label_block(TiledRunner(Shifted(), 32), image, out, Share(1, 2))
    monkeypatch.undo()
    assert [path.name for path in (out / "a.blocks").iterdir() if not path.name.startswith(".")] == []
    result = label_block(TiledRunner(Shifted(), 32), image, out, Share(1, 2))
    assert result.resumed == result.tiles  # no tile is computed twice


def test_the_commands_label_shares_and_join_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = picture(1000, 300)
    pixels[:, 250:] = 0
    image, out = geotiff(tmp_path / "field.tif", pixels, nodata=0, blockysize=32), tmp_path / "out"
    command = ("street", image, "--tile", "896", "--save", "labels,areas")
    monkeypatch.setattr("fullconv.predict.large.MAX_IN_MEMORY_PIXELS", 1000)
    for number in (2, 1):
        assert command_line.predict(monkeypatch, *command, "--out", out, "--blocks", f"{number}/2") == 0
        assert f"share {number}/2 of {image}" in capsys.readouterr().out
    assert command_line.run(monkeypatch, "join", out, "--cog") == 0
    printed = capsys.readouterr().out
    assert f"{out / 'field.vrt'}: 2 shares, 300 x 1000 pixels" in printed
    assert f"{out / 'field.tif'}: the same as one file" in printed
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path

    tiled = TiledRunner(load_runner(model_path("street")), 896)
    predict_large(tiled, image, {"labels": tmp_path / "whole.tif"})
    np.testing.assert_array_equal(read(out / "field.vrt")[0], read(tmp_path / "whole.tif")[0])
    assert command_line.predict(monkeypatch, "street", image, image.parent, "--blocks", "1/2", "--out", out) == 2
    with atomic_write(tmp_path / "b.tif") as temporary:
        temporary.write_bytes(image.read_bytes())
    assert command_line.predict(monkeypatch, "street", tmp_path, "--blocks", "1/2", "--out", out) == 2
    assert command_line.run(monkeypatch, "join", tmp_path / "nowhere") == 2
    (out / "field.blocks" / "2-of-2.tif").unlink()
    assert command_line.run(monkeypatch, "join", out) == 3
    assert "share 2/2" in capsys.readouterr().err


def test_blocks_are_for_one_image(tmp_path: Path) -> None:
    from fullconv.cli.predicting.blocks import predict_block

    with refuses("blocks-of-one-image", "2"):
        predict_block(Shifted(), [tmp_path, tmp_path / "a"], tmp_path, "1/2", None)


def test_the_number_of_tiles_is_the_largest_number_of_shares(tmp_path: Path) -> None:
    image, runner = geotiff(tmp_path / "a.tif", picture(70, 90)), TiledRunner(Shifted(), 32)
    tiles = resume_shares(runner, image, tmp_path / "new", ("labels",), 1000)
    label_all(runner, image, tmp_path / "out", tiles)
    assert join_blocks(tmp_path / "out")[0].shares == tiles
    with pytest.raises(FullconvError):
        label_block(runner, image, tmp_path / "more", Share(1, tiles + 1))


def test_the_fingerprint_covers_first_and_last_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SAMPLE", 16)
    path = tmp_path / "a"
    content = bytearray(np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes())
    path.write_bytes(content)
    before = records.fingerprint(path)
    for offset in (0, 99_999):
        content[offset] ^= 1
        path.write_bytes(content)
        assert records.fingerprint(path) != before
        content[offset] ^= 1
    path.write_bytes(content)
    assert records.fingerprint(path) == before


@pytest.mark.slow
def test_shares_of_an_image_of_12000_x_12000_pixels(tmp_path: Path) -> None:
    side = 12_000
    pixels = np.tile(picture(1200, 1500), (10, 8, 1))
    pixels[: side // 3, : side // 5] = 0
    image = geotiff(tmp_path / "a.tif", pixels, nodata=0, blockxsize=512, blockysize=512)
    del pixels
    predict_large(Strided(8), image, {"labels": tmp_path / "whole.tif"})
    label_all(Strided(8), image, tmp_path / "out", 6)
    (joined,) = join_blocks(tmp_path / "out", cog=True)
    differing = 0
    with rasterio.open(tmp_path / "whole.tif") as whole:
        assert whole.shape == (side, side)
        for path in (joined.vrt, joined.cog):
            with rasterio.open(path) as dataset:
                for top in range(0, side, 1000):
                    window = ((top, top + 1000), (0, side))
                    differing += np.count_nonzero(dataset.read(1, window=window) != whole.read(1, window=window))
    assert differing == 0

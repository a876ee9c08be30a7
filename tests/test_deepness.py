"""`fullconv export --profile deepness`: Deepness, the plugin of QGIS, gives the labels of fullconv on a map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from deepness import Plugin
from fullconv.geometry.tiles import Window
from fullconv.labels import LabelSet
from fullconv.packages.deepness import MOST, choose_tiling, write_deepness
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from refusals import refuses


def make_map(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return noisy squares of random colours."""
    random = np.random.default_rng(height)
    squares = (
        random.integers(0, 192, (height // 24 + 1, width // 24 + 1, channels), np.uint8).repeat(24, 0).repeat(24, 1)
    )
    return squares[:height, :width] + random.integers(0, 64, (height, width, channels), np.uint8)


@pytest.mark.parametrize("windows", [(276, 276, 32), (0, 0, 1), (5, 40, 8), (202, 202, 32), (1000, 990, 64)])
def test_tiles_start_on_the_grid_and_overlap_by_the_halo(windows: tuple[int, int, int]) -> None:
    window = Window(*windows)
    tiling = choose_tiling((window, Window(1, 1, 3)))
    assert tiling.overlap // 2 >= max(window.before, window.after)
    assert (tiling.side - tiling.overlap) % window.period == 0
    assert (tiling.side - tiling.overlap) % 3 == 0
    assert tiling.percent <= MOST


def test_street_in_the_plugin_gives_our_labels_on_a_small_map(tmp_path: Path) -> None:
    written = write_deepness(bundled("street"), tmp_path / "street.onnx", resolution=10)
    plugin, runner = Plugin(written.path), load_runner(bundled("street"))
    assert plugin.settings["resolution"] == 10
    assert tuple(plugin.class_names) == runner.info.labels.class_names
    assert plugin.settings["tile_size"] == plugin.side
    layer = make_map(500, 700)
    labels = plugin.label(layer)
    alone, halo = runner.label_maps(layer[None])[0], runner.info.windows[0].after
    np.testing.assert_array_equal(labels[:-halo, :-halo], alone[:-halo, :-halo])
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize(
    ("model", "classes", "stride", "upsample", "channels"),
    [("digits", 4, 8, "fixed", 3), ("digits", 3, 8, "learned", 3), ("digits", 3, 8, "fixed", 5)],
)
def test_many_tiles_give_the_labels_of_the_whole_map(
    tmp_path: Path, model: str, classes: int, stride: int, upsample: str, channels: int
) -> None:
    pytest.importorskip("torch")
    import nets
    from fullconv.net.checkpoint import Saved
    from fullconv.net.fcn.spec import NetSpec
    from fullconv.onnx_export.file import assemble, describe

    spec = NetSpec(model, classes, stride, upsample=upsample, channels=channels)
    labels = LabelSet.named([f"class {index}" for index in range(classes)])
    net = nets.lively(nets.make(spec))
    onnx.save(assemble(net, describe(net, Saved(spec, labels), {})), tmp_path / "net.onnx")
    plugin = Plugin(write_deepness(tmp_path / "net.onnx", tmp_path / "deepness.onnx").path)
    layer = make_map(2 * plugin.stride + plugin.side - 7, plugin.stride + plugin.side - 3, channels)
    whole = plugin.extend(layer)
    assert whole.shape[:2] == (2 * plugin.stride + plugin.side, plugin.stride + plugin.side)
    expected = load_runner(tmp_path / "net.onnx").label_maps(whole[None])[0]
    labelled = plugin.label(layer)
    assert len(np.unique(labelled)) > 1
    assert np.count_nonzero(labelled != expected[: layer.shape[0], : layer.shape[1]]) <= layer[..., 0].size * 1e-6


def test_the_notes_say_what_the_plugin_does_not_know(tmp_path: Path) -> None:
    from fullconv.onnx_graph.exported import read_exported, write_exported

    assert "--resolution" in "\n".join(write_deepness(bundled("street"), tmp_path / "a.onnx").notes)
    model, metadata = read_exported(bundled("street"))
    info = replace(metadata.info, exact=False, input=replace(metadata.info.input, value_range=(100.0, 3000.0)))
    write_exported(tmp_path / "sixteen.onnx", model, replace(metadata, info=info))
    notes = write_deepness(tmp_path / "sixteen.onnx", tmp_path / "b.onnx", resolution=50).notes
    assert "depend on the tile" in notes[0]
    assert notes[1].endswith("gdal_translate -ot Byte -scale 100 3000 0 255 MAP.tif BYTES.tif")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with refuses("model-not-found", tmp_path / "absent.onnx"):
        write_deepness(tmp_path / "absent.onnx", tmp_path / "out.onnx")
    write_deepness(bundled("street"), tmp_path / "street.onnx")
    with refuses("foreign-onnx", tmp_path / "street.onnx"):
        write_deepness(tmp_path / "street.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()

"""Tiled labels equal whole-image labels for every network, image and tile size; differences are reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from command_line import predict
from fullconv.demo.digits import DIGIT_LABELS
from fullconv.geometry.spread import spread
from fullconv.geometry.tiles import MAX_TILES, MAX_TILES_TRIED, Window, choose_tile
from fullconv.images import open_image, read_label_map, write_image
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import FCN, build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.torch_runner import TorchRunner
from fullconv.predict.result import segment
from fullconv.runtime.runner import largest
from fullconv.runtime.tiles import TiledRunner
from fullconv.runtime.verify import SAMPLE, TIE, TileVerification, halo_error, verify_tiles
from geotiffs import Shifted
from refusals import refuses
from test_any import Gate, Same, Stages, Upward, conv

WINDOWS = st.builds(Window, st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 4, 7, 32]))


@given(WINDOWS, st.integers(1, 400), st.integers(0, 100))
def test_tiles_contain_the_halo_of_their_pixels_and_start_on_the_grid(window: Window, size: int, more: int) -> None:
    tile = window.size + more
    cuts = window.cuts(size, tile)
    assert [pixel for cut in cuts for pixel in cut.keep] == list(range(size))
    assert len({len(cut.read) for cut in cuts}) == 1
    assert len(cuts[0].read) == size or len(cuts[0].read) < tile + window.period
    for cut in cuts:
        assert cut.keep
        assert cut.read.start % window.period == (size - cut.read.stop) % window.period == 0
        assert cut.read.start <= max(0, cut.keep.start - window.before)
        assert cut.read.stop >= min(size, cut.keep.stop + window.after)
        assert list(cut.read[cut.inner]) == list(cut.keep) == list(range(size)[cut.outer])
    if size <= tile:
        assert len(cuts) == 1


@given(WINDOWS, st.data())
def test_cut_is_the_smallest_that_contains_the_halo(window: Window, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    first = data.draw(st.integers(0, size - 1))
    keep = range(first, data.draw(st.integers(first + 1, size)))
    cut = window.cut(keep, size)
    before, after = keep.start - cut.read.start, cut.read.stop - keep.stop
    assert cut.read.start % window.period == (size - cut.read.stop) % window.period == 0
    assert cut.read.start == 0 or window.before <= before < window.before + window.period
    assert cut.read.stop == size or window.after <= after < window.after + window.period


def test_tiles_are_as_short_as_their_number_allows() -> None:
    lengths = [len(Window(10, 10, 4).cuts(1000, tile)[0].read) for tile in (24, 400, 519, 990)]
    assert lengths == [24, 348, 512, 512]


def test_a_tile_smaller_than_its_halo_is_refused() -> None:
    with refuses("tile-too-small", "use at least 88"):
        Window(40, 40, 8).cuts(10, 87)


def test_a_size_that_needs_millions_of_tiles_is_refused() -> None:
    with refuses("too-many-tiles", f"{2**40:,}", "tiles of 24"):
        Window(3, 5).cuts(2**40, 24)
    with refuses("too-many-tiles", "80000 x 60000", f"{MAX_TILES:,}"):
        TiledRunner(Shifted(), 24).tiles((60000, 80000))


@given(WINDOWS, WINDOWS, st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10**6))
def test_chosen_tile_has_at_most_the_allowed_pixels(
    down: Window, across: Window, height: int, width: int, pixels: int
) -> None:
    """Cuts may be longer by less than the period. An image within the limit is one tile."""
    tile = choose_tile((down, across), (height, width), pixels)
    rows, columns = down.cuts(height, tile[0]), across.cuts(width, tile[1])
    computed = min(tile[0], height) * min(tile[1], width)
    assert len(rows[0].read) < tile[0] + down.period
    assert len(columns[0].read) < tile[1] + across.period
    least = min(height, down.side(height, MAX_TILES_TRIED)) * min(width, across.side(width, MAX_TILES_TRIED))
    assert computed <= max(pixels, least)
    if height * width <= pixels:
        assert len(rows) == len(columns) == 1


class Measuring(Shifted):
    """A runner that records the largest number of pixels that it gets at once."""

    def __init__(self, exact: bool = True) -> None:
        super().__init__()
        self.info, self.pixels = replace(Shifted.info, exact=exact), 0

    def logits(self, images: np.ndarray) -> np.ndarray:
        self.pixels = max(self.pixels, images.shape[1] * images.shape[2])
        return super().logits(images)


@pytest.mark.parametrize("keep_logits", [False, True])
@pytest.mark.parametrize("size", [(70, 90), (9, 700), (701, 8), (40, 50)])
def test_a_large_image_is_tiled_automatically(size: tuple[int, int], keep_logits: bool) -> None:
    """Labels and logits equal those of the whole image. A network with global context is not tiled."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tiled, whole = Measuring(), Measuring(exact=False)
    result, expected = (
        segment(runner, image, "a", keep_logits=keep_logits, max_untiled_pixels=2000) for runner in (tiled, whole)
    )
    assert np.array_equal(result.label_map, expected.label_map)
    assert np.array_equal(result.logits, expected.logits)
    assert tiled.pixels <= 2000
    assert whole.pixels == size[0] * size[1]


class Small(nn.Module):
    """A classifier at stride 32, with the phase of VGG (pooling by 2) or of ResNet (strided, padded convolutions)."""

    def __init__(self, kernels: tuple[int, ...], pooled: bool, hidden: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for index, kernel in enumerate(kernels):
            before = 6 if index else 3
            if pooled:
                parts += [conv(before, 6, kernel, 1, kernel // 2), nn.MaxPool2d(2, 2)]
            else:
                parts += [conv(before, 6, kernel, 2, kernel // 2)]
        self.features = nn.Sequential(*parts)
        end = [nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 4)] if hidden else [nn.Linear(6, 4)]
        pool = [] if hidden else [nn.AdaptiveAvgPool2d(1)]
        self.end = nn.Sequential(*pool, nn.Flatten(), *end)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.end(self.features(x))
        return out


def lively(net: FCN) -> TorchRunner:
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.1, 0.5)  # type: ignore[arg-type]
    return TorchRunner(net, LabelSet.named(["a", "b", "c"]), "cpu")


@cache
def small(kernels: tuple[int, ...], pooled: bool, hidden: bool, stride: int, upsample: str) -> TorchRunner:
    torch.manual_seed(sum(kernels) + stride)
    model = Small(kernels, pooled, hidden).eval()
    spec = NetSpec("resnet18", 3, stride, upsample=upsample)  # type: ignore[arg-type]
    return lively(FCN(convolutionalize(model, (64, 64)), spec))


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)


def assert_same(tiled: TiledRunner, image: np.ndarray) -> None:
    whole, tiles = tiled.runner.logits(image[None]), tiled.logits(image[None])
    assert np.abs(whole - tiles).max() <= 1e-5 * np.ptp(whole)
    assert verify_tiles(tiled, image).holds


NETS = st.tuples(
    st.tuples(*[st.sampled_from([1, 3])] * 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([32, 16, 8, 4]),
    st.sampled_from(["fixed", "fixed", "learned", "unpool"]),
)


@settings(max_examples=15, deadline=None)
@given(NETS, st.data())
def test_tiled_logits_of_random_networks_equal_whole_image_logits(
    net: tuple[tuple[int, ...], bool, bool, int, str], data
) -> None:
    kernels, pooled, hidden, stride, upsample = net
    if upsample == "unpool" and not pooled:
        upsample = "fixed"
    runner = small(kernels, pooled, hidden, stride, upsample)
    least = max(window.size for window in runner.info.windows)
    tile = least + data.draw(st.integers(0, 60))
    height, width = (data.draw(st.integers(1, tile + 90)) for _ in range(2))
    assert_same(TiledRunner(runner, tile), noise(height, width))


@pytest.mark.parametrize("block", [Same, Upward, lambda: conv(8, 8, 3, 1, 1)])
def test_tiled_logits_equal_whole_image_logits_where_padding_depends_on_the_size(block) -> None:
    torch.manual_seed(0)
    runner = lively(FCN(convolutionalize(Stages(block).eval(), (64, 128)), NetSpec("resnet18", 3, 8)))
    tiled = TiledRunner(runner, max(window.size for window in runner.info.windows))
    image = noise(tiled.tile + 81, tiled.tile + 130)
    assert len(tiled.tiles((image.shape[0], image.shape[1]))) >= 4
    assert np.ptp(runner.logits(image[None])[0], axis=(1, 2)).min() > 1e-3
    assert_same(tiled, image)


def test_tiled_labels_do_not_depend_on_the_batch() -> None:
    runner = small((3, 3, 1, 1, 1), True, False, 8, "fixed")
    tiled = TiledRunner(runner, max(window.size for window in runner.info.windows))
    images = np.stack([noise(200, 150), noise(200, 150)[::-1]])
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(tiled.label_maps(images)[1:], tiled.label_maps(images[1:]))
    np.testing.assert_array_equal(largest(tiled.logits(images)), tiled.label_maps(images))


def test_tiling_a_network_with_global_context_needs_a_halo() -> None:
    runner = lively(FCN(convolutionalize(Stages(Gate).eval(), (48, 64)), NetSpec("resnet18", 3, 8)))
    with refuses("tiles-of-global-context", "halo"):
        TiledRunner(runner, 512)
    tiled = TiledRunner(runner, 96, halo=16)
    assert not tiled.info.exact
    assert tiled.label_maps(noise(150, 170)[None]).shape == (1, 150, 170)


def test_labels_that_a_smaller_halo_changes_are_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = Stages(lambda: conv(8, 8, 3, 1, 1)).eval()
    runner = lively(FCN(convolutionalize(block, (64, 64)), NetSpec("resnet18", 3, 8)))
    full, less = TiledRunner(runner, 300), TiledRunner(runner, 96, halo=0)
    assert full.info.exact
    assert not less.info.exact
    write_image(tmp_path / "a.png", image := noise(300, 300))
    whole = runner.label_maps(image[None])[0]
    with open_image(tmp_path / "a.png") as raster:
        error = halo_error(less, raster)
        assert halo_error(full, raster) is None
    assert error is not None
    tiles = spread(less.tiles((300, 300)), SAMPLE)
    assert len(tiles) == error.tiles == SAMPLE
    assert {rows.keep.start for rows, _ in tiles} != {0}
    labels = less.label_maps(image[None])[0]
    wrong = sum(int((labels[r.outer, c.outer] != whole[r.outer, c.outer]).sum()) for r, c in tiles)
    assert error.differing == wrong > 0
    assert error.pixels == sum(len(r.keep) * len(c.keep) for r, c in tiles)
    verification = verify_tiles(less, image)
    assert not verification.holds
    assert verification.differing == (labels != whole).sum()
    assert verification.margin > TIE * verification.logit_range
    with refuses("negative-halo", -1):
        TiledRunner(runner, 96, halo=-1)


@dataclass
class Drifting:
    """A runner that compares the red channel with 128, plus `drift` on images less than 50 pixels wide."""

    drift: float
    info = ModelInfo(LabelSet.named(["low", "high"]), (Window(0, 0), Window(0, 0)), exact=True)

    def logits(self, images: np.ndarray) -> np.ndarray:
        red = images[..., 0].astype(np.float32)
        level = np.full_like(red, 128) + (self.drift if images.shape[2] < 50 else 0)
        return np.stack([level, red], 1)

    def label_maps(self, images: np.ndarray) -> np.ndarray:
        return largest(self.logits(images))


@pytest.mark.parametrize(
    ("drift", "differing", "margin"), [(0.0, 0, 0.0), (-0.01, 1, 0.0), (-0.5, 1, 0.0), (-1.5, 2, 1.0)]
)
def test_labels_that_differ_where_logits_do_not_tie_refute_the_tiles(
    drift: float, differing: int, margin: float
) -> None:
    """Red 128 ties with the level in the whole image; red 127 is one below it."""
    image = np.repeat(np.arange(256, dtype=np.float32).astype(np.uint8)[None, :, None], 3, 2)
    verification = verify_tiles(TiledRunner(Drifting(drift), 32), image)
    ties = min(differing, 1)
    assert verification == TileVerification(256, 8, differing, ties, pytest.approx(-drift, abs=1e-5), 255.0, margin)
    assert verification.holds == (margin == 0)


def test_predict_verifies_tiles_and_reports_the_error_of_a_smaller_halo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = build(NetSpec("digits", 11, 32))
    nn.init.normal_(net.score_fr.weight)
    save_net(tmp_path / "best.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    write_image(tmp_path / "a.png", image := noise(250, 300))
    start = (tmp_path, tmp_path / "a.png", "--out", tmp_path / "out", "--save", "labels", "--tile", "192")
    assert predict(monkeypatch, *start, "--verify") == 0, capsys.readouterr().err
    output = capsys.readouterr()
    assert "the labels from tiles are identical to those of the whole image" in output.err
    row = output.out.splitlines()[-1].split()
    assert row[1:5] == ["75,000", "8", "0", "0"]
    (tmp_path / "b.png").write_text("no image")
    assert (
        predict(monkeypatch, start[0], tmp_path / "b.png", *start[1:], "--verify") == 1
    )  # and the others are verified
    assert capsys.readouterr().out.splitlines()[-1].split()[1:5] == ["75,000", "8", "0", "0"]
    whole = TorchRunner(net.eval(), DIGIT_LABELS, "cpu").label_maps(image[None])[0]
    np.testing.assert_array_equal(read_label_map(tmp_path / "out" / "a.png"), whole)
    assert predict(monkeypatch, *start, "--halo", "8", "--verify") == 1
    errors = capsys.readouterr().err
    assert "halo 8 instead of 78: on 4 tiles" in errors
    assert "ties are labels whose two largest logits differ by less than" in errors
    assert "differ from those of the whole image on 1 of 1 images" in errors
    assert predict(monkeypatch, *start[:-2], "--verify") == 2
    assert predict(monkeypatch, *start, "--patchwise") == 2
    assert predict(monkeypatch, *start, "--backend", "abacus") == 2
    assert predict(monkeypatch, *start[:-1], "100") == 2
    assert "use at least 188" in capsys.readouterr().err

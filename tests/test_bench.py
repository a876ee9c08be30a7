"""fullconv bench: both ways give equal outputs, the bounds equal the work done, and the command prints every number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.main import get_command

from fullconv.bench import views
from fullconv.bench.dense import (
    Timer,
    bench_dense,
    compute_storage,
    cut_windows,
    flop_bound,
    time_backward,
    time_forward,
)
from fullconv.bench.views import Budget, build_view_net, cut_labelled_windows, predict_windows, train_view
from fullconv.cli.app import app, main
from fullconv.demo.digits import make_digit_scenes
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.inspect.network import inspect_classifier
from fullconv.net.surgery.convolutionalize import convolutionalize
from nets import CLASSIFIERS
from refusals import refuses


@pytest.mark.parametrize("size", [(94, 94), (130, 170)])
def test_patches_give_the_outputs_of_the_dense_pass(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = digit_net().double().eval()
    dense = convolutionalize(net, input_size("digits"))
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        cells = dense.module(image)[0].flatten(1).T
        patches = net(cut_windows(dense, image))
    torch.testing.assert_close(patches, cells)
    assert cells.std() > 0


def test_windows_of_a_padded_network_are_patches_one_stride_apart() -> None:
    dense = convolutionalize(CLASSIFIERS["alexnet"]())
    image = torch.rand(1, 3, 260, 300)
    windows = cut_windows(dense, image)
    assert windows.shape == (2 * 3, 3, 224, 224)
    assert torch.equal(windows[0], image[0, :, :224, :224])
    assert torch.equal(windows[4], image[0, :, 32:256, 32:256])


@pytest.mark.parametrize("backward", [False, True])
def test_bound_equals_the_ratio_of_operations_that_torch_counts(backward: bool) -> None:
    name, size = "digits", (158, 190)
    net = build_classifier(name)[0].eval()
    dense = convolutionalize(net, input_size(name))
    image = torch.rand(1, 3, *size)
    counted = []
    for module, inputs in ((net, cut_windows(dense, image)), (dense.module, image)):
        out = module(inputs)
        with FlopCounterMode(display=False) as counter:
            if backward:
                out.sum().backward()
            else:
                module(inputs)
        counted.append(counter.get_total_flops())
    patches = len(cut_windows(dense, image))
    assert patches == 3 * 4
    bound = flop_bound(inspect_classifier(name), inspect_classifier(name, size), patches, backward)
    assert bound == pytest.approx(counted[0] / counted[1], rel=1e-6)
    assert bound > 2


def test_81_patches_of_alexnet_cost_seven_dense_passes() -> None:
    """Torchvision's AlexNet has 9 x 9 cells on 500 x 500 pixels."""
    bound = flop_bound(inspect_classifier("alexnet"), inspect_classifier("alexnet", (500, 500)), 81)
    assert bound == pytest.approx(7.2, abs=0.5)


def test_storage_counts_the_bytes_of_patches_and_image() -> None:
    result = compute_storage((500, 400), (224, 200), 7, 32)
    assert (result.patch_bytes, result.image_bytes) == (7 * 224 * 200 * 3, 500 * 400 * 3)


def test_backward_is_timed_without_forward_and_leaves_no_gradients() -> None:
    net = torch.nn.Linear(3, 2)
    assert 0 < time_backward(net, [torch.zeros(1, 3)] * 2) < 60
    assert net.weight.grad is None
    assert 0 < time_forward(net, [torch.zeros(1, 3)]) < 60


def test_every_way_is_measured_once_per_round_and_direction() -> None:
    """The timers are made up: way w of round r takes (w + 1) * (r + 1) seconds forward, three times that backward."""
    calls: list[tuple[str, int]] = []

    def fake(direction: str, factor: int) -> Timer:
        def run(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> float:
            calls.append((direction, len(inputs)))
            number = len(calls) - 1
            return factor * (number % 3 + 1) * (number // 6 + 1)

        return run

    timers = {"forward": fake("forward", 1), "backward": fake("backward", 3)}
    result = bench_dense("digits", (126, 158), rounds=3, batch=2, timers=timers)
    assert (
        calls == [("forward", 1), ("forward", 3), ("forward", 6), ("backward", 1), ("backward", 3), ("backward", 6)] * 3
    )
    assert [(way.way, way.direction) for way in result.ways] == [
        (way, direction) for direction in ("forward", "backward") for way in ("dense", "batched", "single")
    ]
    assert [way.ratio for way in result.ways] == [1, 2, 3] * 2
    assert [way.milliseconds for way in result.ways] == pytest.approx(
        [1000 * w * 2 * f / 6 for f in (1, 3) for w in (1, 2, 3)]
    )
    assert result.cells == (2, 3)
    assert result.stride == (32, 32)
    assert [stored.patches for stored in result.storage] == [6, 126 * 158]
    assert {way.paper for way in result.ways} == {None}


def test_windows_of_different_sizes_have_the_same_middle_pixels() -> None:
    (small, labels), (large, same) = (cut_labelled_windows(50, window, 94, 3, "val") for window in (24, 94))
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(small, large[:, 35:59, 35:59])
    images, targets = make_digit_scenes(1, views.SCENE, 3, "val")
    for window, label, index in zip(large[:12], labels, range(12), strict=False):
        scene, target = images[index // 40], targets[index // 40]
        positions = np.argwhere((scene == window[47, 47]).all(-1) & (target == label))
        assert any(
            np.array_equal(scene[y - 47 : y + 47, x - 47 : x + 47], window)
            for y, x in positions
            if 47 <= y <= 160 - 47 and 47 <= x <= 192 - 47
        )
    assert 0.3 < (labels > 0).mean() <= 0.5


def test_every_window_size_has_a_network_that_learns() -> None:
    for window in (8, 24, 31, 48, 94):
        assert build_view_net(window)(torch.zeros(2, 3, window, window)).shape == (2, 11)
    images, labels = cut_labelled_windows(80, 24, 24, 0, "train")
    net = train_view((images, labels), 24, Budget(80, epochs=40, windows=(24,)))
    assert (predict_windows(net, images) == labels).mean() > 0.8  # on training windows, of which half are background


def test_bench_dense_prints_and_writes_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(views, "QUICK", Budget(40, 40, 1, (24, 32)))
    arguments = ["--model", "digits", "--size", "126x126", "--quick", "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["fullconv", "bench", "dense", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    out = capsys.readouterr().out
    values = json.loads((tmp_path / "out.json").read_text())
    assert "126x126: 2x2 cells, windows of 94x94, stride 32" in out
    assert [view["window"] for view in values["views"]] == [24, 32]
    assert len(values["ways"]) == 6
    for way in values["ways"]:
        assert way["milliseconds"] > 0
        assert f"{way['bound']:.1f}" in out
    assert f"{values['storage'][0]['patch_bytes']:,}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "500"], 2, "480x640"),
        (["--model", "vgg17"], 4, "vgg16"),
        (["--model", "digits", "--size", "50x50"], 4, "50x50"),
    ],
)
def test_mistakes_end_with_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["fullconv", "bench", "dense", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code
    assert message in capsys.readouterr().err


def test_zero_rounds_are_refused() -> None:
    with refuses("rounds-too-few", "--rounds 0"):
        get_command(app).main(["bench", "dense", "--rounds", "0"], standalone_mode=False)


def test_bench_help_does_not_import_torch_and_explains_every_option() -> None:
    code = (
        "import sys\nfrom fullconv.cli.app import main\nsys.argv = ['fullconv', 'bench', 'dense', '--help']\n"
        "try: main()\nexcept SystemExit as exit: assert not exit.code\n"
        "print('loaded:', *sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded:"
    group: object = get_command(app)
    for param in group.commands["bench"].commands["dense"].params:  # type: ignore[attr-defined]
        assert param.help
        assert param.metavar or param.is_flag

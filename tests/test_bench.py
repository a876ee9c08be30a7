"""The benchmark compares equal outputs, its bounds are those of the work done, and its command tells all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.main import get_command

from fullconv.cli import app, main
from fullconv.data.digits import digit_scenes
from fullconv.learn import bench, views
from fullconv.learn.bench import bench_dense, cut_windows, flop_bound, storage
from fullconv.learn.views import Budget, labelled_windows, view_net
from fullconv.net.backbones import classifier, digit_net, input_size
from fullconv.net.inspect import inspect_classifier
from fullconv.net.surgery import convolutionalize
from nets import CLASSIFIERS


@pytest.mark.parametrize("size", [(94, 94), (130, 170)])
def test_the_patches_give_what_the_dense_pass_gives(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = digit_net().double().eval()
    dense = convolutionalize(net, input_size("digits"))
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        cells = dense.module(image)[0].flatten(1).T
        patches = net(cut_windows(dense, image))
    torch.testing.assert_close(patches, cells)
    assert cells.std() > 0


def test_windows_of_a_padded_network_are_whole_patches_a_stride_apart() -> None:
    dense = convolutionalize(CLASSIFIERS["alexnet"]())
    image = torch.rand(1, 3, 260, 300)
    windows = cut_windows(dense, image)
    assert windows.shape == (2 * 3, 3, 224, 224)
    assert torch.equal(windows[0], image[0, :, :224, :224])
    assert torch.equal(windows[4], image[0, :, 32:256, 32:256])


@pytest.mark.parametrize("backward", [False, True])
def test_the_bound_is_the_ratio_of_what_both_compute(backward: bool) -> None:
    """As torch counts it while it runs."""
    name, size = "digits", (158, 190)
    net = classifier(name)[0].eval()
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


def test_the_papers_case_has_its_bound() -> None:
    """81 cells of AlexNet from 500 x 500 pixels could be about 7 times as dear as patches."""
    bound = flop_bound(inspect_classifier("alexnet"), inspect_classifier("alexnet", (500, 500)), 81)
    assert bound == pytest.approx(7.2, abs=0.5)
    assert bench.PAPER["batched", "forward"] > 5
    assert round(bench.PAPER["single", "forward"]) == 25


def test_bytes() -> None:
    kept = storage((500, 400), (224, 200), 7, 32)
    assert (kept.patch_bytes, kept.image_bytes) == (7 * 224 * 200 * 3, 500 * 400 * 3)


def test_all_ways_are_measured_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of our own: way w of round r takes (w + 1) * (r + 1) seconds forward, three times that backward."""
    calls: list[tuple[str, int]] = []

    def fake(direction: str, factor: int):
        def run(module: torch.nn.Module, inputs: list[torch.Tensor]) -> float:
            calls.append((direction, len(inputs)))
            number = len(calls) - 1
            return factor * (number % 3 + 1) * (number // 6 + 1)

        return run

    monkeypatch.setattr(bench, "_best_batch", lambda net, windows: 2)
    monkeypatch.setattr(bench, "_forward", fake("forward", 1))
    monkeypatch.setattr(bench, "_backward", fake("backward", 3))
    found = bench_dense("digits", (126, 158), rounds=3)
    assert (
        calls == [("forward", 1), ("forward", 3), ("forward", 6), ("backward", 1), ("backward", 3), ("backward", 6)] * 3
    )
    assert [(way.way, way.direction) for way in found.ways] == [
        (way, direction) for direction in ("forward", "backward") for way in ("dense", "batched", "single")
    ]
    assert [way.ratio for way in found.ways] == [1, 2, 3] * 2
    assert [way.milliseconds for way in found.ways] == pytest.approx(
        [1000 * w * 2 * f / 6 for f in (1, 3) for w in (1, 2, 3)]
    )
    assert found.cells == (2, 3)
    assert found.stride == (32, 32)
    assert [kept.patches for kept in found.storage] == [6, 126 * 158]
    assert {way.paper for way in found.ways} == {None}


def test_windows_of_two_sizes_show_the_same_pixels() -> None:
    (small, labels), (large, same) = (labelled_windows(50, window, 94, 3, "val") for window in (24, 94))
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(small, large[:, 35:59, 35:59])
    images, targets = digit_scenes(1, views.SCENE, 3, "val")
    for window, label, index in zip(large[:12], labels, range(12), strict=False):
        scene, target = images[index // 40], targets[index // 40]
        places = np.argwhere((scene == window[47, 47]).all(-1) & (target == label))
        assert any(
            np.array_equal(scene[y - 47 : y + 47, x - 47 : x + 47], window)
            for y, x in places
            if 47 <= y <= 160 - 47 and 47 <= x <= 192 - 47
        )
    assert 0.3 < (labels > 0).mean() <= 0.5


def test_every_window_has_its_network_and_that_learns() -> None:
    for window in (8, 24, 31, 48, 94):
        assert view_net(window)(torch.zeros(2, 3, window, window)).shape == (2, 11)
    images, labels = labelled_windows(80, 24, 24, 0, "train")
    net = views._trained((images, labels), 24, Budget(80, epochs=40, windows=(24,)))
    with torch.inference_mode():
        found = net(views._input(torch.from_numpy(images))).argmax(1).numpy()
    assert (found == labels).mean() > 0.8  # of what it has seen; background alone is half


def test_the_command_prints_and_writes(
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
        (["--rounds", "0"], 2, "at least 1"),
        (["--size", "500"], 2, "480x640"),
        (["--model", "vgg17"], 4, "vgg16"),
        (["--model", "digits", "--size", "50x50"], 4, "50x50"),
    ],
)
def test_a_mistake_is_told_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["fullconv", "bench", "dense", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code
    assert message in capsys.readouterr().err


def test_its_help_needs_no_torch_and_explains_every_parameter() -> None:
    code = (
        "import sys\nfrom fullconv.cli import main\nsys.argv = ['fullconv', 'bench', 'dense', '--help']\n"
        "try: main()\nexcept SystemExit as exit: assert not exit.code\n"
        "print('loaded:', *sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded:"
    group: object = get_command(app)
    for param in group.commands["bench"].commands["dense"].params:  # type: ignore[attr-defined]
        assert param.help
        assert param.metavar or param.is_flag

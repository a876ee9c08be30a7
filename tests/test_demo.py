"""The demo's parts on a tiny budget: the classifier, its dense form, the picture, and what a rerun does."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv.demo import classifier as demo_classifier
from fullconv.demo import story as demo
from fullconv.demo.classifier import (
    cell_fields,
    compare,
    dense_map,
    framed,
    save_classifier,
    sliding_window,
    train_classifier,
)
from fullconv.demo.digits import digit_scenes
from fullconv.demo.story import Amounts, DemoResult, run_demo
from fullconv.errors import ModelError, UsageError
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.surgery.convolutionalize import convolutionalize

TINY = Amounts(
    patches=40,
    patch_epochs=1,
    test_patches=20,
    train=2,
    val=1,
    scene=(48, 64),
    epochs=(1, 1, 1, 1),
    compared=(126, 158),
)


def lively_net() -> torch.nn.Module:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(1)
    net = digit_net()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.2, 1)
    return net.eval()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    out = tmp_path_factory.mktemp("made") / "demo"
    return out, run_demo(out, TINY)


@pytest.mark.parametrize("size", [(94, 94), (126, 158), (157, 200)])
def test_dense_is_the_sliding_window_cell_for_cell(size: tuple[int, int]) -> None:
    net = lively_net()
    dense = convolutionalize(net, input_size("digits"))
    (image,), _ = digit_scenes(1, size)
    at_once, windows = dense_map(dense, image), sliding_window(net, image, cell_fields(dense), batch=4)
    assert at_once.shape == windows.shape == (11, *((side - 94) // 32 + 1 for side in size))
    assert windows.std() > 1e-3
    torch.testing.assert_close(at_once, windows, rtol=0, atol=1e-5)


def test_comparison_refuses_what_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lively_net()
    (image,), _ = digit_scenes(1, (126, 158))
    found = compare(net, image, runs=1)
    assert found.cells == (2, 3)
    assert found.difference < 1e-4
    assert min(found.dense_seconds, found.window_seconds) > 0
    monkeypatch.setattr(demo_classifier, "dense_map", lambda dense, image: dense_map(dense, image) + 1e-3)
    with pytest.raises(ModelError, match=r"differ from those of the sliding window by 0\.001"):
        compare(net, image, runs=1)


def test_a_framed_image_has_one_cell_for_each_square() -> None:
    dense = convolutionalize(digit_net().eval(), input_size("digits"))
    fields = cell_fields(dense)
    (image,), _ = digit_scenes(1, (96, 128))
    wider = framed(image, fields)
    np.testing.assert_array_equal(wider[31:-31, 31:-31], image)
    assert dense_map(dense, wider).shape == (11, 3, 4)
    middle = (fields[0].first(1) + fields[0].last(1)) / 2
    assert middle - 31 == 32 + 15.5


def test_the_classifier_learns_and_is_read_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fullconv")
    net = train_classifier(192, 3)
    losses = [float(line.rsplit(" ", 1)[1]) for line in caplog.messages]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert losses[-1] < np.log(11)
    assert net.state_dict().keys() == digit_net().state_dict().keys()
    save_classifier(net, tmp_path / "digits.safetensors")
    again, missing = build_classifier("digits", tmp_path / "digits.safetensors")
    patch = torch.rand(2, 3, *input_size("digits"))
    assert not missing
    torch.testing.assert_close(again.eval()(patch), net(patch))


def test_folding_changes_no_output() -> None:
    torch.manual_seed(0)
    net = demo_classifier._with_norms(digit_net())
    patches = torch.rand(8, 3, *input_size("digits"))
    for _ in range(3):
        net(patches)
    before = net.eval()(patches)
    torch.testing.assert_close(demo_classifier._folded(net)(patches), before)


def test_a_demo_leaves_everything_and_gives_the_signals_back(finished: tuple[Path, DemoResult]) -> None:
    out, result = finished
    assert {path.name for path in out.iterdir()} == {
        "demo.json", "digits.safetensors", "scenes", "ladder", "story.png",
    }  # fmt: skip
    assert [row[0] for row in result.table[1:]] == ["FCN-32s-fixed", "FCN-32s", "FCN-16s", "FCN-8s"]
    assert 0 <= result.accuracy <= 1
    assert "of 20 patches" in result.lines()[0]
    assert "the same 6 windows" in result.lines()[1]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with Image.open(result.picture) as picture:
        assert picture.size == (1040, 639)
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_a_complete_demo_is_only_read(finished: tuple[Path, DemoResult], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fullconv")
    out, result = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run_demo(out, TINY) == result
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert "is complete" in caplog.messages[0]


def test_a_stopped_demo_goes_on(finished: tuple[Path, DemoResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """Here stopped before its picture: nothing is trained again."""
    out, result = finished
    note = json.loads((out / "demo.json").read_text())
    (out / "demo.json").write_text(json.dumps({**note, "result": None}))
    (out / "story.png").unlink()
    monkeypatch.setattr(demo, "train_classifier", pytest.fail)
    again = run_demo(out, TINY)
    assert (again.table, again.accuracy) == (result.table, result.accuracy)
    assert (out / "story.png").is_file()


def test_what_is_no_demo_is_left_alone(tmp_path: Path, finished: tuple[Path, DemoResult]) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="not empty, and no demo"):
        run_demo(tmp_path, TINY)
    with pytest.raises(UsageError, match="is a file"):
        run_demo(mine, TINY)
    assert mine.read_text() == "mine"
    with pytest.raises(UsageError, match="another version or size"):
        run_demo(finished[0])
    (tmp_path / "demo.json").write_text("[")
    with pytest.raises(UsageError, match="cannot be read"):
        run_demo(tmp_path, TINY)

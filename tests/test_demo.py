"""The demo with tiny amounts: the classifier, its dense form, the picture, and a second run."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv.demo import classifier as demo_classifier
from fullconv.demo import story as demo
from fullconv.demo.classifier import (
    add_frame,
    compare,
    compute_dense_map,
    find_cell_fields,
    measure_difference,
    run_sliding_window,
    save_classifier,
    train_classifier,
)
from fullconv.demo.digits import make_digit_scenes
from fullconv.demo.story import Amounts, DemoResult, run_demo
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.training.task import SegmentationTask
from refusals import refuses

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


def random_net() -> torch.nn.Module:
    """Build the classifier with random weights and random batch norms."""
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
def test_dense_logits_equal_those_of_the_sliding_window_in_every_cell(size: tuple[int, int]) -> None:
    net = random_net()
    dense = convolutionalize(net, input_size("digits"))
    (image,), _ = make_digit_scenes(1, size)
    at_once, windows = compute_dense_map(dense, image), run_sliding_window(net, image, find_cell_fields(dense), batch=4)
    assert at_once.shape == windows.shape == (11, *((side - 94) // 32 + 1 for side in size))
    assert windows.std() > 1e-3
    torch.testing.assert_close(at_once, windows, rtol=0, atol=1e-5)


def test_the_comparison_has_cells_difference_and_seconds() -> None:
    net = random_net()
    (image,), _ = make_digit_scenes(1, (126, 158))
    result = compare(net, image, runs=1)
    assert result.cells == (2, 3)
    assert result.difference < 1e-4
    assert min(result.dense_seconds, result.window_seconds) > 0


def test_logits_that_differ_are_refused() -> None:
    logits = torch.rand(11, 2, 3)
    assert measure_difference(logits, logits + 5e-5) == pytest.approx(5e-5, rel=0.01)
    with refuses("dense-logits-differ", "0.001"):
        measure_difference(logits, logits + 1e-3)
    with refuses("dense-shape-differs", "(11, 2, 3)", "(11, 2, 2)"):
        measure_difference(logits, logits[..., :2])


def test_an_image_with_frame_has_one_cell_per_square() -> None:
    dense = convolutionalize(digit_net().eval(), input_size("digits"))
    fields = find_cell_fields(dense)
    (image,), _ = make_digit_scenes(1, (96, 128))
    larger = add_frame(image, fields)
    np.testing.assert_array_equal(larger[31:-31, 31:-31], image)
    assert compute_dense_map(dense, larger).shape == (11, 3, 4)
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
    restored, missing = build_classifier("digits", tmp_path / "digits.safetensors")
    patch = torch.rand(2, 3, *input_size("digits"))
    assert not missing
    torch.testing.assert_close(restored.eval()(patch), net(patch))


def test_folding_batch_norms_does_not_change_the_outputs() -> None:
    torch.manual_seed(0)
    net = demo_classifier._add_norms(digit_net())
    patches = torch.rand(8, 3, *input_size("digits"))
    for _ in range(3):
        net(patches)
    before = net.eval()(patches)
    torch.testing.assert_close(demo_classifier._fold_norms(net)(patches), before)


def test_a_demo_writes_all_files_and_restores_the_signal_handlers(finished: tuple[Path, DemoResult]) -> None:
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


def test_a_stopped_demo_resumes_without_training_again(
    finished: tuple[Path, DemoResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished
    note = json.loads((out / "demo.json").read_text())
    (out / "demo.json").write_text(json.dumps({**note, "result": None}))
    (out / "story.png").unlink()
    monkeypatch.setattr(demo, "train_classifier", pytest.fail)
    again = run_demo(out, TINY)
    assert (again.table, again.accuracy) == (result.table, result.accuracy)
    assert (out / "story.png").is_file()


def test_folders_with_other_files_or_demos_are_refused_and_not_changed(
    tmp_path: Path, finished: tuple[Path, DemoResult]
) -> None:
    other = tmp_path / "thesis.txt"
    other.write_text("text")
    with refuses("not-a-demo-folder", tmp_path):
        run_demo(tmp_path, TINY)
    with refuses("demo-folder-is-file", other):
        run_demo(other, TINY)
    assert other.read_text() == "text"
    with refuses("demo-differs", finished[0]):
        run_demo(finished[0])
    (tmp_path / "demo.json").write_text("[")
    with refuses("unreadable-demo", tmp_path / "demo.json"):
        run_demo(tmp_path, TINY)


def test_ctrl_c_while_the_classifier_is_trained_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.demo.story.measure_accuracy", press)
    with refuses("demo-stopped", tmp_path / "demo", "Run the same command to continue"):
        run_demo(tmp_path / "demo", TINY)
    assert (tmp_path / "demo" / "digits.safetensors").is_file()


def test_a_demo_stopped_by_a_signal_says_that_everything_is_saved(
    finished: tuple[Path, DemoResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = SegmentationTask.finish_step

    def send(task: SegmentationTask) -> None:
        step(task)
        os.kill(os.getpid(), signal.SIGTERM)

    out = shutil.copytree(finished[0], tmp_path / "demo")
    shutil.rmtree(out / "ladder")
    (out / "story.png").unlink()
    monkeypatch.setattr(SegmentationTask, "finish_step", send)
    with refuses("demo-stopped", out):
        run_demo(out, TINY)

"""A run ends with the same weights whatever happens to it on the way."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.errors import DataError, FullconvError, Interrupted, UsageError
from fullconv.evaluation.evaluate import evaluate
from fullconv.images import write_label_map
from fullconv.net.checkpoint import load_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.load import load_runner
from fullconv.training.checkpointing import Checkpointing, load_state
from fullconv.training.job import Job
from fullconv.training.ladder import climb, table
from fullconv.training.progress import Progress
from fullconv.training.recipe import Recipe, default_recipe, override
from fullconv.training.task import SegmentationTask, class_weights
from fullconv.training.train import train
from html_page import Page

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

SPEC = NetSpec("digits", 11, stride=8)
TINY = {"epochs": 2, "batch_size": 4, "crop": 64, "bf16": False, "ema": 0.9, "lr": 1e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=14, val=3, size=(64, 80))


def job(**values: object) -> Job:
    return Job(SPEC, override(default_recipe(), {**TINY, **values}))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(find_dataset(data), job(), out)
    return out


def metrics(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    rows = [metrics(run) for run in (one, other)]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]


def test_run_folder(data: Path, whole: Path) -> None:
    files = {path.name for path in whole.iterdir()}
    assert files == {
        "recipe.yaml", "metrics.csv", "last.ckpt", "last.safetensors", "best.safetensors",
        "report.html", "scores.json",
    }  # fmt: skip
    rows = metrics(whole)
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert [int(row["step"]) for row in rows] == [4, 8]
    kept = yaml.safe_load((whole / "recipe.yaml").read_text())
    assert Recipe.from_dict(kept["recipe"]) == job().recipe
    dataset = find_dataset(data)
    again = evaluate(TorchRunner.load(whole), dataset, dataset.split("val"))
    stored = json.loads((whole / "scores.json").read_text())
    assert {key: stored[key] for key in again.to_dict()} == again.to_dict()


@pytest.mark.parametrize("step", [1, 3, 4, 6, 7])
def test_signal_then_resume_gives_the_same_weights(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """SIGTERM after any step, the last of an epoch and the middle of one among them."""
    count = SegmentationTask.optimizer_step

    def send(task: SegmentationTask, *args: object, **kwargs: object) -> None:
        count(task, *args, **kwargs)
        if task.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmentationTask, "optimizer_step", send)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"SIGTERM.*--resume"):
        train(find_dataset(data), job(), tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    state, _ = load_state(tmp_path / "run" / "last.ckpt")
    assert state.step == step
    monkeypatch.undo()
    train(find_dataset(data), job(), tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", whole)


def test_signal_during_validation(data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation that was cut short is done again, once."""
    step = SegmentationTask.validation_step

    def send(task: SegmentationTask, batch: object, index: int) -> None:
        step(task, batch, index)  # type: ignore[arg-type]
        if index == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(SegmentationTask, "validation_step", send)
    with pytest.raises(Interrupted, match="SIGINT"):
        train(find_dataset(data), job(), tmp_path / "run")
    monkeypatch.undo()
    train(find_dataset(data), job(), tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", whole)


COMMAND = (
    "import sys, time, fullconv.training.task as t, fullconv.cli.app as c\n"
    "step = t.SegmentationTask.training_step\n"
    "def slow(*a):\n    time.sleep(0.15)\n    return step(*a)\n"
    "t.SegmentationTask.training_step = slow\n"
    "c.main()\n"
)


def test_sigkill_then_resume_gives_the_same_weights(data: Path, whole: Path, tmp_path: Path) -> None:
    """Killed twice without warning; the same command with --resume ends with the weights of the undisturbed run."""
    out = tmp_path / "run"
    values = [f"--set={name}={value}" for name, value in {**TINY, "save_minutes": 0.0}.items()]
    command = [sys.executable, "-c", COMMAND, "train", str(data), "--model=digits", "--weights=none"]
    command += [*values, f"--out={out}", "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    seen = -1
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            if (out / "last.ckpt").exists() and load_state(out / "last.ckpt")[0].step > seen + 1:
                break
        process.kill()
        process.wait()
        now = load_state(out / "last.ckpt")[0].step
        assert now > seen
        seen = now
    subprocess.run(command, check=True, capture_output=True, env=environment)
    suffixes = {".ckpt", ".safetensors", ".csv", ".png", ".html", ".json", ".yaml"}
    assert {path.suffix for path in out.iterdir()} <= suffixes
    assert_same_end(out, whole)


def test_a_run_from_before_an_option_goes_on(data: Path, whole: Path, tmp_path: Path) -> None:
    """Its recipe.yaml lacks the option, which is then what it was: the default."""
    for name in ("recipe.yaml", "scores.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    kept = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    del kept["network"]["padding"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(kept))
    train(find_dataset(data), job(), tmp_path, resume=True)
    other = Job(replace(SPEC, padding="reference"), job().recipe)
    with pytest.raises(UsageError, match="padding was 'minimal', now 'reference'"):
        train(find_dataset(data), other, tmp_path, resume=True)


def test_the_reference_padding_trains(data: Path, tmp_path: Path) -> None:
    """And the run folder gives the same network back, for its scores and for another rung of a ladder."""
    tiny = Job(replace(SPEC, padding="reference"), override(job().recipe, {"epochs": 1}))
    result = train(find_dataset(data), tiny, tmp_path)
    net, saved = load_net(tmp_path)
    assert saved.spec.padding == "reference"
    assert net.geometry[0].padding(64) == (0, 0)
    assert 0 <= result.scores.pixel_accuracy <= 1


def test_a_finished_run_is_only_read(data: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    result = train(find_dataset(data), job(), whole, resume=True)
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before
    assert result.scores.mean_iou == json.loads((whole / "scores.json").read_text())["mean_iou"]


def without_alarm(run: Path, copy: Path) -> Path:
    """A copy of a finished run in which the network counts as one that learned."""
    shutil.copytree(run, copy)
    values = json.loads((copy / "scores.json").read_text())
    values["run"]["alarm"] = ""
    (copy / "scores.json").write_text(json.dumps(values))
    return copy


def test_a_finished_run_without_alarm_has_its_onnx_file(data: Path, whole: Path, tmp_path: Path) -> None:
    assert train(find_dataset(data), job(), whole, resume=True).model is None
    run = without_alarm(whole, tmp_path / "run")
    result = train(find_dataset(data), job(), run, resume=True)
    assert result.model == run / "model.onnx"
    assert os.fspath(result) == str(run)
    labels = load_runner(result.model).label_maps(np.zeros((1, 40, 50, 3), np.uint8))
    assert labels.shape == (1, 40, 50)


def test_a_network_without_onnx_form_is_reported_in_one_sentence(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resized = Job(replace(SPEC, upsample="resize"), job(epochs=1).recipe)
    train(find_dataset(data), resized, tmp_path / "first")
    run = without_alarm(tmp_path / "first", tmp_path / "run")
    caplog.clear()
    caplog.set_level(logging.INFO, "fullconv")
    assert train(find_dataset(data), resized, run, resume=True).model is None
    assert len(caplog.messages) == 1
    assert "no model.onnx is written, because a network with --upsample resize" in caplog.messages[0]


def test_progress_reports_every_step_and_every_validation(data: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    result = train(find_dataset(data), job(), tmp_path / "run", on_progress=reports.append)
    assert {(report.network, report.stage, report.steps) for report in reports} == {("FCN-8s", "training", 8)}
    assert [report.step for report in reports if report.scores is None] == list(range(9))
    assert [report.epoch for report in reports if report.scores] == [1, 2]
    assert reports[0].loss is None
    assert all(report.loss is not None for report in reports[1:])
    best = [report.scores for report in reports if report.best and report.scores]
    assert best[-1].mean_iou == pytest.approx(result.scores.mean_iou, abs=1e-6)


def test_progress_counts_feature_maps_first(data: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    fixed = Job(NetSpec("digits", 11, stride=32, fixed=True), job(epochs=1).recipe)
    train(find_dataset(data), fixed, tmp_path, on_progress=reports.append)
    stages = [report.stage for report in reports]
    assert stages == sorted(stages)
    maps = [(report.step, report.steps) for report in reports if report.stage == "features"]
    assert maps == [*((n, 28) for n in range(1, 29)), *((n, 3) for n in range(1, 4))]


def test_a_run_is_not_overwritten(data: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="--resume"):
        train(find_dataset(data), job(), whole)
    with pytest.raises(UsageError, match=r"crop was 64, now 96; seed was 0, now 1"):
        train(find_dataset(data), job(crop=96, seed=1), whole, resume=True)


def test_loss_that_is_not_finite_names_the_batch(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FullconvError, match=r"the loss became (nan|inf) at step \d+, on the batch \d{4}, ") as caught:
        train(find_dataset(data), job(lr=1e30, clip=0.0, epochs=4), tmp_path / "run")
    assert "--lr" in str(caught.value)


def test_masks_without_labels(tmp_path: Path) -> None:
    """Some are harmless, all are refused."""
    dataset = find_dataset(write_digit_dataset(tmp_path / "digits", train=5, val=2, size=(64, 64)))
    for number, sample in enumerate(dataset.split("train")):
        if number == 4:
            result = train(dataset, job(epochs=1), tmp_path / "run")
            assert 0 <= result.scores.mean_iou <= 1
        write_label_map(sample.target, np.full((64, 64), 255, np.uint8), dataset.labels)
    with pytest.raises(DataError, match="nothing to learn"):
        train(dataset, job(epochs=1), tmp_path / "other")


def test_a_bad_validation_mask_is_reported_before_the_first_step(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With all others; an image is opened when it is needed, and then the message says how to find all."""
    caplog.set_level(logging.INFO, "fullconv")
    dataset = find_dataset(shutil.copytree(data, tmp_path / "data"))
    image = dataset.split("train")[3].image
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(DataError, match=rf"{image}: damaged(.|\n)*fullconv check .* finds all such files at once"):
        train(dataset, job(), tmp_path / "run")
    bad = [dataset.split(split)[1].target for split in ("train", "val")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-30])
    caplog.clear()
    with pytest.raises(DataError) as caught:
        train(dataset, job(), tmp_path / "other")
    assert len(caught.value.faults) == 2
    assert all(str(path) in str(caught.value) for path in bad)
    assert not caplog.messages


def test_plan_comes_first(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fullconv")
    train(find_dataset(data), job(epochs=1), tmp_path / "run")
    plan = caplog.messages[0]
    names = [line.split()[0] for line in plan.splitlines()]
    assert names == ["data", "images", "classes", "network", "crops", "numbers", "rates", "epochs", "time", "memory"]
    assert "14 train, 3 val" in plan
    assert "64x80" in plan


def test_ladder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network starts from the one before; what is done is not done again."""
    dataset, start = find_dataset(data), Job(SPEC, override(default_recipe(), {**TINY, "epochs": 1}))
    rungs = climb(dataset, start, tmp_path, epochs_each=(2, 1, 1, 1))
    assert [rung.name for rung in rungs] == ["FCN-32s-fixed", "FCN-32s", "FCN-16s", "FCN-8s"]
    rows = table(rungs)
    assert rows[0][1:5] == ["pixel acc.", "mean acc.", "mean IU", "f.w. IU"]
    assert rows[1][5] == ""
    assert all(row[5][0] in "+-" for row in rows[2:])
    assert (tmp_path / "table.md").read_text().count("| FCN-") == 4
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [row for row in page.rows if row[0].startswith("FCN-")] == rows[1:]
    links = {values["href"] for tag, values in page.attributes if tag == "a" and not values["href"].startswith("#")}
    assert links == {f"{rung.folder.name}/report.html" for rung in rungs}
    assert all((tmp_path / link).is_file() for link in links)
    assert set(json.loads((tmp_path / "table.json").read_text())) == {rung.name for rung in rungs}
    stored = [yaml.safe_load((rung.folder / "recipe.yaml").read_text()) for rung in rungs]
    assert [values["start"] for values in stored] == [None, *(str(rung.folder) for rung in rungs[:-1])]
    with pytest.raises(UsageError, match="--resume"):
        climb(dataset, start, tmp_path)
    with pytest.raises(UsageError, match="4 rungs"):
        climb(dataset, start, tmp_path / "other", epochs_each=(2, 1))
    monkeypatch.setattr(Checkpointing, "save", lambda *_: pytest.fail("trained again"))
    again = climb(dataset, start, tmp_path, epochs_each=(2, 1, 1, 1), resume=True)
    assert [r.result.scores.to_dict() for r in again] == [r.result.scores.to_dict() for r in rungs]


def test_fixed_learns_the_score_layer_alone(data: Path, tmp_path: Path) -> None:
    dataset = find_dataset(data)
    recipe = override(default_recipe(), {**TINY, "ema": 0.0})
    spec = NetSpec("digits", 11, stride=32, fixed=True)
    train(dataset, Job(spec, recipe), tmp_path / "one")
    torch.manual_seed(recipe.seed)
    before, (after, _) = build(spec), load_net(tmp_path / "one")
    moved = {name for name, value in after.named_parameters() if not torch.equal(value, before.get_parameter(name))}
    assert moved == {"score_fr.weight", "score_fr.bias"}


def test_validation_is_in_float32_whatever_the_steps_compute_in(data: Path) -> None:
    """So that the best of the validations is the best of what is delivered."""
    dataset, counted = find_dataset(data), []
    net = build(SPEC)
    torch.manual_seed(0)
    for score in [module for name, module in net.named_modules() if name.startswith("score_")]:
        torch.nn.init.normal_(score.weight)  # type: ignore[arg-type]
    image, target = dataset.read(dataset.split("val")[0])
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None], torch.from_numpy(target)[None], ["a"]
    for low in (False, True):
        task = SegmentationTask(net, default_recipe(), dataset.labels, torch.ones(11), 1).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            task.validation_step(batch, 0)
        counted.append(task.confusion.compute())
    assert torch.equal(*counted)


def test_class_weights() -> None:
    counts = np.array([800, 100, 0, 100])
    assert class_weights(counts, 0).tolist() == [1, 1, 1, 1]
    full = class_weights(counts, 1)
    assert full.tolist() == pytest.approx([0.125, 1, 1, 1])
    assert class_weights(counts, 0.5).tolist() == pytest.approx((full**0.5).tolist())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"epochs": 5, "val_every": 2}, "multiple of val_every"),
        ({"scale": "[2, 1]"}, "scale"),
        ({"lr": -1}, "lr must be above zero"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay must be a finite number"),
        ({"flip": 7}, "flip must be in 0 .. 1"),
        ({"flip": -1}, "flip must be at least 0"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"ema": 1}, "ema must be below 1"),
    ],
)
def test_recipe_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match="recipe: ") as caught:
        override(default_recipe(), values)
    assert message in str(caught.value)


@pytest.mark.parametrize("every", [1, 3, 7, 50])
def test_epochs_that_nobody_gave_follow_the_validations(every: int) -> None:
    recipe = override(default_recipe(), {"val_every": str(every)})
    assert recipe.epochs % every == 0
    assert 0 <= recipe.epochs - default_recipe().epochs < every


def test_recipe_round_trip() -> None:
    recipe = override(default_recipe(), {"scale": "[0.7, 1.4]", "bf16": "false", "lr": "3e-4", "epochs": "12"})
    assert (recipe.scale, recipe.bf16, recipe.lr, recipe.epochs) == ((0.7, 1.4), False, 3e-4, 12)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe

"""A run ends with the same weights when it is stopped and resumed, and every fault stops it with one message."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from children import child
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics, read_training_data
from fullconv.demo.digits import write_digit_dataset
from fullconv.errors import DataError
from fullconv.evaluation.evaluate import evaluate
from fullconv.files import write_text
from fullconv.images import write_label_map
from fullconv.net.checkpoint import load_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.load import load_runner
from fullconv.training.checkpointing import Checkpointing, load_state
from fullconv.training.job import Job
from fullconv.training.ladder import climb, make_table
from fullconv.training.progress import Progress
from fullconv.training.recipe import Recipe, default_recipe, override
from fullconv.training.task import SegmentationTask, compute_class_weights
from fullconv.training.train import train
from html_page import Page
from refusals import refuses

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
    """Train without an interruption."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(find_dataset(data), job(), out)
    return out


def metrics(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    rows = [metrics(run) for run in (one, other)]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]


def test_a_run_folder_has_its_files_metrics_recipe_and_scores(data: Path, whole: Path) -> None:
    files = {path.name for path in whole.iterdir()}
    assert files == {
        "recipe.yaml", "metrics.csv", "last.ckpt", "last.safetensors", "best.safetensors",
        "report.html", "scores.json",
    }  # fmt: skip
    rows = metrics(whole)
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert [int(row["step"]) for row in rows] == [4, 8]
    settings = yaml.safe_load((whole / "recipe.yaml").read_text())
    assert Recipe.from_dict(settings["recipe"]) == job().recipe
    dataset = find_dataset(data)
    again = evaluate(TorchRunner.load(whole), dataset, dataset.split("val"))
    stored = json.loads((whole / "scores.json").read_text())
    assert {key: stored[key] for key in again.to_dict()} == again.to_dict()


@pytest.mark.parametrize("step", [1, 3, 4, 6, 7])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_weights(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: int,
) -> None:
    """SIGTERM comes after the last step of an epoch and after others."""
    count = SegmentationTask.finish_step

    def send(task: SegmentationTask) -> None:
        count(task)
        if task.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmentationTask, "finish_step", send)
    before = signal.getsignal(signal.SIGTERM)
    with refuses("stopped-by-signal", "SIGTERM", f"step {step}"):
        train(find_dataset(data), job(), tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    state, _ = load_state(tmp_path / "run" / "last.ckpt")
    assert state.step == step
    monkeypatch.undo()
    caplog.clear()
    with caplog.at_level(logging.INFO, "fullconv"):
        train(find_dataset(data), job(), tmp_path / "run", resume=True)
    assert " to go, including " in caplog.text
    assert "in total" not in caplog.text
    assert_same_end(tmp_path / "run", whole)


def test_a_run_stopped_during_validation_resumes_to_the_same_weights(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run repeats the interrupted validation, once."""
    step, counted = SegmentationTask.validation_step, []

    def send(task: SegmentationTask, batch: object) -> None:
        step(task, batch)  # type: ignore[arg-type]
        counted.append(batch)
        if len(counted) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(SegmentationTask, "validation_step", send)
    with refuses("stopped-by-signal", "SIGINT"):
        train(find_dataset(data), job(), tmp_path / "run")
    monkeypatch.undo()
    train(find_dataset(data), job(), tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", whole)


COMMAND = (
    "import os, time, fullconv.training.task as t, fullconv.cli.app as c\n"
    "step = t.SegmentationTask.training_step\n"
    "def slow(task, *a):\n"
    "    time.sleep(0.15)\n"
    "    while task.step >= int(open(os.environ['GO']).read()): time.sleep(0.05)\n"
    "    return step(task, *a)\n"
    "t.SegmentationTask.training_step = slow\n"
    "c.main()\n"
)


def is_saved(run: Path, step: int) -> bool:
    return (run / "last.ckpt").exists() and load_state(run / "last.ckpt")[0].step > step


def test_a_killed_run_resumes_to_the_same_weights(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL stops the command twice; the same command with --resume ends with the weights of an undisturbed run."""
    out = tmp_path / "run"
    values = [f"--set={name}={value}" for name, value in {**TINY, "save_minutes": 0.0}.items()]
    command = ["-c", COMMAND, "train", str(data), "--model=digits", "--weights=none", "--stride=8"]
    command += [*values, f"--out={out}", "--resume"]
    go = tmp_path / "go"  # the step before which a run waits, so that it does not end before it is killed
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GO": str(go)}
    last_step = -1
    for most in (3, 6):
        write_text(go, str(most))
        with child(*command, env=environment) as process:
            process.wait_for(partial(is_saved, out, last_step + 1))
        last_step = load_state(out / "last.ckpt")[0].step
    write_text(go, "99")
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
    suffixes = {".ckpt", ".safetensors", ".csv", ".png", ".html", ".json", ".yaml"}
    assert {path.suffix for path in out.iterdir()} <= suffixes
    assert_same_end(out, whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups with signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_all_processes_of_a_run_saves_it(data: Path, whole: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C and schedulers send a signal to the processes that load images, too."""
    out = tmp_path / "run"
    values = [f"--set={name}={value}" for name, value in {**TINY, "save_minutes": 0.0, "workers": 2}.items()]
    command = ["-c", COMMAND, "train", str(data), "--model=digits", "--weights=none", "--stride=8"]
    command += [*values, f"--out={out}", "--resume"]
    go = tmp_path / "go"
    write_text(go, "6")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GO": str(go)}
    with child(*command, env=environment) as process:
        process.wait_for((out / "last.ckpt").exists)
        os.killpg(process.pid, number)
        write_text(go, "99")
        _, text = process.finish()
    assert f"stopped by {number.name} at step" in text.replace("\n", " "), text
    assert process.returncode == 130
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
    assert_same_end(out, whole)


def test_a_run_without_a_newer_option_resumes_with_its_default(data: Path, whole: Path, tmp_path: Path) -> None:
    for name in ("recipe.yaml", "scores.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    settings = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    del settings["network"]["padding"], settings["recipe"]["loss"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train(find_dataset(data), job(), tmp_path, resume=True)
    other = Job(replace(SPEC, padding="reference"), job().recipe)
    with refuses("run-settings-differ", "padding was 'minimal', now 'reference'"):
        train(find_dataset(data), other, tmp_path, resume=True)


def test_a_network_with_reference_padding_trains_and_is_read_back(data: Path, tmp_path: Path) -> None:
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
    """Copy a finished run, and remove its alarm."""
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


def test_a_network_without_onnx_form_trains_and_logs_one_sentence(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resized = Job(replace(SPEC, upsample="resize"), job(epochs=1).recipe)
    train(find_dataset(data), resized, tmp_path / "first")
    run = without_alarm(tmp_path / "first", tmp_path / "run")
    caplog.clear()
    caplog.set_level(logging.INFO, "fullconv")
    assert train(find_dataset(data), resized, run, resume=True).model is None
    assert len(caplog.messages) == 1
    assert "model.onnx was not written: a network with --upsample resize" in caplog.messages[0]


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


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(data: Path, whole: Path) -> None:
    with refuses("run-exists", whole):
        train(find_dataset(data), job(), whole)
    with refuses("run-settings-differ", "crop was 64, now 96; seed was 0, now 1"):
        train(find_dataset(data), job(crop=96, seed=1), whole, resume=True)


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04")
    with refuses("unreadable-checkpoint", tmp_path / "last.ckpt"):
        load_state(tmp_path / "last.ckpt")


def test_a_loss_that_is_not_finite_names_the_batch(data: Path, tmp_path: Path) -> None:
    with refuses("loss-not-finite", "--lr, now 1e+30") as refusal:
        train(find_dataset(data), job(lr=1e30, clip=0.0, epochs=4, warmup=0.0, power=0.0), tmp_path / "run")
    assert re.search(r"on the batch \d{4}, \d{4}, \d{4}, \d{4};", refusal.message)


def test_some_unlabelled_masks_are_allowed_and_all_are_refused(tmp_path: Path) -> None:
    dataset = find_dataset(write_digit_dataset(tmp_path / "digits", train=5, val=2, size=(64, 64)))
    for number, sample in enumerate(dataset.split("train")):
        if number == 4:
            result = train(dataset, job(epochs=1), tmp_path / "run")
            assert 0 <= result.scores.mean_iou <= 1
        write_label_map(sample.target, np.full((64, 64), 255, np.uint8), dataset.labels)
    with refuses("unlabelled-split"):
        train(dataset, job(epochs=1), tmp_path / "other")


def test_validation_masks_that_are_all_ignored_are_refused_before_the_first_step(data: Path, tmp_path: Path) -> None:
    dataset = find_dataset(shutil.copytree(data, tmp_path / "data"))
    for sample in dataset.split("val"):
        write_label_map(sample.target, np.full((64, 80), 255, np.uint8), dataset.labels)
    for read in (lambda: read_statistics(dataset, "train", "val"), lambda: read_training_data(dataset.root)):
        with refuses("unlabelled-split", dataset.root, "no pixel of split 'val' has a class"):
            read()
    with refuses("unlabelled-split"):
        train(dataset, job(epochs=1), tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_damaged_masks_are_all_reported_before_the_first_step(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Images are decoded only when they are needed; the message then says how to list all damaged ones."""
    caplog.set_level(logging.INFO, "fullconv")
    dataset = find_dataset(shutil.copytree(data, tmp_path / "data"))
    image = dataset.split("train")[3].image
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(DataError) as caught:
        train(dataset, job(), tmp_path / "run")
    assert caught.value.code == "truncated-file"
    assert str(image) in str(caught.value)
    assert f"fullconv check {dataset.root}" in str(caught.value)
    bad = [dataset.split(split)[1].target for split in ("train", "val")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-30])
    caplog.clear()
    with pytest.raises(DataError) as caught:
        train(dataset, job(), tmp_path / "other")
    assert len(caught.value.faults) == 2
    assert all(str(path) in str(caught.value) for path in bad)
    assert not caplog.messages


def test_the_plan_is_logged_first(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fullconv")
    train(find_dataset(data), job(epochs=1), tmp_path / "run")
    plan = caplog.messages[0]
    names = [line.split()[0] for line in plan.splitlines()]
    assert names == ["data", "images", "classes", "network", "crops", "precision", "rates", "epochs", "time", "memory"]
    assert "14 train, 3 val" in plan
    assert "64x80" in plan


def test_a_ladder_trains_each_network_from_the_previous_one_and_resumes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, start = find_dataset(data), Job(SPEC, override(default_recipe(), {**TINY, "epochs": 1}))
    rungs = climb(dataset, start, tmp_path, epochs_each=(2, 1, 1, 1))
    assert [rung.name for rung in rungs] == ["FCN-32s-fixed", "FCN-32s", "FCN-16s", "FCN-8s"]
    rows = make_table(rungs)
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
    with refuses("run-exists", tmp_path):
        climb(dataset, start, tmp_path)
    with refuses("epochs-each-differ", "4 rungs"):
        climb(dataset, start, tmp_path / "other", epochs_each=(2, 1))
    monkeypatch.setattr(Checkpointing, "save", lambda *_: pytest.fail("trained again"))
    again = climb(dataset, start, tmp_path, epochs_each=(2, 1, 1, 1), resume=True)
    assert [r.result.scores.to_dict() for r in again] == [r.result.scores.to_dict() for r in rungs]


def test_fcn32s_fixed_trains_only_the_score_layer(data: Path, tmp_path: Path) -> None:
    dataset = find_dataset(data)
    recipe = override(default_recipe(), {**TINY, "ema": 0.0})
    spec = NetSpec("digits", 11, stride=32, fixed=True)
    train(dataset, Job(spec, recipe), tmp_path / "one")
    torch.manual_seed(recipe.seed)
    before, (after, _) = build(spec), load_net(tmp_path / "one")
    changed = {name for name, value in after.named_parameters() if not torch.equal(value, before.get_parameter(name))}
    assert changed == {"score_fr.weight", "score_fr.bias"}


def test_validation_is_in_float32_also_when_training_is_in_bfloat16(data: Path) -> None:
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
            task.validation_step(batch)
        counted.append(task.confusion)
    assert torch.equal(*counted)


def test_class_weights_are_powers_of_inverse_frequencies() -> None:
    counts = np.array([800, 100, 0, 100])
    assert compute_class_weights(counts, 0).tolist() == [1, 1, 1, 1]
    full = compute_class_weights(counts, 1)
    assert full.tolist() == pytest.approx([0.125, 1, 1, 1])
    assert compute_class_weights(counts, 0.5).tolist() == pytest.approx((full**0.5).tolist())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": "many"}, "epochs='many'"),
        ({"epochs": 5, "val_every": 2}, "multiple of val_every"),
        ({"scale": "[2, 1]"}, "scale"),
        ({"lr": -1}, "lr must be greater than 0"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay must be a finite number"),
        ({"flip": 7}, "flip must be from 0 to 1"),
        ({"flip": -1}, "flip must be from 0 to 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"ema": 1}, "ema must be less than 1"),
    ],
)
def test_a_recipe_refuses_invalid_values(values: dict[str, object], message: str) -> None:
    with refuses("invalid-recipe-value", message):
        override(default_recipe(), values)


def test_a_recipe_refuses_unknown_settings() -> None:
    with refuses("unknown-recipe-setting", "did you mean 'epochs'"):
        override(default_recipe(), {"epoch": 3})


def test_a_recipe_refuses_text_that_is_not_yaml() -> None:
    with refuses("invalid-recipe-value", "scale=[1, 2"):
        override(default_recipe(), {"scale": "[1, 2"})


@pytest.mark.parametrize("every", [1, 3, 7, 50])
def test_default_epochs_are_rounded_up_to_a_multiple_of_val_every(every: int) -> None:
    recipe = override(default_recipe(), {"val_every": str(every)})
    assert recipe.epochs % every == 0
    assert 0 <= recipe.epochs - default_recipe().epochs < every


def test_a_recipe_is_written_and_read_back() -> None:
    recipe = override(default_recipe(), {"scale": "[0.7, 1.4]", "bf16": "false", "lr": "3e-4", "epochs": "12"})
    assert (recipe.scale, recipe.bf16, recipe.lr, recipe.epochs) == ((0.7, 1.4), False, 3e-4, 12)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe

"""A training of some minutes, one that ends when nothing improves, and the loggers."""

from __future__ import annotations

import csv
import os
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from command_line import run
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.checkpointing import Checkpointing, RunState, load_state
from fullconv.training.job import Job, TrainingOptions, make_job
from fullconv.training.ladder import climb
from fullconv.training.progress import Progress, TimeLeft
from fullconv.training.recipe import default_recipe, override, paper_recipe
from fullconv.training.run import loggers
from fullconv.training.run.schedule import Schedule, plan_again, schedule_by_epochs, schedule_by_minutes
from fullconv.training.task import SegmentationTask
from fullconv.training.train import train
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

SPEC = NetSpec("digits", 11, stride=32)
TINY = {"batch_size": 2, "crop": 64, "bf16": False, "lr": 1e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return find_dataset(write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=5, val=1, size=(64, 80)))


def job(**values: object) -> Job:
    return Job(SPEC, override(default_recipe(), {**TINY, **values}))


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = SegmentationTask.finish_step

    def send(task: SegmentationTask) -> None:
        count(task)
        if task.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmentationTask, "finish_step", send)


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_same_end(one: Path, other: Path) -> None:
    first, second = (load_file(run / "last.safetensors") for run in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["mean_iou"] for row in rows(one)] == [row["mean_iou"] for row in rows(other)]


@pytest.mark.parametrize("seconds", [20.0, 60.0, 600.0, 7200.0])
@pytest.mark.parametrize("step", [0.05, 0.7, 9.0])
@pytest.mark.parametrize("validation", [0.0, 0.3, 5.0])
def test_a_schedule_fits_into_its_time_and_uses_it(seconds: float, step: float, validation: float) -> None:
    """The time has steps, validations, one of them after the last step, and the scoring of the best weights."""
    plan = schedule_by_minutes(seconds, step, validation)
    validations = -(-plan.steps // plan.every)
    used = plan.steps * step + (validations + 1) * validation
    assert used <= 0.98 * seconds + 1e-9
    assert used >= 0.97 * seconds - step * max(12, plan.every) - validation
    assert 1 <= validations <= 13
    assert validations == 1 or validations * validation <= 0.25 * seconds


def test_the_time_of_decoding_is_left_free() -> None:
    assert schedule_by_minutes(600, 1.0, 0.0, 300.0).steps == schedule_by_minutes(600 - 300 / 0.97, 1.0, 0.0).steps
    with refuses("too-few-minutes", "add at least 3 min"):
        schedule_by_minutes(60, 1, 1, 240)


def test_a_time_without_a_step_is_refused() -> None:
    with refuses("too-few-minutes", "a step takes 30.0 s and a validation 20.0 s", "add at least "):
        schedule_by_minutes(60, 30, 20)
    for options in (
        {"minutes": 3, "epochs": 4}, {"epochs": 7, "values": {"minutes": "5"}}, {"minutes": 3, "values": {"epochs": 3}},
        {"minutes": 3, "values": {"val_every": 2}}, {"values": {"minutes": 3, "val_every": "2"}},
    ):  # fmt: skip
        with refuses("minutes-and-epochs"):
            TrainingOptions(**options).check()  # type: ignore[arg-type]
    with refuses("invalid-recipe-value", "minutes must be greater than 0"):
        TrainingOptions(minutes=0).check()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"epochs": 7}, "epochs"),
        ({"batch": 7}, "batch_size"),
        ({"minutes": 7}, "minutes"),
        ({"precision": "fp32"}, "bf16"),
        ({"precision": "fp32"}, "fp16"),
    ],
)
def test_a_value_that_replaces_an_option_is_refused(options: dict[str, Any], name: str) -> None:
    with refuses("given-twice", f"{next(iter(options))} is given", f"({name})"):
        TrainingOptions(**options, values={name: 3}).check()


def test_epochs_of_each_rung_are_not_replaced_in_silence(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with refuses("minutes-and-epochs", "epochs_each"):
        climb(data, job(minutes=3), tmp_path / "ladder", epochs_each=(1, 1, 1, 1))
    command = ["ladder", data.root, "--model", "digits", "--epochs-each", "1,1,1,1", "--epochs", "3"]
    assert run(monkeypatch, *command) == 2
    assert "leave out --epochs or --epochs-each" in " ".join(capsys.readouterr().err.split())


def test_the_ladder_states_its_epochs_and_batches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are those of the recipes, and not chosen by the data."""
    assert run(monkeypatch, "ladder", "--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    plain, paper = default_recipe(), paper_recipe()
    assert plain.epochs == paper.epochs
    assert f"Passes of each network over the training images. [default: ({plain.epochs})]" in shown
    assert f"Crops per step. [default: ({plain.batch_size}, or {paper.batch_size} with the paper's recipe)]" in shown


def test_epochs_give_the_steps_of_before() -> None:
    plan = schedule_by_epochs(override(default_recipe(), {"epochs": 6, "val_every": 3}), 7)
    assert (plan.steps, plan.every) == (42, 21)


def test_a_training_of_some_seconds_keeps_its_plan_and_resumes_to_the_same_weights(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The steps are not a multiple of an epoch; a resumed run does not measure again."""
    caplog.set_level("INFO", "fullconv")
    monkeypatch.setattr("fullconv.training.run.loop.plan_again", lambda *_: False)
    measured = [10.0]
    monkeypatch.setattr("fullconv.training.train.measure_step", lambda *_: measured.pop())
    timed = job(minutes=2)
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with refuses("stopped-by-signal", "step 3"):
            train(data, timed, tmp_path / "run")
    state, _ = load_state(tmp_path / "run" / "last.ckpt")
    assert 3 < state.total <= 11
    assert f"{state.total} steps fit into 2 minutes" in caplog.text
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored["schedule"] == {"steps": state.total, "every": state.every}
    train(data, timed, tmp_path / "run", resume=True)
    assert rows(tmp_path / "run")[-1]["step"] == str(state.total)
    assert float(rows(tmp_path / "run")[-1]["lr"]) == 0

    same = Schedule(state.total, state.every)
    monkeypatch.setattr("fullconv.training.train.schedule_by_minutes", lambda *_: same)
    measured.append(10.0)
    train(data, timed, tmp_path / "whole")
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_a_plan_of_a_busy_moment_is_made_again_after_the_first_validation(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fullconv")
    monkeypatch.setattr("fullconv.training.train.measure_step", lambda *_: 6.0)
    monkeypatch.setattr(TimeLeft, "step_seconds", lambda self: 1.0)
    timed = job(minutes=0.6)
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        with refuses("stopped-by-signal", "step 9"):
            train(data, timed, tmp_path / "run")
    state, _ = load_state(tmp_path / "run" / "last.ckpt")
    assert state.total >= 9 > state.planned >= 1
    assert f"{state.total} steps instead of " in caplog.text
    train(data, timed, tmp_path / "run", resume=True)
    steps = [int(row["step"]) for row in rows(tmp_path / "run")]
    assert steps[-1] == state.total
    planned = [step for step in steps if step >= state.planned]
    assert {later - step for step, later in pairwise(planned)} <= {state.every}
    assert float(rows(tmp_path / "run")[-1]["lr"]) == 0
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored["schedule"] == {"steps": state.total, "every": state.every}


@pytest.mark.parametrize(
    ("step", "total"), [(1.0, 106), (2.0, 58), (1.05, None), (500.0, 11)], ids=["faster", "slower", "same", "too slow"]
)
def test_a_plan_is_made_again_once_and_only_if_it_changes_much(step: float, total: int | None) -> None:
    fabric = SimpleNamespace(broadcast=lambda values: values)
    state = RunState(rows=[{}], seconds=12.0, available=120.0, total=50 if step == 1.0 else 100, every=10)
    task, left = SimpleNamespace(step=10, total_steps=state.total), TimeLeft(step, 0.0, 10)
    data = SimpleNamespace(decoding_left=lambda: 0.0)
    assert not plan_again(fabric, task, data, state, left), "no step is measured yet"  # type: ignore[arg-type]
    for _ in range(3):
        left.add_step(step)
    assert plan_again(fabric, task, data, state, left)  # type: ignore[arg-type]
    if total is None:
        assert (task.total_steps, state.total, state.planned) == (100, 100, 0)
    else:
        assert task.total_steps == state.total == total
        assert (state.planned, left.planned, left.every) == (10, 10, state.every)
    assert not plan_again(fabric, task, data, state, left)  # type: ignore[arg-type]


def test_no_step_is_added_after_the_last_one_if_no_time_is_left() -> None:
    fabric, data = SimpleNamespace(broadcast=lambda values: values), SimpleNamespace(decoding_left=lambda: 0.0)
    state = RunState(rows=[{}], seconds=240.0, available=300.0, total=5, every=5)
    task, left = SimpleNamespace(step=5, total_steps=5), TimeLeft(40.0, 40.0, 5)
    for _ in range(3):
        left.add_step(40.0)
    assert plan_again(fabric, task, data, state, left)  # type: ignore[arg-type]
    assert (task.total_steps, state.total) == (5, 5)


def test_a_training_of_epochs_is_never_planned_again() -> None:
    state = RunState(rows=[{}], seconds=12.0, total=100, every=10)
    task = SimpleNamespace(step=10, total_steps=100)
    assert not plan_again(None, task, None, state, TimeLeft(99.0, 0.0, 10))  # type: ignore[arg-type]


def test_a_measured_step_has_loading_and_optimizer_and_the_choice_says_the_time(data: DataSet, tmp_path: Path) -> None:
    options = TrainingOptions("digits", minutes=0.3, batch=2, crop=64)
    timed = make_job(data, options)
    assert [choice.value for choice in timed.choices if choice.name == "epochs"] == ["those of 0.3 minutes"]
    result = train(data, timed, tmp_path)
    assert 0.5 < result.seconds < 180
    assert len(rows(tmp_path)) >= 1


def test_a_training_ends_when_validations_stop_to_improve_also_on_resuming(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing improves here: all validations of this network are equal, and only the first one is the best."""
    patient = job(epochs=9, patience=2, lr=1e-12)
    best: list[bool] = []

    def note(progress: Progress) -> None:
        best.extend([progress.best] * (progress.scores is not None))

    train(data, patient, tmp_path / "whole", on_progress=note)
    assert best == [True, False, False]
    assert [row["step"] for row in rows(tmp_path / "whole")] == ["3", "6", "9"]
    with monkeypatch.context() as patch:
        stop_at(7, patch)
        with refuses("stopped-by-signal", "step 7"):
            train(data, patient, tmp_path / "run")
    train(data, patient, tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    (tmp_path / "run" / "scores.json").unlink()
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    train(data, patient, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


def test_patience_counts_validations_since_the_best(tmp_path: Path) -> None:
    task = SimpleNamespace(step=5, total_steps=9, recipe=SimpleNamespace(patience=2))
    for scores, finished in (([0.1, 0.3, 0.2], False), ([0.3, 0.1, 0.2], True), ([0.1, 0.1, 0.2], False), ([], False)):
        state = RunState(rows=[{"mean_iou": score} for score in scores])
        assert Checkpointing(tmp_path, None, state, 1, 1.0).is_finished(task) is finished  # type: ignore[arg-type]


def test_losses_and_scores_are_logged(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = job(epochs=4)
    for name in ("tensorboard", "csv"):
        train(data, Job(SPEC, logged.recipe, logger=name), tmp_path / name)  # type: ignore[arg-type]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [10]
    expected = [float(row["mean_iou"]) for row in rows(tmp_path / "tensorboard")]
    assert [event.value for event in events.Scalars("val_mean_iou")] == pytest.approx(expected)
    lines = list(csv.DictReader((tmp_path / "csv" / "csv" / "version_0" / "metrics.csv").read_text().splitlines()))
    assert [float(line["val_mean_iou"]) for line in lines if line["val_mean_iou"]] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_one_sentence(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fullconv.extras.find_spec", lambda package: None if package == name else True)
    with refuses("missing-extra", name):
        loggers.make_logger(name, tmp_path, 0)  # type: ignore[arg-type]

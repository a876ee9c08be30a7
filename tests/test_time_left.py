"""The estimate of the time to go, on recorded durations."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.job import Job
from fullconv.training.progress import Progress, TimeLeft, format_duration, typical
from fullconv.training.recipe import default_recipe, override
from fullconv.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")


def record(kind: str, steps: int) -> list[float]:
    """Return the seconds of the steps of a run."""
    noise = np.random.default_rng(0).uniform(0.9, 1.2, steps)
    if kind == "two slow first steps":
        noise[:2] = 8
    elif kind == "other sizes":
        noise[::4] *= 4
    elif kind == "interrupted":
        noise[3] = 600
    return [float(value) for value in noise]


@pytest.mark.parametrize(
    ("kind", "per_epoch"),
    [
        *[(kind, steps) for kind in ("even", "two slow first steps") for steps in (3, 20, 150)],
        *[(kind, steps) for kind in ("other sizes", "interrupted") for steps in (20, 150)],
    ],
)
def test_the_estimate_is_right_after_the_first_epoch_and_stays_so(kind: str, per_epoch: int) -> None:
    epochs, validation = 30, 3.0
    steps = record(kind, per_epoch * epochs)
    left = TimeLeft(8.0 if kind == "two slow first steps" else 1.0, 30.0, per_epoch)
    for done, seconds in enumerate(steps, 1):
        left.add_step(seconds)
        if done % per_epoch == 0 and done < len(steps):
            left.add_validation(validation)
            true = sum(steps[done:]) + validation * (epochs - done // per_epoch)
            assert true / 1.5 < left.seconds(done, len(steps)) < true * 1.5


def test_the_estimate_follows_a_machine_that_slows_down() -> None:
    left = TimeLeft(1.0, 0.0, 1000)
    for seconds in [1.0] * 100 + [3.0] * 60:
        left.add_step(seconds)
    assert left.seconds(160, 1000) == pytest.approx(840 * 3)


def test_the_plan_counts_until_the_run_has_steps() -> None:
    left = TimeLeft(2.0, 5.0, 10)
    assert left.seconds(0, 25) == 25 * 2 + 3 * 5
    left.add_step(9.0)
    assert left.seconds(1, 25) == 24 * 2 + 3 * 5
    left.add_step(1.5)
    assert left.seconds(2, 25) == 23 * 1.5 + 3 * 5
    assert left.seconds(25, 25) == 5  # the last validation


def test_typical_is_the_mean_without_interruptions() -> None:
    assert typical([1.0, 1.0, 2.0]) == pytest.approx(4 / 3)
    assert typical([1.0, 1.0, 100.0]) == pytest.approx(5 / 3)


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (185, "3 min 05 s"), (7260, "2 h 01 min")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_training_reports_and_logs_the_time_to_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fullconv")
    data = find_dataset(write_digit_dataset(tmp_path / "digits", train=6, val=1, size=(64, 80)))
    recipe = override(default_recipe(), {"epochs": 3, "batch_size": 2, "crop": 64})
    reports: list[Progress] = []
    train(data, Job(NetSpec("digits", 11, stride=8), recipe), tmp_path / "run", on_progress=reports.append)
    left = [report.seconds_left for report in reports]
    assert all(value is not None and value > 0 for value in left[:-2])
    assert left[-1] == 0
    epochs = [line for line in caplog.messages if re.search(r"epoch \d", line)]
    assert [bool(re.search(r", about \d+ s to go$", line)) for line in epochs] == [True, True, False]

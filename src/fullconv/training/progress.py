"""The progress of a training as the callback `on_progress` receives it, the time left, and the result of a training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Literal, TypeAlias

from fullconv.evaluation.measure import Measurement
from fullconv.metrics import Scores

__all__ = ["OnProgress", "Progress", "TimeLeft", "TrainResult", "format_duration", "typical"]

RECENT = 50
"""The number of steps that the estimate is based on."""

WARM_UP = 2
"""The number of first steps that count only while there are no others: they allocate memory, and are slower."""

MOST = 3.0
"""A step counts as at most so many times the median step."""


@dataclass(frozen=True)
class Progress:
    """One report of a training: at the start, after each step, and after each validation.

    `stage` is "features" while FCN-32s-fixed computes feature maps in advance; `step` and `steps` then count maps. In
    the stage "training" they count the steps of the whole run, including those before a resume. `epoch` is the number
    of epochs done, with a fraction. `loss` is a running mean, None before the first step. Reports of validations have
    `scores`; `best` is True if they are the best so far. A ladder reports its networks one after the other.
    `seconds_left` is the estimated time to the end of the training; None in the stage "features".
    """

    network: str
    stage: Literal["features", "training"]
    step: int
    steps: int
    epoch: float = 0.0
    loss: float | None = None
    scores: Scores | None = None
    best: bool = False
    seconds_left: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""A function that receives the reports, in the thread of the training. An exception in it ends the training."""


def typical(seconds: list[float]) -> float:
    """Return the mean of durations, each counted as at most `MOST` times their median.

    The mean, and not the median, is right for batches of images of different sizes. The limit keeps out interruptions.
    """
    limit = MOST * median(seconds)
    return fmean(min(value, limit) for value in seconds)


class TimeLeft:
    """Estimates the seconds to the end of a run, and corrects itself with each step.

    `step` and `validation` are the seconds that the plan measured. The estimate uses them until the run has its own.
    Validations are `steps_per_validation` steps apart, counted from the step `planned`.
    """

    def __init__(self, step: float, validation: float, steps_per_validation: int, planned: int = 0) -> None:
        self.step, self.validation = step, validation
        self.every, self.planned = steps_per_validation, planned
        self._first: list[float] = []
        self._steps: deque[float] = deque(maxlen=RECENT)

    def add_step(self, seconds: float) -> None:
        """Record the duration of a training step."""
        if len(self._first) < WARM_UP:
            self._first.append(seconds)
        else:
            self._steps.append(seconds)

    def add_validation(self, seconds: float) -> None:
        """Record the duration of a validation; the latest one counts."""
        self.validation = seconds

    def seconds(self, done: int, total: int) -> float:
        """Return the seconds that are left after `done` of `total` steps and all validations up to there."""
        validations = -(-(total - self.planned) // self.every) - (done - self.planned) // self.every
        return (total - done) * self.step_seconds() + validations * self.validation

    @property
    def is_measured(self) -> bool:
        """Return whether the run has measured steps of its own, after the first ones."""
        return bool(self._steps)

    def step_seconds(self) -> float:
        """Return the seconds of a step: those of the last ones, or what the plan measured before there are any."""
        return typical(list(self._steps)) if self._steps else min([self.step, *self._first])


def format_duration(seconds: float) -> str:
    """Return a duration as text, such as 3 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    `folder` is the run folder, `scores` are those of the best weights on the validation images, `seconds` is the time
    of training, `parameters` the size of the network. `alarm` is the reason not to use the network, or empty: the
    network labels nearly everything as one class, or is no better than that. `model` is the path of model.onnx. It is
    None if there is an alarm or the network has no ONNX form. A result can be used as the path of its folder, as in
    `fullconv.load(result)`. `folds` are the results of the folds of a cross-validation; `scores` are then those of all
    images, each labelled by the network that was not trained on it, and there is no model. `measured` holds the counts
    of each validation image; None for folds, and for a run that was finished before.
    """

    folder: Path
    scores: Scores
    seconds: float
    parameters: int
    alarm: str = ""
    model: Path | None = None
    folds: tuple[TrainResult, ...] = ()
    measured: Measurement | None = field(default=None, repr=False, compare=False)

    def __fspath__(self) -> str:
        """Return the run folder."""
        return str(self.folder)

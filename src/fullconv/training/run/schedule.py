"""The schedule of a run: its steps and validations, by epochs or by the time that is given."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import nn

from fullconv.errors import UsageError
from fullconv.forks import native_call
from fullconv.training.checkpointing import RunState
from fullconv.training.data_module import DataModule
from fullconv.training.progress import WARM_UP, TimeLeft, format_duration, typical
from fullconv.training.recipe import Recipe
from fullconv.training.task import SegmentationTask

__all__ = ["Schedule", "measure_step", "plan_again", "schedule_by_epochs", "schedule_by_minutes"]

logger = logging.getLogger(__name__)

VALIDATIONS = 12
"""Validations in a training of some minutes, at most."""

VALIDATION_SHARE = 0.2
"""The share of the time that validations take, at most, unless there is only one."""

RESERVE = 0.03
"""The share of the time that stays free."""

MOST_STEPS, MOST_SECONDS, MEASURING_SHARE = 12, 8.0, 0.03
"""Steps that are measured, at most, and the seconds or share of the time after which no further one is measured."""


TOLERANCE = 0.1
"""The share by which the number of steps must change, or the first plan stays."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a run, and the number of steps from one validation to the next; the last step is validated, too.

    `seconds` is the time for all of them; 0 where epochs count.
    """

    steps: int
    every: int
    seconds: float = 0.0


def schedule_by_epochs(recipe: Recipe, steps_per_epoch: int) -> Schedule:
    """Return the schedule of the recipe's epochs."""
    return Schedule(steps_per_epoch * recipe.epochs, steps_per_epoch * recipe.val_every)


def schedule_by_minutes(
    seconds: float, step_seconds: float, validation_seconds: float, decoding_seconds: float = 0.0
) -> Schedule:
    """Return the longest schedule that fits into `seconds`, with all its validations and the scoring at its end.

    `decoding_seconds` are spent on images that are decoded for the first time, in addition to steps and validations.

    Raises UsageError if not even one step and its validation fit.
    """
    free = (1 - RESERVE) * seconds - decoding_seconds - validation_seconds  # scoring takes as long as a validation
    count = int(VALIDATION_SHARE * free / validation_seconds) if validation_seconds > 0 else VALIDATIONS
    count = max(1, min(VALIDATIONS, count))
    steps = int((free - count * validation_seconds) / step_seconds)
    if steps < 1:
        missing = (step_seconds + 2 * validation_seconds + decoding_seconds) / (1 - RESERVE) - seconds
        message = (
            f"a step takes {step_seconds:.1f} s and a validation {validation_seconds:.1f} s, so no training fits into "
            f"the time; add at least {format_duration(missing)} to --minutes, or use a smaller --crop or fewer "
            "validation images"
        )
        raise UsageError(message, code="too-few-minutes")
    every = max(1, steps // count)
    return Schedule(min(every * count, steps), every, seconds)


def plan_again(fabric: Fabric, task: SegmentationTask, data: DataModule, state: RunState, time_left: TimeLeft) -> bool:
    """Plan the rest of a training of some minutes by the times of its own steps, and return whether that was due.

    It is due once, after the first validation with some steps before it, because the machine may have been busy, or
    idle, when the first plan was measured. All processes get the same plan. It stays if the steps hardly change, and
    after the last step if no time is left.
    """
    if not state.available or not time_left.is_measured:
        return False
    left = state.available - state.seconds
    times = fabric.broadcast((left, time_left.step_seconds(), time_left.validation, data.decoding_left()))
    state.available = 0.0
    try:
        rest = schedule_by_minutes(*times)
    except UsageError:
        rest = Schedule(min(1, state.total - task.step), 1)
    total = task.step + rest.steps
    if abs(total - state.total) <= TOLERANCE * state.total:
        return True
    logger.info(f"epochs     {total} steps instead of {state.total}, because a step takes {times[1]:.2g} s now")
    task.total_steps = state.total = total
    state.every, state.planned = rest.every, task.step
    time_left.every, time_left.planned = rest.every, task.step
    return True


def measure_step(
    task: SegmentationTask, data: DataModule, fabric: Fabric, low: torch.dtype | None, seconds: float
) -> float:
    """Return the seconds of a whole training step with its loading, measured on copies of network and optimizer.

    `seconds` is the time of the training; the measurement takes a small share of it, and at least three steps.
    The time in which images are decoded for the first time does not count. The exchange of gradients with other
    processes is not measured.
    """
    trial = copy.deepcopy(task).to(fabric.device)
    optimizer, steps = trial.make_optimizer(), list[float]()
    batches = data.batches(0, MOST_STEPS)
    with torch.random.fork_rng():
        start, decoding = time.monotonic(), data.decoding
        for batch in batches:
            with native_call():
                with torch.autocast(fabric.device.type, low, enabled=low is not None):
                    loss = trial(fabric.to_device(batch))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(trial.net.parameters(), max(task.recipe.clip, 1e-6))
                optimizer.step()
            trial.finish_step()
            now = time.monotonic()
            steps.append(now - start - (data.decoding - decoding))
            start, decoding = now, data.decoding
            if sum(steps) > min(MOST_SECONDS, MEASURING_SHARE * seconds) and len(steps) > WARM_UP:
                break
    return typical(steps[WARM_UP:] or steps)

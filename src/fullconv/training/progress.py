"""The progress of a training, as the callback `on_progress` receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fullconv.metrics import Scores

__all__ = ["OnProgress", "Progress"]


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

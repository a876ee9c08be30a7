"""How far a training is, as the callback `on_progress` receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fullconv.metrics import Scores

__all__ = ["OnProgress", "Progress"]


@dataclass(frozen=True)
class Progress:
    """One report: at the start, after each step, and after each validation, which is when it holds `scores`.

    `stage` is "features" while feature maps are computed in advance, as FCN-32s-fixed does, and `step` of `steps` then
    counts maps; in the stage "training" it counts steps of the whole run, those before a resumption included.
    `epoch` is the number of epochs done, with its fraction. `loss` is a running mean, None before the first step.
    `best` is True where the scores are the best so far. A ladder reports its four networks one after the other.
    """

    network: str
    stage: Literal["features", "training"]
    step: int
    steps: int
    epoch: float = 0.0
    loss: float | None = None
    scores: Scores | None = None
    best: bool = False


OnProgress: TypeAlias = Callable[[Progress], None]
"""What receives the reports, in the thread of the training. An exception that it raises ends the training."""

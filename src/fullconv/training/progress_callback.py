"""Reports during a run: calls of the user's callback, and one log line per validation."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fullconv.metrics import Scores
from fullconv.training.checkpointing import Checkpointing
from fullconv.training.progress import OnProgress, Progress, TimeLeft, format_duration
from fullconv.training.task import SegmentationTask

__all__ = ["ProgressCallback"]

logger = logging.getLogger(__name__)

LOSS_DECAY = 0.95
"""The weight of earlier steps in the running mean of the loss."""


class ProgressCallback(Callback):
    """A callback that calls `on_progress` in the process that writes the run folder."""

    def __init__(
        self, checkpointing: Checkpointing, name: str, on_progress: OnProgress | None, time_left: TimeLeft
    ) -> None:
        self.checkpointing, self.name, self.on_progress = checkpointing, name, on_progress
        self.loss: float | None = None
        self.time_left = time_left
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the step that the run starts at."""
        self._lap(trainer)
        self._report(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report a step."""
        self.time_left.add_step(self._lap(trainer))
        last = _task(pl_module).losses[-1]
        self.loss = last if self.loss is None else LOSS_DECAY * self.loss + (1 - LOSS_DECAY) * last
        self._report(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the time of a validation."""
        self._lap(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log one line, and report the scores."""
        self.time_left.add_validation(self._lap(trainer))
        state = self.checkpointing.state
        if not trainer.is_global_zero or not state.rows:
            return
        row = state.rows[-1]
        is_best = row["mean_iou"] >= state.best
        left = self._seconds_left(_task(pl_module))
        logger.info(
            f"{self.name} epoch {row['epoch']:g}: loss {row['train_loss']:.4f}, mIoU {100 * row['mean_iou']:.2f}"
            f"{' (best)' if is_best else ''}, pixel accuracy {100 * row['pixel_accuracy']:.2f}, {row['seconds']:.0f} s"
            f"{f', about {format_duration(left)} to go' if left else ''}"
        )
        self._report(trainer, pl_module, _task(pl_module).scores, is_best)

    def _report(
        self, trainer: Trainer, module: LightningModule, scores: Scores | None = None, is_best: bool = False
    ) -> None:
        if self.on_progress is None or not trainer.is_global_zero:
            return
        task = _task(module)
        left = self._seconds_left(task)
        epoch = task.step / self.checkpointing.steps_per_epoch
        self.on_progress(
            Progress(self.name, "training", task.step, task.total_steps, epoch, self.loss, scores, is_best, left)
        )

    def _seconds_left(self, task: SegmentationTask) -> float:
        return self.time_left.seconds(task.step, task.total_steps)

    def _lap(self, trainer: Trainer) -> float:
        """Return the seconds since the last call, without those that decoded images for the first time."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        now = time.monotonic() - sum(samples.decoding for samples in (data.train_samples, data.val_samples))
        seconds: float = now - self._since
        self._since = now
        return seconds


def _task(module: LightningModule) -> SegmentationTask:
    assert isinstance(module, SegmentationTask)
    return module

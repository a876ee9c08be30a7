"""Reports during a run: calls of the user's callback, and one log line per validation."""

from __future__ import annotations

import logging
import time

from fullconv.metrics import Scores
from fullconv.training.checkpointing import Checkpointing
from fullconv.training.data_module import DataModule
from fullconv.training.progress import OnProgress, Progress, TimeLeft, format_duration
from fullconv.training.run.loggers import RunLogger
from fullconv.training.task import SegmentationTask

__all__ = ["Reports"]

logger = logging.getLogger(__name__)

LOSS_DECAY = 0.95
"""The weight of earlier steps in the running mean of the loss."""


LOG_STEPS = 10
"""Steps from one loss in the log of a logger to the next."""


class Reports:
    """Reports the steps and validations of a run to `on_progress`, and logs one line for each validation."""

    def __init__(
        self,
        task: SegmentationTask,
        data: DataModule,
        checkpointing: Checkpointing,
        on_progress: OnProgress | None,
        time_left: TimeLeft,
        log: RunLogger | None = None,
    ) -> None:
        self.task, self.data, self.checkpointing = task, data, checkpointing
        self.name, self.on_progress, self.time_left = task.net.spec.name, on_progress, time_left
        self.log = log
        self.loss: float | None = None
        self._since = 0.0

    def start(self) -> None:
        """Report the step that the run starts at."""
        self._lap()
        self._report()

    def after_step(self) -> None:
        """Report a step."""
        self.time_left.add_step(self._lap())
        last = self.task.losses[-1]
        self.loss = last if self.loss is None else LOSS_DECAY * self.loss + (1 - LOSS_DECAY) * last
        if self.log is not None and self.task.step % LOG_STEPS == 0:
            self.log.log_metrics({"train_loss": last, "lr": self.task.learning_rate()}, self.task.step)
        self._report()

    def before_validation(self) -> None:
        """Start the time of a validation."""
        self._lap()

    def after_validation(self) -> None:
        """Log one line, and report the scores."""
        self.time_left.add_validation(self._lap())
        state, row = self.checkpointing.state, self.checkpointing.state.rows[-1]
        before = max((earlier["mean_iou"] for earlier in state.rows[:-1]), default=-1.0)
        is_best, left = row["mean_iou"] > before, self._seconds_left()
        logger.info(
            f"{self.name} epoch {row['epoch']:g}: loss {row['train_loss']:.4f}, mIoU {100 * row['mean_iou']:.2f}"
            f"{' (best)' if is_best else ''}, pixel accuracy {100 * row['pixel_accuracy']:.2f}, "
            f"after {row['seconds']:.0f} s{f', about {format_duration(left)} to go' if left else ''}"
        )
        if self.log is not None:
            names = ("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")
            self.log.log_metrics({f"val_{name}": row[name] for name in names}, self.task.step)
        self._report(self.task.scores(), is_best)

    def finish(self, status: str) -> None:
        """End the log of the logger; `status` is success or failed."""
        if self.log is not None:
            self.log.finalize(status)

    def _report(self, scores: Scores | None = None, is_best: bool = False) -> None:
        if self.on_progress is None or not self.checkpointing.writes:
            return
        step, steps = self.task.step, self.task.total_steps
        epoch, left = step / self.checkpointing.steps_per_epoch, self._seconds_left()
        self.on_progress(Progress(self.name, "training", step, steps, epoch, self.loss, scores, is_best, left))

    def _seconds_left(self) -> float:
        return self.time_left.seconds(self.task.step, self.task.total_steps)

    def _lap(self) -> float:
        """Return the seconds since the last call, without those that decoded images for the first time."""
        now = time.monotonic() - self.data.decoding
        seconds, self._since = now - self._since, now
        return seconds

"""A bar for the whole run on a terminal, a line for each validation elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fullconv.learn.keeper import Keeper
from fullconv.learn.task import SegmentationTask

__all__ = ["ProgressBar", "counting"]


class ProgressBar(Callback):
    """Steps done, loss and time left, on stderr."""

    def __init__(self, keeper: Keeper, name: str, total_steps: int) -> None:
        self.keeper, self.name, self.total_steps = keeper, name, total_steps
        self.console = Console(file=sys.stderr)
        self.bar = _bar(self.console)
        self.loss: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar from the step that the run starts at."""
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar.start()
            self.row = self.bar.add_task(self.name, total=self.total_steps, completed=_step(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by a step; the loss is a running mean."""
        assert isinstance(pl_module, SegmentationTask)
        last = pl_module.losses[-1]
        self.loss = last if self.loss is None else 0.95 * self.loss + 0.05 * last
        if self.bar.tasks:
            self.bar.update(self.row, completed=pl_module.step, description=f"{self.name} loss {self.loss:.3f}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One line that stays."""
        if not trainer.is_global_zero or not self.keeper.state.rows:
            return
        row = self.keeper.state.rows[-1]
        iou, accuracy = 100 * row["mean_iou"], 100 * row["pixel_accuracy"]
        best = " (best)" if row["mean_iou"] >= self.keeper.state.best else ""
        self.console.print(
            f"{self.name} epoch {row['epoch']:g}: loss {row['train_loss']:.4f}, mean IU {iou:.2f}{best}, "
            f"pixel accuracy {accuracy:.2f}, {row['seconds']:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()


def counting(name: str) -> Progress:
    """A bar for a loop of known length; shown on a terminal only."""
    console = Console(file=sys.stderr)
    bar = _bar(console)
    bar.disable = not console.is_terminal
    bar.add_task(name, total=None)
    return bar


def _bar(console: Console) -> Progress:
    left = TimeRemainingColumn(compact=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), left, TextColumn("left"),
        console=console, transient=True,
    )  # fmt: skip


def _step(module: LightningModule) -> int:
    assert isinstance(module, SegmentationTask)
    return module.step

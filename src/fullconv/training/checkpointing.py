"""Save a run to the disk, stop it at a signal, and resume it."""

from __future__ import annotations

import csv
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from pydantic import Field, FiniteFloat, TypeAdapter
from torch import Tensor

from fullconv.errors import Interrupted, ModelError
from fullconv.files import atomic_write, write_text
from fullconv.locks import hold_folder
from fullconv.metrics import Scores
from fullconv.net.checkpoint import Saved, save_net
from fullconv.training.task import SegmentationTask
from fullconv.watchdog import note_handled, set_patience

__all__ = ["Checkpointing", "RunState", "damaged_checkpoint", "hold_run", "load_state"]

COLUMNS = ("epoch", "step", "seconds", "lr", "train_loss", "pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")

STEP_SECONDS = 60.0
"""The time that a step and its saving may take after a signal; a second signal ends the training at once."""


@dataclass
class RunState:
    """The progress of a run.

    `step` is the number of steps done, `validated` the step of the last validation, `seconds` the time spent, `best`
    the best mIoU so far. `losses` are those since the last validation, `rows` those of metrics.csv.
    """

    step: Annotated[int, Field(ge=0)] = 0
    validated: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    best: Annotated[FiniteFloat, Field(ge=-1, le=1)] = -1.0
    losses: list[float] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def hold_run(out: Path) -> Iterator[None]:
    """Be the only process that writes the folder of a run, a ladder or folds. Raises FullconvError for the second one.

    Processes that Lightning starts for further devices write nothing.
    """
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        yield
        return
    with hold_folder(out):
        yield


def load_state(path: Path) -> tuple[RunState, dict[str, Any]]:
    """Read a checkpoint: return the progress of the run and the tensors (`state_dict`, `optimizer_states`).

    Raises ModelError if the file cannot be read as a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise errors of many types, and advise to run the code in the file
        raise damaged_checkpoint(path, type(error).__name__) from error
    try:
        values = checkpoint["fullconv"]
        TypeAdapter(RunState).validate_json(json.dumps(values), strict=True)
        state = RunState(**values)  # pydantic's own would have floats for the whole numbers of rows
        weights, optimizers = checkpoint["state_dict"], checkpoint["optimizer_states"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged_checkpoint(path, str(error).partition("\n")[0]) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise damaged_checkpoint(path, "it has no weights by name")
    if not isinstance(optimizers, list) or not all(isinstance(values, dict) for values in optimizers):
        raise damaged_checkpoint(path, "it has no states of the optimizer")
    if state.validated > state.step:
        raise damaged_checkpoint(path, f"it was validated at step {state.validated} of {state.step}")
    return state, checkpoint


def damaged_checkpoint(path: Path, reason: str) -> ModelError:
    """Return the error for a checkpoint with which no run can resume."""
    message = f"{path} cannot be read as a checkpoint ({reason}); remove it to start the run again"
    return ModelError(message, code="unreadable-checkpoint")


class Checkpointing(Callback):
    """A callback that saves every few minutes, after each validation and on a signal.

    It writes into the run folder: last.ckpt (everything needed to resume), last.safetensors, best.safetensors (the best
    mIoU on the validation images) and metrics.csv. Every file is written atomically.
    """

    def __init__(self, out: Path, saved: Saved, state: RunState, steps_per_epoch: int, save_minutes: float) -> None:
        self.out, self.saved, self.state = out, saved, state
        self.steps_per_epoch, self.save_minutes = steps_per_epoch, save_minutes
        self.started = time.monotonic() - state.seconds
        self.saved_at = time.monotonic()
        self.stop: str | None = None
        self.optimizer_states: list[dict[str, Any]] = []
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state of the optimizer, and handle SIGINT, SIGTERM and SIGHUP until the run ends."""
        for optimizer, values in zip(trainer.optimizers, self.optimizer_states, strict=False):
            try:
                optimizer.load_state_dict(values)
            except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
                reason = "the state of its optimizer does not fit the network"
                raise damaged_checkpoint(self.out / "last.ckpt", reason) from error
        if threading.current_thread() is threading.main_thread():
            set_patience(STEP_SECONDS)
            stopping = {signal.SIGINT, signal.SIGTERM}
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
                stopping.add(signal.SIGHUP)
            for number in stopping:
                self._handlers[number] = signal.signal(number, self._on_signal)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the former signal handlers."""
        self._restore_handlers()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the former signal handlers before Lightning's teardown, which ignores signals."""
        self._restore_handlers()
        self._raise_if_stopped()

    def _restore_handlers(self) -> None:
        set_patience()
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        note_handled()
        if self.stop is not None:
            raise KeyboardInterrupt
        self.stop = signal.Signals(number).name

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after `save_minutes`, or after a signal."""
        due = time.monotonic() - self.saved_at > 60 * self.save_minutes
        if due or self.stop:
            self.save(trainer, pl_module)
        self._raise_if_stopped()

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop after a signal without finishing the validation, which a resumed run repeats."""
        if self.stop:
            self.save(trainer, trainer.lightning_module)
        self._raise_if_stopped()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row to metrics.csv, write the weights, and save."""
        task = _task(pl_module)
        if task.scores is None or trainer.sanity_checking:
            return
        self.state.validated = self.state.step = task.step
        self.state.rows.append(self._row(task, task.scores))
        task.losses.clear()
        if trainer.is_global_zero:
            self._write(task, task.scores)
        self.state.best = max(self.state.best, task.scores.mean_iou)
        self.save(trainer, pl_module)

    def _row(self, task: SegmentationTask, scores: Scores) -> dict[str, float]:
        loss = sum(task.losses) / len(task.losses) if task.losses else float("nan")
        return {
            "epoch": task.step / self.steps_per_epoch,
            "step": task.step,
            "seconds": round(time.monotonic() - self.started, 1),
            "lr": task.learning_rate(),
            "train_loss": loss,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "mean_iou": scores.mean_iou,
            "fw_iou": scores.fw_iou,
        }

    def _write(self, task: SegmentationTask, scores: Scores) -> None:
        notes = {**self.saved.notes, "step": task.step, "val": {"mean_iou": scores.mean_iou}}
        saved = Saved(self.saved.spec, self.saved.labels, notes)
        state = task.best.state_dict()
        save_net(self.out / "last.safetensors", state, saved)
        if scores.mean_iou > self.state.best:
            save_net(self.out / "best.safetensors", state, saved)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.state.rows)
        write_text(self.out / "metrics.csv", text.getvalue())

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write last.ckpt: weights, their average, optimizer and progress."""
        task = _task(pl_module)
        self.state.step, self.state.losses = task.step, list(task.losses)
        self.state.seconds = time.monotonic() - self.started
        checkpoint = {
            "fullconv": vars(self.state),
            "state_dict": task.state_dict(),
            "optimizer_states": [o.state_dict() for o in trainer.optimizers] or self.optimizer_states,
        }
        if trainer.is_global_zero:
            with atomic_write(self.out / "last.ckpt", errors=(RuntimeError,)) as temporary:
                torch.save(checkpoint, temporary)
        self.saved_at = time.monotonic()

    def _raise_if_stopped(self) -> None:
        if self.stop:
            raise Interrupted(
                f"stopped by {self.stop} at step {self.state.step}; everything is saved in {self.out}. "
                "Run the same command with --resume to continue.",
                code="stopped-by-signal",
            )


def _task(module: LightningModule) -> SegmentationTask:
    assert isinstance(module, SegmentationTask)
    return module

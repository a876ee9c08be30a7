"""Save a run to the disk, stop it at a signal, and resume it."""

from __future__ import annotations

import csv
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch
from lightning.fabric import Fabric
from pydantic import Field, FiniteFloat, TypeAdapter
from torch import Tensor
from torch.optim import Optimizer

from fullconv.cores import is_main_process
from fullconv.documents import describe_errors
from fullconv.errors import Interrupted, ModelError
from fullconv.files import atomic_write, write_text
from fullconv.locks import hold_folder
from fullconv.metrics import Scores
from fullconv.net.checkpoint import Saved, save_net
from fullconv.training.task import SegmentationTask, sum_over_processes
from fullconv.watchdog import note_handled, set_patience

__all__ = ["Checkpointing", "RunState", "damaged_checkpoint", "hold_run", "load_state"]

COLUMNS = ("epoch", "step", "seconds", "lr", "train_loss", "pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")

STEP_SECONDS = 60.0
"""The time that a step and its saving may take after a signal; a second signal ends the training at once."""


@dataclass
class RunState:
    """The progress of a run.

    `step` is the number of steps done, `validated` the step of the last validation, `seconds` the time spent, `best`
    the best mIoU so far. `losses` are those since the last validation, `rows` those of metrics.csv. `total` is the
    number of steps of the run, `every` that from one validation to the next; 0 in checkpoints of older versions.
    `available` is the time for all steps until they are planned again, 0 where epochs count; `planned` is the step at
    which they were planned.
    """

    step: Annotated[int, Field(ge=0)] = 0
    validated: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    best: Annotated[FiniteFloat, Field(ge=-1, le=1)] = -1.0
    losses: list[float] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    total: Annotated[int, Field(ge=0)] = 0
    every: Annotated[int, Field(ge=0)] = 0
    available: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    planned: Annotated[int, Field(ge=0)] = 0


@contextmanager
def hold_run(out: Path) -> Iterator[None]:
    """Be the only process that writes the folder of a run, a ladder or folds. Raises FullconvError for a second one.

    The other processes of the same training write nothing, and wait for nothing.
    """
    with hold_folder(out) if is_main_process() else nullcontext():
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
        raise damaged_checkpoint(path, describe_errors(error)) from error
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


class Checkpointing:
    """Saves a run every few minutes, after each validation and on a signal.

    It writes into the run folder: last.ckpt (everything needed to resume), last.safetensors, best.safetensors (the best
    mIoU on the validation images) and metrics.csv. Every file is written atomically. Of several processes, `fabric`
    makes the first one write, and makes all stop at the same step.
    """

    def __init__(self, out: Path, saved: Saved, state: RunState, steps_per_epoch: int, save_minutes: float) -> None:
        self.out, self.saved, self.state = out, saved, state
        self.steps_per_epoch, self.save_minutes = steps_per_epoch, save_minutes
        self.started = time.monotonic() - state.seconds
        self.saved_at = time.monotonic()
        self.stop: str | None = None
        self.fabric: Fabric | None = None
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Stop at SIGINT, SIGTERM or SIGHUP after the current step, when everything is saved.

        A second signal ends the training at once. Only the main thread can handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        set_patience(STEP_SECONDS)
        stopping: set[int] = {signal.SIGINT, signal.SIGTERM}
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
            stopping.add(signal.SIGHUP)
        try:
            for number in stopping:
                self._handlers[number] = signal.signal(number, self._on_signal)
            yield
        finally:
            set_patience()
            while self._handlers:
                number, handler = self._handlers.popitem()
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        note_handled()
        if self.stop is not None:
            raise KeyboardInterrupt
        self.stop = signal.Signals(number).name

    def is_validation_due(self, task: SegmentationTask) -> bool:
        """Return whether the current step is to be validated, and has not been validated yet."""
        is_planned = (task.step - self.state.planned) % self.state.every == 0 or task.step == task.total_steps
        return task.step > self.state.validated and is_planned

    def is_finished(self, task: SegmentationTask) -> bool:
        """Return whether all steps are done, or the last validations were not better, as many as `patience`."""
        best, since = -1.0, 0
        for row in self.state.rows:
            since = 0 if row["mean_iou"] > best else since + 1
            best = max(best, row["mean_iou"])
        return task.step >= task.total_steps or 0 < task.recipe.patience <= since

    def after_step(self, task: SegmentationTask, optimizer: Optimizer) -> None:
        """Save after `save_minutes`. After a signal, save and raise Interrupted."""
        if time.monotonic() - self.saved_at > 60 * self.save_minutes:
            self.save(task, optimizer)
        self.stop_after_signal(task, optimizer)

    def after_validation(self, task: SegmentationTask, optimizer: Optimizer) -> None:
        """Add a row to metrics.csv, write the weights, and save."""
        scores = task.scores()
        self.state.validated = self.state.step = task.step
        self.state.rows.append(self._row(task, scores))
        task.losses.clear()
        if self.writes:
            self._write(task, scores)
        self.state.best = max(self.state.best, scores.mean_iou)
        self.save(task, optimizer)

    def stop_after_signal(self, task: SegmentationTask, optimizer: Optimizer) -> None:
        """After a signal to any process, save and raise Interrupted. A resumed run repeats a validation."""
        if self._is_stopping():
            self.save(task, optimizer)
            raise Interrupted(
                f"stopped by {self.stop or 'a signal'} at step {self.state.step}; everything is saved in {self.out}. "
                "Run the same command with --resume to continue.",
                code="stopped-by-signal",
            )

    @property
    def writes(self) -> bool:
        """Return whether this process writes the run folder."""
        return self.fabric is None or bool(self.fabric.is_global_zero)

    def _is_stopping(self) -> bool:
        """Return whether a signal has reached this process, or any other one; all get the same answer."""
        if self.fabric is None or self.fabric.world_size == 1:
            return self.stop is not None
        signals = torch.tensor(int(self.stop is not None), device=self.fabric.device)
        return bool(sum_over_processes(self.fabric, signals) > 0)

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

    def save(self, task: SegmentationTask, optimizer: Optimizer) -> None:
        """Write last.ckpt: weights, their average, optimizer and progress."""
        self.state.step, self.state.losses = task.step, list(task.losses)
        self.state.seconds = time.monotonic() - self.started
        checkpoint = {
            "fullconv": vars(self.state),
            "state_dict": task.state_dict(),
            "optimizer_states": [optimizer.state_dict()],
            "precision": {} if self.fabric is None else self.fabric.strategy.precision.state_dict(),
        }
        if not self.writes:
            return
        with atomic_write(self.out / "last.ckpt", errors=(RuntimeError,)) as temporary:
            torch.save(checkpoint, temporary)
        self.saved_at = time.monotonic()

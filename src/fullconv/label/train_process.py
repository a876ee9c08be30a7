"""A training in a process of its own, started from the page: its progress, its scores, and its end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from fullconv.errors import FullconvError, MissingExtra, describe_failure
from fullconv.extras import need_torch
from fullconv.files import read_file
from fullconv.installation import module_path
from fullconv.visible import make_visible

__all__ = ["TrainProcess", "Training", "training_help"]

State = Literal["idle", "running", "done", "failed", "cancelled"]

LINES = 20

LONGEST_LINE = 500

POLL = 0.5
"""Seconds between looks at the run folder."""

if sys.platform == "win32":
    _OWN_SESSION: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    _STOP = signal.CTRL_BREAK_EVENT
else:
    _OWN_SESSION: dict[str, Any] = {"start_new_session": True}
    _STOP = signal.SIGTERM

PATIENCE = 10.0
"""Seconds that a cancelled training gets to end before it is killed."""


@dataclass(frozen=True)
class Training:
    """What the page shows of a training."""

    state: State = "idle"
    message: str = "No training was started yet."
    progress: float = 0.0
    scores: dict[str, Any] | None = None
    lines: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {**self.__dict__, "lines": list(self.lines)}


def training_help() -> str:
    """Return the pip command that makes training possible; empty if it is possible."""
    try:
        need_torch()
    except MissingExtra as error:
        return str(error)
    return ""


class TrainProcess:
    """At most one training at a time. `on_change` is called when the state changes, `on_model` with a new model."""

    def __init__(
        self,
        data: Path,
        runs: Path,
        on_change: Callable[[Training], None],
        on_model: Callable[[Path], None],
        command: tuple[str, ...] = (sys.executable, "-P", "-m", "fullconv", "train"),
    ) -> None:
        self._data, self._runs, self._command = data, runs, command
        self._on_change, self._on_model = on_change, on_model
        self._lock = threading.Lock()
        self._training = Training()
        self._lines: deque[str] = deque(maxlen=LINES)
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._watcher: threading.Thread | None = None

    @property
    def training(self) -> Training:
        """The state now."""
        with self._lock:
            return replace(self._training, lines=tuple(self._lines))

    def start(self, options: tuple[str, ...] = ()) -> None:
        """Start a training. Raises FullconvError with the code `training-runs` if one runs already."""
        with self._lock:
            if self._process is not None:
                raise FullconvError("a training runs already; cancel it first", code="training-runs")
            run = self._new_run()
            self._process = subprocess.Popen(
                [*self._command, str(self._data), "--out", str(run), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": module_path()},
                **_OWN_SESSION,
            )
            self._cancelled = False
            self._lines.clear()
            self._training = Training("running", "The training has started.")
            self._watcher = threading.Thread(target=self._watch, args=(self._process, run), daemon=True)
            self._watcher.start()
        self._on_change(self.training)

    def cancel(self) -> bool:
        """Stop the training and everything that it started; return whether one ran."""
        with self._lock:
            process = self._process
            self._cancelled = self._cancelled or process is not None
        if process is None:
            return False
        _stop(process)
        return True

    def close(self) -> None:
        """Stop the training at the end of the session, and wait until it has ended."""
        self.cancel()
        if self._watcher is not None:
            self._watcher.join()

    def _new_run(self) -> Path:
        number = 1
        while (self._runs / f"run-{number}").exists():
            number += 1
        return self._runs / f"run-{number}"

    def _watch(self, process: subprocess.Popen[str], run: Path) -> None:
        """Follow the process to its end: its output in a thread, its progress in the run folder."""
        reader = threading.Thread(target=self._read_lines, args=(process,), daemon=True)
        reader.start()
        while process.poll() is None:
            time.sleep(POLL)
            self._change(replace(self._training, **_read_progress(run)))
        _kill_group(process)
        reader.join(5)
        try:
            training = self._finish(process.returncode, run)
        except Exception as error:  # a full disk, for example
            reason = make_visible(describe_failure(run, error))
            message = f"The model of the training cannot be taken: {reason}"
            training = replace(self._training, state="failed", message=message)
        with self._lock:  # together: from now on another one can start
            self._process, self._training = None, training
        self._on_change(self.training)

    def _read_lines(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            shown = make_visible(line.strip()[:LONGEST_LINE])
            if shown:
                with self._lock:
                    self._lines.append(shown)
        process.stdout.close()

    def _finish(self, code: int, run: Path) -> Training:
        """Give the model to who wants it, and return the last state of the training."""
        model = run / "model.onnx"
        seen = _read_progress(run)
        values = {"progress": seen.get("progress", self._training.progress)}
        values["scores"] = _read_scores(run) or seen.get("scores", self._training.scores)
        if self._cancelled:
            training = Training("cancelled", "The training was cancelled.", **values)
        elif code:
            reason = next((line for line in reversed(self.training.lines) if line.startswith("fullconv: ")), "")
            problem = reason.removeprefix("fullconv: ") or f"it ended with the exit code {code}"
            training = Training("failed", f"The training failed: {problem}", **values)
        elif not model.is_file():
            message = "The network has learned nothing useful yet, so there is no new model; label more images."
            training = Training("failed", message, **values)
        else:
            training = Training("done", "The training is done; its model is in use.", **{**values, "progress": 1.0})
        if training.state == "done":
            self._on_model(model)
        return training

    def _change(self, training: Training) -> None:
        with self._lock:
            changed = training != self._training
            self._training = training
        if changed:
            self._on_change(self.training)


def _read_progress(run: Path) -> dict[str, Any]:
    """Return progress and scores of a run from its recipe and the last line of its metrics."""
    try:
        epochs = float(yaml.safe_load(read_file(run / "recipe.yaml"))["recipe"]["epochs"])
        rows = list(csv.DictReader(read_file(run / "metrics.csv").decode("utf-8").splitlines()))
        last = rows[-1]
        scores = {"mean_iou": float(last["mean_iou"]), "classes": {}}
        share = min(1.0, float(last["epoch"]) / epochs)
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error, yaml.YAMLError):
        return {}
    message = f"Epoch {float(last['epoch']):g} of {epochs:g}, mIoU {scores['mean_iou']:.1%} on the validation images."
    return {"progress": share, "scores": scores, "message": message}


def _read_scores(run: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(read_file(run / "scores.json"))
        return {"mean_iou": values["mean_iou"], "classes": dict(values["per_class_iou"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask a process to end; with all its children it is killed if it does not."""
    with suppress(OSError):
        process.send_signal(_STOP)
    timer = threading.Timer(PATIENCE, process.kill)  # it does nothing to a process that has ended
    timer.daemon = True
    timer.start()


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill what a process has started and left."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

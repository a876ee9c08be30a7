"""Several processes that train together on this machine, watched by the one that started them.

Lightning's own launcher kills everything without a word when a process ends. This one names the rank and the cause.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from fullconv.cores import usable_cores
from fullconv.errors import FullconvError, Interrupted
from fullconv.installation import module_path
from fullconv.training.progress import OnProgress
from fullconv.watchdog import note_handled

__all__ = ["run_in_processes"]

logger = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds in which the others may report after the first failure, before all are killed."""

LISTENED = 5.0
"""Seconds in which the thread that reads from a process ends after it."""

SAVE_SECONDS = 60.0
"""Seconds from a signal to the end of all processes, which save first."""


@dataclass
class _Rank:
    """A process: what it sent, and whether it has ended."""

    number: int
    process: subprocess.Popen[bytes]
    stderr: IO[bytes] | None
    listener: threading.Thread | None = None
    error: FullconvError | None = None
    crash: tuple[str, str] | None = None
    result: Any = None
    done: bool = False
    ended: bool = False

    def failure(self) -> tuple[int, FullconvError] | None:
        """Return how well the failure explains others (less is better), and the error; None without a failure."""
        who, code = f"rank {self.number} (process {self.process.pid})", self.process.returncode
        if self.error is not None:
            return (3 if self.error.code == "process-lost" else 1), self.error
        if self.crash is not None:
            text, trace = self.crash
            logger.debug(trace)
            return 2, FullconvError(f"{who} failed: {text}", code="process-failed")
        if self.ended and code is not None and code < 0:
            name = signal.Signals(-code).name
            cause = ", as the system does when memory runs out" if name == "SIGKILL" else self._last_words()
            return 0, FullconvError(f"{who} was ended by {name}{cause}; the others were stopped", code="process-killed")
        if self.ended and not self.done:
            return 2, FullconvError(f"{who} ended with exit code {code}{self._last_words()}", code="process-failed")
        return None

    def _last_words(self) -> str:
        """Return the last line that the process wrote to stderr, after a colon."""
        if self.stderr is None:
            return ""
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


@dataclass
class _Group:
    """All processes of a training on this machine."""

    ranks: list[_Rank] = field(default_factory=list)
    events: queue.SimpleQueue[tuple[_Rank, str, Any]] = field(default_factory=queue.SimpleQueue)
    signals: list[int] = field(default_factory=list)
    store: Any = None
    """Where the processes find each other. This process holds its port, so that no other program can take it."""

    def start(self, count: int, payload: bytes) -> None:
        """Start `count` processes that run the pickled `payload`."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in every build of torch

        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port)}
        environment["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the first process opens no store of its own
        environment |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "NODE_RANK": "0"}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
        environment["PYTHONPATH"] = module_path()
        command = [sys.executable, "-P", "-m", "fullconv.training.run.rank"]
        for number in range(count):
            errors = tempfile.TemporaryFile() if number else None  # noqa: SIM115
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment, "RANK": str(number), "LOCAL_RANK": str(number)},
                start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
            )
            rank = _Rank(number, process, errors)
            self.ranks.append(rank)
            rank.listener = threading.Thread(target=self._listen, args=(rank, payload), daemon=True)
            rank.listener.start()

    def _listen(self, rank: _Rank, payload: bytes) -> None:
        """Send the payload to a process, and put what it sends into the queue until it ends."""
        assert rank.process.stdin is not None
        assert rank.process.stdout is not None
        try:
            rank.process.stdin.write(payload)
            rank.process.stdin.flush()
            while True:
                self.events.put((rank, *pickle.load(rank.process.stdout)))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # ValueError: the stream was closed
            rank.process.wait()
            self.events.put((rank, "ended", None))

    def send_signal(self, number: int) -> None:
        """Send a signal to all processes that run."""
        for rank in self.ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(number)

    def close(self) -> None:
        """Kill the processes that still run."""
        for rank in self.ranks:
            if rank.process.poll() is None:
                rank.process.kill()
            rank.process.wait()
            if rank.listener is not None:  # it ends with the process, unless a child of that holds the stream
                rank.listener.join(LISTENED)
            for stream in (rank.process.stdin, rank.process.stdout, rank.stderr):
                if stream is not None:
                    stream.close()

    @contextmanager
    def pass_signals_on(self) -> Iterator[None]:
        """Pass the first signal on, so that all save; a second one ends all at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        note_handled()
        self.signals.append(number)
        if len(self.signals) > 1:
            raise KeyboardInterrupt


def run_in_processes(
    function: Callable[..., Any], arguments: Sequence[Any], count: int, on_progress: OnProgress | None
) -> Any:
    """Run `function(*arguments, on_progress)` in `count` processes, and return the result of the first one.

    Each process has the variables of torchrun. Log messages and reports of the first one are passed on. Raises the
    error of the process that failed first, with its rank, when all have ended; after a signal Interrupted, or the error
    of the first process, which saves.
    """
    group = _Group()
    try:
        with group.pass_signals_on():
            group.start(count, pickle.dumps((function, tuple(arguments))))
            _wait(group, on_progress)
            failures = [failure for rank in group.ranks if (failure := rank.failure()) is not None]
    finally:
        group.close()
    if group.signals:
        if (error := group.ranks[0].error) is not None and error.code != "process-lost":
            raise error
        failures = [(0, error) for _, error in failures if isinstance(error, Interrupted)]
        if not failures and not group.ranks[0].done:
            raise KeyboardInterrupt  # it came before the first step, so there was nothing to save
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]
    return group.ranks[0].result


def _wait(group: _Group, on_progress: OnProgress | None) -> None:
    """Handle the events of all processes until all have ended; after a failure, until the grace is over."""
    deadline, passed_on = float("inf"), False
    while not all(rank.ended for rank in group.ranks) and time.monotonic() < deadline:
        if group.signals and not passed_on:
            group.send_signal(group.signals[0])
            deadline, passed_on = time.monotonic() + SAVE_SECONDS, True
        try:
            rank, kind, value = group.events.get(timeout=0.1)
        except queue.Empty:
            continue
        if kind == "log":
            logger.log(*value)
        elif kind == "progress" and on_progress is not None:
            on_progress(value)
        elif kind == "error":
            rank.error = value
            if not isinstance(value, Interrupted):
                value.add_note(f"This was in rank {rank.number} (process {rank.process.pid}); the others were stopped.")
        elif kind == "crash":
            rank.crash = value
        elif kind == "result":
            rank.result, rank.done = value, True
        elif kind == "ended":
            rank.ended = True
        if rank.failure() is not None and not passed_on:
            deadline = min(deadline, time.monotonic() + GRACE)

"""A thread that ends the process after a signal, if a long call of a library keeps the signal's handler from running.

Python runs the handler of a signal in the main thread between two of its own instructions. A network that computes
without end never gives it that chance; a thread can wait for the signal and look whether the handler has run.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

__all__ = ["PATIENCE", "end_soon", "note_handled", "set_patience", "watch_signals"]

PATIENCE = 2.0
"""Seconds from a signal to the end of the process, if no handler runs."""

STOPPING = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))

_handled = float("-inf")
"""The time at which a handler last ran."""

_patience = PATIENCE
_socket = -1
"""The socket that signals write to while they are watched."""


def set_patience(seconds: float = PATIENCE) -> None:
    """Set the seconds from a signal to the end: more for a training, which saves after its step.

    A second signal ends the process after `PATIENCE`.
    """
    global _patience
    _patience = seconds


def note_handled() -> None:
    """Note that a signal's handler runs. Each handler that stops a command calls this first."""
    global _handled
    _handled = time.monotonic()


@contextlib.contextmanager
def watch_signals() -> Iterator[None]:
    """Watch for signals until the block ends. It works in the main thread only; elsewhere, nothing is watched."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _socket
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    _socket = sender.fileno()
    threading.Thread(target=_wait, args=(receiver,), name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        _socket = -1
        signal.set_wakeup_fd(before)
        sender.close()  # which ends the thread


def _wait(receiver: socket.socket) -> None:
    with receiver:
        while numbers := receiver.recv(64):
            stopping = [number for number in numbers if number in STOPPING]
            if not stopping or _ignored(stopping[0]):
                continue
            came = time.monotonic()
            end = came + _patience
            while _handled < came - 1:  # the handler may have run a moment before this thread
                if select.select([receiver], [], [], 0.05)[0] and receiver.recv(64):
                    end = min(end, time.monotonic() + PATIENCE)  # a second signal
                if time.monotonic() > end:
                    _end(stopping[0])


def end_soon() -> None:
    """End the process after `PATIENCE`, unless it ends earlier: for a second Ctrl-C, while threads still compute."""

    def end() -> None:
        time.sleep(PATIENCE)
        _end(signal.SIGINT)

    threading.Thread(target=end, name="watchdog", daemon=True).start()


def _ignored(number: int) -> bool:
    return signal.getsignal(number) in (signal.SIG_IGN, signal.SIG_DFL, None)


def _end(number: int) -> None:
    """End the process at once: nothing waits for the library."""
    name = signal.Signals(number).name
    text = f"fullconv: stopped by {name} during a long computation; every file that was written is complete\n"
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    os._exit(130)


def _before_fork() -> None:
    """Take the socket from the signals, so that a signal to a child is none to its parent."""
    if _socket >= 0:
        with contextlib.suppress(ValueError):  # only the main thread may; the child of another thread does it itself
            signal.set_wakeup_fd(-1)


def _after_fork_in_parent() -> None:
    if _socket >= 0:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(_socket, warn_on_full_buffer=False)


def _after_fork_in_child() -> None:
    global _socket
    _before_fork()
    _socket = -1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

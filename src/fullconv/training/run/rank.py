"""One of the processes of a training, as `fullconv.training.run.processes` starts it: python -m with this module."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import threading
import traceback
import warnings
from typing import Any, BinaryIO

from fullconv.cores import is_main_process
from fullconv.errors import FullconvError, Interrupted
from fullconv.watchdog import watch_signals

__all__ = ["main"]


class _Events(logging.Handler):
    """Sends events to the parent: pairs of a kind and a value. A log message is one of them."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self.stream = stream

    def send(self, kind: str, value: Any) -> None:
        """Send one event. Without a parent, end the process."""
        try:
            pickle.dump((kind, value), self.stream)
            self.stream.flush()
        except OSError:
            os._exit(1)

    def report(self, progress: Any) -> None:
        """Send a report of the training."""
        self.send("progress", progress)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log message."""
        self.send("log", (record.levelno, record.getMessage()))


def main() -> None:
    """Read a function and its arguments from stdin, run it, and send its events to stdout."""
    events = _Events(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print
    function, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logger = logging.getLogger("fullconv")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(events if is_main_process() else logging.NullHandler())
    if not is_main_process():
        warnings.simplefilter("ignore")
    try:
        with watch_signals():
            events.send("result", function(*arguments, events.report if is_main_process() else None))
    except FullconvError as error:
        events.send("error", error)
        sys.exit(Interrupted.exit_code if isinstance(error, Interrupted) else 1)
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)
    except BaseException as error:
        events.send("crash", (f"{type(error).__name__}: {error}", traceback.format_exc()))
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process when its parent is gone, which closes the pipe."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


if __name__ == "__main__":
    main()

"""Processes that tests start: each ends with its block, and what it printed to stderr is shown if the block fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from waiting import LIMIT, wait_until

__all__ = ["Child", "child"]


class Child(subprocess.Popen[str]):
    """A process whose stdout is a pipe and whose stderr is a file."""

    def __init__(self, command: list[str], log: IO[bytes], env: Mapping[str, str] | None, cwd: Path | None) -> None:
        super().__init__(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            env=env,
            cwd=cwd,
            start_new_session=os.name == "posix",
        )
        self._log = Path(log.name)

    def read_line(self) -> str:
        """Return the next line of stdout without its end."""
        assert self.stdout is not None
        return self.stdout.readline().rstrip("\n")

    def read_errors(self) -> str:
        """Return what the process has printed to stderr up to now."""
        return self._log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until a condition is true, and fail if the process ends before."""
        wait_until(lambda: condition() or self.poll() is not None, what)
        assert condition(), f"the process has ended: {what}"

    def finish(self) -> tuple[str, str]:
        """Wait for the end, which comes after `LIMIT` at the latest; return the rest of stdout, and all of stderr."""
        assert self.stdout is not None
        timer = threading.Timer(LIMIT, self.end)
        timer.start()
        try:
            output = self.stdout.read()  # `communicate` would lose what `read_line` has in its buffer
            self.wait()
        finally:
            timer.cancel()
        return output, self.read_errors()

    def end(self) -> None:
        """Kill the process and those that it started."""
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            self.kill()


@contextmanager
def child(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Iterator[Child]:
    """Run Python with these arguments, in a group of processes of its own."""
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        (Path(folder) / "stderr").open("wb") as log,
        Child([sys.executable, *map(str, command)], log, env, cwd) as process,
    ):
        try:
            yield process
        except BaseException:
            print(process.read_errors(), file=sys.stderr)
            raise
        finally:
            process.end()

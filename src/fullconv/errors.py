"""The exceptions that fullconv raises on purpose. Each message says what the user can do.

    FullconvError              1   the work failed
    ├── UsageError             2   the arguments of the command or call are wrong
    │   └── MissingExtra       2   an optional dependency is not installed
    ├── DataError              3   images, masks or folders have faults
    ├── ModelError             4   a model, its weights or its run folder cannot be used
    └── Interrupted          130   stopped by a signal after the state was saved

The number is the exit code of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fullconv.faults import KINDS, Fault

__all__ = ["DataError", "FullconvError", "Interrupted", "MissingExtra", "ModelError", "UsageError"]

SHOWN = 50
"""Maximum number of lines after the summary in a DataError's message."""


class FullconvError(Exception):
    """The base class. `exit_code` is the exit code of the command line; `code` names the problem and is stable.

    The wording of messages may change at any time. Programs and tests compare `code`.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle message and attributes, because the arguments of subclasses differ."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[FullconvError], args: tuple[object, ...]) -> FullconvError:
    """Return an error without calling its `__init__`; unpickling then sets the attributes."""
    error = kind.__new__(kind)
    error.args = args
    return error


class UsageError(FullconvError):
    """The arguments of the command or call are wrong."""

    exit_code = 2
    code = "usage"


class MissingExtra(UsageError):
    """An optional dependency is not installed; the message holds the pip command for this installation."""

    def __init__(self, package: str, extra: str, path: os.PathLike[str] | None = None) -> None:
        """Build the message.

        `extra` is the extra of fullconv that installs `package`, and `path` the file that needs it, if there is one.
        """
        from fullconv.installation import pip_command

        self.package = package
        prefix = "" if path is None else f"{os.fspath(path)}: "
        message = f"{prefix}{package} is not installed. Run: {pip_command(extra)}"
        super().__init__(message, code="missing-extra")


class DataError(FullconvError):
    """Images, masks or folders have faults.

    `faults` holds all faults. `details` holds further lines of the message that are not faults of a data set. The
    message lists at most 50 of both; the attributes are complete. The default of `code` is the kind that all faults
    share.
    """

    exit_code = 3
    code = "data"

    def __init__(
        self,
        summary: str,
        faults: Sequence[Fault] = (),
        *,
        details: Sequence[str] = (),
        code: str | None = None,
    ) -> None:
        self.faults = tuple(faults)
        self.details = tuple(details)
        lines = [*map(str, faults), *details]
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        kinds = {fault.kind for fault in faults}
        if code is None and len(kinds) == 1:
            code = kinds.pop()
        super().__init__("\n".join([summary, *(f"  - {line}" for line in [*lines[:SHOWN], *more])]), code=code)

    @classmethod
    def of(cls, fault: Fault) -> DataError:
        """Return the error for one fault. Its message is that of the fault, its code the fault's kind."""
        error = cls(str(fault), code=fault.kind)
        error.faults = (fault,)
        return error

    @property
    def kind(self) -> str:
        """The code if it is a kind of fault, otherwise `unreadable-file`."""
        return self.code if self.code in KINDS else "unreadable-file"

    def faults_at(self, path: Path) -> tuple[Fault, ...]:
        """Return the faults; if the error has none, one fault of `path` with the error's message."""
        return self.faults or (Fault(self.kind, path, str(self), "correct it"),)


class ModelError(FullconvError):
    """A model, its weights or its run folder cannot be used."""

    exit_code = 4
    code = "model"


class Interrupted(FullconvError):
    """Stopped by a signal after the state was saved."""

    exit_code = 130
    code = "interrupted"

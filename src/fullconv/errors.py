"""Everything that fullconv raises on purpose. The message is one that a user can act on.

    FullconvError              1   the work failed
    ├── UsageError             2   the command or call asks for something that cannot be
    │   └── MissingExtra       2   an optional dependency is not installed
    ├── DataError              3   images, masks or folders are not what they should be
    ├── ModelError             4   a model, its weights or its run folder cannot be used
    └── Interrupted          130   stopped by a signal; what was done is saved

The number is the exit code of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fullconv.faults import KINDS, Fault

__all__ = ["DataError", "FullconvError", "Interrupted", "MissingExtra", "ModelError", "UsageError"]

SHOWN = 50
"""Lines after the summary in a DataError's message."""


class FullconvError(Exception):
    """The root. `exit_code` is what the command line ends with; `code` names the kind of fault and stays stable.

    The wording of a message may change at any time. Programs and tests compare `code`.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class UsageError(FullconvError):
    """The command or call asks for something that cannot be."""

    exit_code = 2
    code = "usage"


class MissingExtra(UsageError):
    """An optional dependency is not installed; the message holds the pip command for this installation."""

    code = "missing-extra"

    def __init__(self, package: str, extra: str, path: os.PathLike[str] | None = None) -> None:
        """Name the package, the extra that brings it, and the file that needs it, if one does."""
        from fullconv.installation import pip_command

        self.package = package
        what = "" if path is None else f"{os.fspath(path)}: "
        super().__init__(f"{what}{package} is not installed. Run: {pip_command(extra)}")


class DataError(FullconvError):
    """Bad images, masks or folders.

    `faults` has every fault that was found, as data. `details` has further lines of the message, which are not faults
    of a data set. The message stops after 50 lines; the attributes are complete. Without a `code`, it is the kind that
    all faults share.
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
        """Return the error for one fault, whose words are the message."""
        error = cls(str(fault), code=fault.kind)
        error.faults = (fault,)
        return error

    @property
    def kind(self) -> str:
        """The code, if it is a kind of fault; otherwise `unreadable-file`."""
        return self.code if self.code in KINDS else "unreadable-file"

    def faults_at(self, path: Path) -> tuple[Fault, ...]:
        """Return the faults; where the error carries none, one that gives its message in the name of `path`."""
        return self.faults or (Fault(self.kind, path, str(self), "correct it"),)


class ModelError(FullconvError):
    """A model, its weights or its run folder cannot be used."""

    exit_code = 4
    code = "model"


class Interrupted(FullconvError):
    """Stopped by a signal after the state was saved."""

    exit_code = 130
    code = "interrupted"

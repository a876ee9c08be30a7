"""The exceptions that fullconv raises on purpose. Each message says what the user can do.

    FullconvError              1   the work failed
    ├── UsageError             2   the arguments of the command or call are wrong
    │   └── MissingExtra       2   an optional dependency is not installed
    ├── DataError              3   images, masks or folders have faults
    ├── ModelError             4   a model, its weights or its run folder cannot be used
    └── Interrupted          130   stopped by a signal after the state was saved

The number is the exit code of the command line. Any other exception is a fault of fullconv, with the exit code 70.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from fullconv.faults import KINDS, Fault

__all__ = [
    "NO_SPACE",
    "UNFORESEEN",
    "DataError",
    "FullconvError",
    "Interrupted",
    "MissingExtra",
    "ModelError",
    "UsageError",
    "describe_failure",
    "describe_os_error",
    "describe_unforeseen",
    "faults_of",
    "is_out_of_memory",
]

UNFORESEEN = 70
"""The exit code for exceptions that fullconv does not raise on purpose (EX_SOFTWARE of sysexits.h)."""

NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Numbers of the system's errors that say that a disk takes no more data."""

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""Words of torch's errors; in small letters."""

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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is lacking. torch raises RuntimeError for the CPU and for GPUs."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def describe_os_error(error: OSError) -> str:
    """Return a sentence about an error of the file system: the path, the problem and a remedy."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in NO_SPACE:
        remedy = "free some space, or choose another folder"
    elif isinstance(error, PermissionError):
        remedy = "change its permissions, or leave it out"
    else:
        remedy = "check the path and the disk"
    name = error.filename2 if error.errno in NO_SPACE and error.filename2 else error.filename
    return f"{reason}; {remedy}" if name is None else f"{os.fsdecode(name)}: {reason}; {remedy}"


def describe_failure(path: os.PathLike[str], error: Exception) -> str:
    """Return one sentence on why the work on a file failed, for any exception."""
    if isinstance(error, FullconvError):
        return str(error)
    if isinstance(error, OSError):
        text = describe_os_error(error)
        return text if error.filename is not None else f"{os.fspath(path)}: {text}"
    if is_out_of_memory(error):
        return f"{os.fspath(path)}: too large for the memory; predict it in tiles (--tile), or make it smaller"
    return f"{os.fspath(path)}: {describe_unforeseen(error)}"


def describe_unforeseen(error: BaseException) -> str:
    """Return a sentence on an exception that fullconv does not raise on purpose: it is a fault of fullconv."""
    reason = " ".join(str(error).split())[:300]
    name = type(error).__name__ + (f" ({reason})" if reason else "")
    return f"{name}: this is a fault of fullconv; add --debug to see where, and report it {_where_to_report()}"


def _where_to_report() -> str:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        links = metadata("fullconv").get_all("Project-URL") or ()
    except PackageNotFoundError:
        links = ()
    named = dict(link.split(", ", 1) for link in links if ", " in link)
    return f"at {named['Issues']}" if "Issues" in named else "to those from whom you have fullconv"


def faults_of(path: Path, error: Exception) -> tuple[Fault, ...]:
    """Return the faults of a file of the data for any exception that its reader raised, so that others are read."""
    if isinstance(error, DataError):
        return error.faults_at(path)
    if is_out_of_memory(error):
        return (Fault("too-large", path, "is too large for the memory", "cut it into smaller images"),)
    if isinstance(error, OSError):
        problem, remedy = f"cannot be read ({error.strerror or error})", "check its permissions, or leave it out"
    elif isinstance(error, FullconvError):
        problem, remedy = str(error), "correct it"
    else:
        problem, remedy = f"cannot be read: {describe_unforeseen(error)}", "leave it out until it is mended"
    return (Fault("unreadable-file", path, problem, remedy),)

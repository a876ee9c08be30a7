"""Locks that keep two processes or threads from writing the same files.

The system releases a lock when the process ends, and with it the children that it forked while it held the lock.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fullconv.errors import FullconvError
from fullconv.files import open_regular

__all__ = ["LOCK_FILE", "hold_folder", "hold_lock", "make_private_folder", "remove_private_folder"]

LOCK_FILE = ".fullconv.lock"
"""The name of the lock file of a folder."""

_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Create `folder` if necessary, and be the only one that writes it. It is removed at the end if it is empty.

    Raises FullconvError if another process or thread is writing it, or if the folder is not writable.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with hold_lock(folder / LOCK_FILE, str(folder)):
            yield
    finally:
        with suppress(OSError):
            for path in created:
                path.rmdir()


@contextmanager
def hold_lock(path: Path, subject: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which exists only meanwhile; `subject` is what it protects, as the user names it.

    A file that a killed process left is not a lock. Where the file system has no locks, none is held. With `wait`, wait
    for the others; otherwise raise FullconvError that names their process. Also raises FullconvError if the file cannot
    be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, wait)
    except OSError as error:
        reason = error.strerror or error
        message = f"{path}: cannot be written ({reason}); check the folder and the disk"
        raise FullconvError(message, code="file-not-writable") from error
    if descriptor is None:
        message = f"{subject}: process {_read_owner(path)} is writing there; wait for its end, or choose another folder"
        raise FullconvError(message, code="locked")
    try:
        with suppress(OSError):  # the number is only for the message
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        with suppress(OSError):
            _unlock(descriptor)
        os.close(descriptor)
        if sys.platform == "win32":  # no other process has the file open, or it stays
            with suppress(OSError):
                path.unlink()


YOUNG = 60.0
"""Seconds in which a private folder may not be locked yet."""

_PRIVATE: dict[Path, int | None] = {}
"""The private folders of this process, with the descriptors of their locks."""


def make_private_folder(purpose: str) -> Path:
    """Make a temporary folder that only this user can read, and remove those that killed processes left.

    The process holds a lock on its folder (not on Windows, where left folders stay). `remove_private_folder` ends it.
    """
    prefix = f"fullconv-{purpose}-"
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            _remove_if_left(path)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with suppress(OSError):  # of a file system without locks
        _PRIVATE[folder] = _lock_folder(folder)
    return folder


def remove_private_folder(folder: Path) -> None:
    """Remove a folder of `make_private_folder` with all that it holds."""
    shutil.rmtree(folder, ignore_errors=True)
    descriptor = _PRIVATE.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


def _acquire(path: Path, wait: bool) -> int | None:
    """Return the descriptor of the locked file, or None if it is locked by another one and `wait` is not set."""
    while True:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            locked = _lock(descriptor, wait)
            if locked and _is_current(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked:
            return None


def _is_current(descriptor: int, path: Path) -> bool:
    """Return whether the open file still has its name: the former owner may have removed it before we locked it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _read_owner(path: Path) -> str:
    try:
        digits = path.read_text(encoding="ascii", errors="replace").strip()[:20]
    except OSError:
        digits = ""
    return digits if digits.isdigit() else "(unknown)"


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, wait: bool) -> bool:
        """Lock a byte far beyond the text, so that others can read the number of the process."""
        while True:
            os.lseek(descriptor, 2**30, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in _BUSY:
                    raise
            else:
                os.lseek(descriptor, 0, os.SEEK_SET)
                return True
            if not wait:
                return False
            time.sleep(0.01)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def _lock_folder(folder: Path) -> int | None:
        """Return None: Windows cannot lock a folder."""
        return None

    def _remove_if_left(folder: Path) -> None:
        """Keep the folder: nothing says whether its process lives."""

else:
    import fcntl

    def _lock(descriptor: int, wait: bool) -> bool:
        """Lock the open file; threads of one process exclude each other, too."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _BUSY:
                return False
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _lock_folder(folder: Path) -> int | None:
        """Lock a folder of this process. Raises OSError where the file system has no locks."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _remove_if_left(folder: Path) -> None:
        """Remove a private folder of this user if no process holds it, and it is older than `YOUNG`. Raises OSError."""
        status = os.lstat(folder)
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < YOUNG:
            return
        descriptor = _lock_folder(folder)  # fails for a folder that is held, for a link and for a file
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

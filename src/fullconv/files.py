"""Atomic writing: a file or folder appears complete, or it does not appear. Reading of files, and lists of folders."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullconv.errors import NO_SPACE, FullconvError, UsageError
from fullconv.visible import escape_in_json

__all__ = [
    "NEW_FILE",
    "Folder",
    "Inventory",
    "StrPath",
    "atomic_folder",
    "atomic_write",
    "check_new_folder",
    "copy_file",
    "is_given",
    "is_litter",
    "list_files",
    "open_regular",
    "read_file",
    "write_json",
    "write_text",
]

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags of `os.open` for a file that must not exist; a link of that name counts as existing."""

_LITTLE = 2**20
"""With less free space than this, a write that failed failed because the disk is full."""


def write_text(path: StrPath, text: str) -> None:
    """Write `text` atomically, as UTF-8 with line feeds.

    Characters that UTF-8 cannot encode (file names may hold some) are written as backslash escapes. Raises
    FullconvError if the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: StrPath, values: Mapping[str, Any]) -> None:
    """Write `values` atomically as compact JSON in UTF-8, with a line feed at the end."""
    write_text(path, escape_in_json(json.dumps(values, ensure_ascii=False, separators=(",", ":"))) + "\n")


def copy_file(source: StrPath, target: StrPath) -> None:
    """Copy the content of a file atomically, without its permissions."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def atomic_write(path: StrPath, errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename that file to `path` when the block succeeds.

    The temporary file exists, is empty and has the suffix of `path`. Missing parent folders are created. The data is
    flushed to the disk before the file is renamed, so `path` holds either the old or the new content, even if the
    process is killed. If the block fails, the temporary file is removed. `path` may be a link: the file replaces it. A
    pipe or a device stays, /dev/stdout too, and the data is written into it.

    Raises FullconvError if the file cannot be written, for example because the disk is full or the folder is read-only.
    `errors` are exceptions other than OSError that the writing library raises then.
    """
    path = Path(path)
    stream = _is_stream(path)
    folder = Path(tempfile.gettempdir()) if stream else path.parent
    temporary = folder / f".{uuid.uuid4().hex}{path.suffix}"
    caught: tuple[type[Exception], ...] = OSError, ValueError, *errors
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mode = _create(temporary, 0o600 if stream else 0o666)
        yield temporary
        if stream:
            _write_stream(path, temporary)
            return
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except caught as error:
        if not isinstance(error, errors) and not _is_about(error, path, temporary):
            raise
        message = f"{path}: cannot be written ({_reason(error, path)}); check the folder and the disk"
        raise FullconvError(message, code="file-not-writable") from error
    finally:
        if _exists(temporary):
            temporary.unlink()


def _is_stream(path: Path) -> bool:
    """Return whether a path is a pipe, a device or an open file of a process, which a rename would replace.

    Links do not count, because anybody may make them, but for those in /proc and those of /dev that lead there.
    """
    try:
        folder = Path(os.path.realpath(path.parent))
        if path.is_symlink() and folder == Path("/dev"):
            folder = Path(os.path.realpath((path.parent / os.readlink(path)).parent))
        mode = path.stat().st_mode
        if folder.is_relative_to("/proc"):
            return not stat.S_ISDIR(mode)
        return not path.is_symlink() and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))
    except (OSError, ValueError):
        return False


def _write_stream(stream: Path, source: Path) -> None:
    """Append a file to a pipe or device. A pipe that nobody reads is an error: it might never be read.

    An open file is an error, too: the process that opened it writes at another place in it.
    """
    if stat.S_ISREG(stream.stat().st_mode):
        raise OSError(errno.EINVAL, "an open file; name the file itself")
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(stream, flags)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)


def _create(path: Path, mode: int) -> int:
    """Create an empty file, and return its permissions: those that the umask allows, which some libraries change."""
    descriptor = os.open(path, NEW_FILE, mode)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except ValueError:  # the name contains NUL
        return False


def _is_about(error: Exception, path: Path, temporary: Path) -> bool:
    """Return whether the error says that `temporary` cannot be written, and not that another file cannot be read."""
    if not isinstance(error, OSError):
        return "\0" in str(path)
    names = {None, str(path), str(temporary), *map(str, temporary.parents)}
    return error.filename in names or error.filename2 in names - {None} or error.errno in NO_SPACE


def _reason(error: BaseException, path: Path) -> str:
    """Return why a file cannot be written. Some libraries hide that the disk is full."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        full = shutil.disk_usage(path.parent).free < _LITTLE
    except (OSError, ValueError):
        full = False
    return os.strerror(errno.ENOSPC) if full or "No space left" in str(error) else str(error).split("\n")[0]


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Yield a new, empty folder, and rename it to `path` when the block succeeds.

    The new folder is inside a private folder with a random name, next to `path`. `path` must not exist, or be an empty
    folder. If the block fails, the new folder is removed.

    Raises FullconvError if a file cannot be written, and if another process writes into `path` in the meantime.
    """
    target = Path(path).resolve()
    private: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        private = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
        partial = private / target.name
        partial.mkdir()
        yield partial
        _rename_folder(partial, target)
    except FullconvError as error:
        if error.code != "file-not-writable" or private is None:
            raise
        message = str(error).replace(str(private / target.name), str(path))
        raise FullconvError(message, code="file-not-writable") from error
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        ours = any(Path(name).is_relative_to(private or target.parent) for name in names)
        if not ours and error.errno not in NO_SPACE:
            raise
        message = f"{path}: cannot be written ({_reason(error, target)}); check the folder and the disk"
        raise FullconvError(message, code="file-not-writable") from error
    finally:
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)


def _rename_folder(folder: Path, target: Path) -> None:
    """Rename a folder to `target`, which must be absent or an empty folder: the system refuses anything else."""
    try:
        if sys.platform == "win32" and target.exists():
            target.rmdir()
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not os.path.lexists(target):
            raise
        message = f"{target}: another process wrote this folder in the meantime; name a new folder"
        raise FullconvError(message, code="folder-taken") from error


def check_new_folder(folder: Path, data: Path | None = None) -> None:
    """Raise UsageError unless `folder` is a new or an empty folder, no mount point, and neither `data` nor inside."""
    if os.path.ismount(os.path.realpath(folder)):
        message = f"{folder}: is a mount point, which cannot be replaced; name a folder inside of it"
        raise UsageError(message, code="folder-is-mount-point")
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not an empty folder; name a new folder", code="folder-not-empty")
    target = folder.resolve()
    if data is not None and data.resolve() in (target, *target.parents):
        message = f"{folder}: is part of the data, which is never changed; name a folder in another place"
        raise UsageError(message, code="folder-in-data")


def is_given(path: Path) -> bool:
    """Return whether there is a file, or a pipe or device in its place, which `read_file` refuses."""
    return path.exists() and not path.is_dir()


def read_file(path: StrPath) -> bytes:
    """Read a regular file. Raises OSError for anything else: a pipe or a device might never end."""
    with open(open_regular(path, follow=True), "rb") as file:
        return file.read()


def open_regular(path: StrPath, flags: int = os.O_RDONLY, follow: bool = False) -> int:
    """Open a regular file and return its descriptor. A pipe or device is not waited for; `follow` follows links.

    Raises OSError for anything else.
    """
    never = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    descriptor = os.open(path, flags | never | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return descriptor


_LITTER = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini", "ehthumbs.db", "lost+found"}
)


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system or program and not to the user's data.

    Hidden files, `@eaDir` of disk stations, `__MACOSX` and `._x` of macOS' archives, `Thumbs.db` and the like.
    """
    return name.startswith((".", "@", "~$")) or name.lower() in _LITTER


DEEPEST = 8
"""Folders below the data set's that are still searched."""


@dataclass(frozen=True)
class Folder:
    """One folder: its path below the data set's, and the names of its files, in order."""

    root: Path
    parts: tuple[str, ...]
    files: tuple[str, ...] = field(repr=False)

    @property
    def path(self) -> Path:
        """Return the folder's path."""
        return self.root.joinpath(*self.parts)

    def having(self, suffixes: Collection[str]) -> tuple[str, ...]:
        """Return the names of the files with one of these suffixes, which are in lower case."""
        return tuple(name for name in self.files if os.path.splitext(name)[1].lower() in suffixes)


@dataclass(frozen=True)
class Inventory:
    """Every folder that holds files, the data set's own first."""

    root: Path
    folders: tuple[Folder, ...]


def list_files(root: Path, deepest: float = DEEPEST) -> Inventory:
    """List the files below `root`, down to `deepest` folders.

    Links to folders are followed, but each folder is listed once, and under its own path if it is below `root`.

    Raises OSError where `root` cannot be read; folders inside of it that cannot be read are left out.
    """
    seen: set[str] = set()
    folders: list[Folder] = []
    waiting, links = deque[tuple[str, ...]]([()]), deque[tuple[str, ...]]()
    while waiting or links:
        parts = waiting.popleft() if waiting else links.popleft()
        path = root.joinpath(*parts)
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise
            log.warning("%s: left out, because this folder cannot be read (%s)", path, error.strerror or error)
            continue
        files = []
        for entry in entries:
            if is_litter(entry.name):
                continue
            if entry.is_dir():
                if len(parts) < deepest:
                    (links if entry.is_symlink() else waiting).append((*parts, entry.name))
            else:
                files.append(entry.name)
        if files:
            folders.append(Folder(root, parts, tuple(files)))
    return Inventory(root, tuple(folders))

"""Atomic writing: a file or folder appears complete, or it does not appear."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullconv.errors import FullconvError

__all__ = ["StrPath", "atomic_folder", "atomic_write", "copy_file", "write_json", "write_text"]

StrPath = str | os.PathLike[str]


def write_text(path: StrPath, text: str) -> None:
    """Write `text` atomically, as UTF-8 with line feeds.

    Characters that UTF-8 cannot encode (file names may hold some) are written as backslash escapes. Raises
    FullconvError if the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: StrPath, values: Mapping[str, Any]) -> None:
    """Write `values` atomically as compact JSON in UTF-8, with a line feed at the end."""
    write_text(path, json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n")


def copy_file(source: StrPath, target: StrPath) -> None:
    """Copy the content of a file atomically, without its permissions."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename that file to `path` when the block succeeds.

    The temporary path has the suffix of `path`. Missing parent folders are created. The data is flushed to the disk
    before the file is renamed, so `path` holds either the old or the new content, even if the process is killed. If
    the block fails, the temporary file is removed.

    Raises FullconvError if the file cannot be written, for example because the disk is full or the folder is read-only.
    """
    path = Path(path)
    temporary = path.parent / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in {None, str(temporary), *map(str, path.parents)}:
            raise
        reason = error.strerror or error
        message = f"{path}: cannot be written ({reason}); check the folder and the disk"
        raise FullconvError(message, code="file-not-writable") from error
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Yield the path of a folder to create, and rename that folder to `path` when the block succeeds.

    The folder is `.NAME.partial` in the parent folder of `path`. `path` must not exist, or be an empty folder. If the
    block fails, the partial folder is removed.
    """
    target = Path(path).resolve()
    partial = target.parent / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    """Return the process's umask. Some libraries create private files; `atomic_write` sets the usual permissions."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

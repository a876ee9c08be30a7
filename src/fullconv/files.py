"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fullconv.errors import FullconvError

__all__ = ["StrPath", "atomic_folder", "atomic_write", "write_text"]

StrPath = str | os.PathLike[str]


def write_text(path: StrPath, text: str) -> None:
    """Write `text` as UTF-8 with line feeds. Raises FullconvError; replaced whole or not at all.

    What is no Unicode, as bytes of file names may be, is escaped with a backslash.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, that replaces `path` when the block ends well.

    Parent folders are made. The data is on the disk before the name changes, so whatever is killed, `path`
    holds either the old content or the new. If the block fails the temporary file is removed.

    Raises FullconvError when the file system refuses: a full disk, a read-only folder.
    """
    path = Path(path)
    temporary = path.parent / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in {None, str(temporary), *map(str, path.parents)}:
            raise
        reason = error.strerror or error
        raise FullconvError(f"{path}: cannot be written ({reason}); check the folder and the disk") from error
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """A folder to fill, `.NAME.partial` beside `path`, that becomes `path` when the block ends well.

    `path` is absent or an empty folder. If the block fails, what was written is removed.
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
    """What the process withholds from new files; some writers make theirs private, ours follow the user's rule."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

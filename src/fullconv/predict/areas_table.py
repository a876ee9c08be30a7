"""The table of the areas of all images, areas.csv in the output folder; processes and threads may share it."""

from __future__ import annotations

import csv
import io
import os
import re
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.errors import UsageError
from fullconv.files import open_regular, write_text
from fullconv.locks import hold_lock
from fullconv.predict.outputs import FRAME_NAME, Area

__all__ = ["AREAS_FILE", "Row", "format_areas", "read_areas", "update_areas", "write_areas"]

AREAS_FILE = "areas.csv"
"""The name of the table of areas of all images, in the output folder."""

Row = tuple[str, ...]
"""A row of the table of areas."""

_HEAD = ("image", "class", "pixels", "share", "square_metres")
_TAIL = 256
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def format_areas(image: str, areas: Mapping[str, Area]) -> list[Row]:
    """Return the rows of one image for `write_areas`.

    Spreadsheets compute cells that begin with = + - @ or a tab. Such names of images and classes get a leading
    apostrophe.
    """
    return [
        (
            _as_text(image),
            _as_text(name),
            str(area.pixels),
            f"{area.share:.6f}",
            "" if area.square_metres is None else f"{area.square_metres:.12g}",
        )
        for name, area in areas.items()
    ]


def _video_of(image: str) -> str:
    """Return the video of a frame; empty for other images."""
    folder, name = os.path.split(image)
    return folder if FRAME_NAME.fullmatch(name) else ""


def _as_text(name: str) -> str:
    name = name.encode("utf-8", "backslashreplace").decode()  # as the file stores it
    return f"'{name}" if _FORMULA.match(name) else name


def write_areas(path: Path, rows: Iterable[Row]) -> None:
    """Write the table of areas as CSV (RFC 4180, UTF-8); `square_metres` is empty if unknown."""
    write_text(path, _format([_HEAD, *rows]))


def read_areas(path: Path) -> list[Row]:
    """Return the rows of a table that `write_areas` wrote, none for a missing file.

    Raises UsageError for anything else, pipes and folders included.
    """
    if not os.path.lexists(path):
        return []
    try:
        target = path.resolve(strict=True) if path.is_symlink() else path
        with open(open_regular(target), encoding="utf-8", newline="") as file:
            head, *rows = [tuple(row) for row in csv.reader(file) if row]
    except (OSError, RuntimeError, ValueError, csv.Error):
        head, rows = (), []
    if head != _HEAD:
        message = f"{path}: not a table of areas that fullconv wrote; move it away or choose another folder"
        raise UsageError(message, code="foreign-areas-table")
    return rows


def update_areas(path: Path, rows: Sequence[Row], videos: Collection[str] = ()) -> None:
    """Replace the rows of these images in the table, and keep all others; create the table if it does not exist.

    `videos` are those of which `rows` has all frames: the rows of other frames, of an earlier version, are dropped.
    The rows of new images are appended, so the cost does not grow with the table. No row is lost if other processes or
    threads update the same table. Raises UsageError like `read_areas`, and FullconvError if it cannot be written.
    """
    images, whole = {row[0] for row in rows}, set(map(_as_text, videos))
    with _STATE.mutex, hold_lock(path.with_name(f".{path.name}.lock"), str(path), wait=True):
        seen = _images_in(path)
        if whole:
            images |= {image for image in seen if _video_of(image) in whole}
        if seen & images or not _append(path, rows):
            write_areas(path, [*(row for row in read_areas(path) if row[0] not in images), *rows])
        seen.difference_update(images)
        seen.update(row[0] for row in rows)
        _remember(path, seen)


@dataclass
class _Seen:
    """A table as this process left it: its inode, size and last bytes, and the images in it."""

    path: str
    inode: tuple[int, int]
    size: int
    tail: bytes
    images: set[str]


@dataclass
class _State:
    """The last table that was updated; threads take turns."""

    mutex: threading.Lock = field(default_factory=threading.Lock)
    seen: _Seen | None = None


_STATE = _State()


def _images_in(path: Path) -> set[str]:
    """Return the images of a table. Of a table that is known, only the rows are read that others appended."""
    seen = _STATE.seen
    if seen is not None and seen.path == os.path.abspath(path):
        with suppress(OSError, csv.Error), open(open_regular(path), "rb") as file:
            status = os.fstat(file.fileno())
            file.seek(seen.size - len(seen.tail))
            if (status.st_dev, status.st_ino) == seen.inode and file.read(len(seen.tail)) == seen.tail:
                added = io.StringIO(file.read().decode("utf-8", "replace"), newline="")
                seen.images.update(row[0] for row in csv.reader(added) if row)
                return seen.images
    return {row[0] for row in read_areas(path)}


def _remember(path: Path, images: set[str]) -> None:
    _STATE.seen = None
    with suppress(OSError), open(open_regular(path), "rb") as file:
        status = os.fstat(file.fileno())
        file.seek(max(0, status.st_size - _TAIL))
        inode = status.st_dev, status.st_ino
        _STATE.seen = _Seen(os.path.abspath(path), inode, status.st_size, file.read(), images)


def _append(path: Path, rows: Sequence[Row]) -> bool:
    """Append rows, all or none. Return False if the table has to be written anew, as for a link."""
    data = _format(rows).encode()
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_APPEND)
    except OSError:
        return False
    with open(descriptor, "rb+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 1 if size else 0)
        complete = file.read(1) == b"\n"
        try:
            complete = complete and file.write(data) == len(data)
            os.fsync(descriptor)
        except OSError:
            complete = False
        if not complete:
            file.truncate(size)
        return complete


def _start_anew() -> None:
    """Replace the state in a forked child: another thread of the parent may hold the mutex."""
    _STATE.mutex, _STATE.seen = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def _format(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

"""Append-only files of JSON lines, each on the disk before it counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.errors import DataError, FullconvError
from fullconv.files import open_regular

__all__ = ["Journal", "read_journal"]


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the complete lines of a journal, and the number of bytes that they have; none if there is no file.

    A last line without its line feed was cut by a kill: it was never confirmed, and is left out. Raises DataError for
    any other line that is not a JSON object.
    """
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error}); check the folder and the disk"
        raise DataError(message, code="unreadable-journal") from error
    length = data.rfind(b"\n") + 1
    lines = []
    for number, line in enumerate(data[:length].splitlines(), 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            message = f"{path}: line {number} is damaged ({error}); restore the file from a copy, or remove it"
            raise DataError(message, code="damaged-journal") from error
        lines.append(values)
    return lines, length


class Journal:
    """A journal for writing, opened with its first line. `length` is the number of bytes of its complete lines.

    The file is cut to these when it is opened.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path, self.length = path, length
        self._descriptor: int | None = None

    def _open(self) -> int:
        """Open or create the file, and cut it to its complete lines."""
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            created = not self.path.exists()
            self._descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT)
            os.ftruncate(self._descriptor, self.length)
            os.lseek(self._descriptor, self.length, os.SEEK_SET)
            if created:
                _sync_folder(self.path.parent)
        return self._descriptor

    def append(self, values: Mapping[str, Any]) -> None:
        """Write a line and return when it is on the disk. Raises FullconvError if it cannot be written.

        After a failure the file is cut to the lines before, when it is opened again.
        """
        data = (json.dumps(values, separators=(",", ":"), ensure_ascii=True) + "\n").encode("ascii")
        try:
            descriptor = self._open()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError as error:
            self.close()
            message = f"{self.path}: cannot be written ({error.strerror or error}); check the folder and the disk"
            raise FullconvError(message, code="file-not-writable") from error
        self.length += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _sync_folder(folder: Path) -> None:
    """Put a new name of a file on the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

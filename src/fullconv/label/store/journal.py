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
    """A journal that is open for writing. `length` is the number of bytes that are on the disk."""

    def __init__(self, path: Path, length: int) -> None:
        """Open or create the file, and cut it to its `length` complete bytes. Raises FullconvError if it cannot."""
        self.path, self.length = path, length
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            created = not path.exists()
            self._descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)
            if created:
                _sync_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, values: Mapping[str, Any]) -> None:
        """Write a line and return when it is on the disk. Raises FullconvError if it cannot be written.

        After a failure the file is cut to the lines before.
        """
        data = (json.dumps(values, separators=(",", ":"), ensure_ascii=True) + "\n").encode("ascii")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self.length)
            os.lseek(self._descriptor, self.length, os.SEEK_SET)
            raise _unwritable(self.path, error) from error
        self.length += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    """Put a new name of a file on the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> FullconvError:
    message = f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
    return FullconvError(message, code="file-not-writable")

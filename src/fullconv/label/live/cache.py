"""Taps on disk and in memory, both bounded: what was not used for the longest time is removed first."""

from __future__ import annotations

import os
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fullconv.errors import FullconvError
from fullconv.files import atomic_write

__all__ = ["DiskCache", "MemoryCache", "Sized"]

Arrays = dict[str, npt.NDArray[np.generic]]

SUFFIX = ".npz"


class DiskCache:
    """Named sets of arrays in one folder, at most `max_bytes` of them.

    Files are written atomically. Damaged files count as absent. A disk that is full is no error: the next read finds
    nothing, and the taps are computed again.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use a folder, which is created with the first file."""
        self.folder, self.max_bytes, self._lock = folder, max_bytes, Lock()

    def read(self, key: str, names: tuple[str, ...] | None = None) -> Arrays | None:
        """Return the arrays of a key, or only those of some `names`; None if there are none."""
        path = self.folder / f"{key}{SUFFIX}"
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (names or file.files)}
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
            return None
        return arrays

    def has(self, key: str) -> bool:
        """Return whether there are arrays of a key."""
        return (self.folder / f"{key}{SUFFIX}").is_file()

    def write(self, key: str, arrays: Arrays) -> None:
        """Store the arrays of a key, and remove the oldest files until all fit."""
        with self._lock:
            try:
                with atomic_write(self.folder / f"{key}{SUFFIX}") as temporary, temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, **arrays)
            except FullconvError:
                return
            self._evict()

    def _evict(self) -> None:
        files = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except OSError:
                continue
            if path.name.startswith("."):  # another process writes it now, or was killed while it did
                if time.time() - status.st_mtime > 3600:
                    path.unlink(missing_ok=True)
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


class Sized(Protocol):
    """A value that takes memory."""

    @property
    def nbytes(self) -> int:
        """The memory in bytes."""
        ...


T = TypeVar("T", bound=Sized)


class MemoryCache(Generic[T]):
    """The values that were used last, at most `max_bytes` of them; the very last one always stays."""

    def __init__(self, max_bytes: int) -> None:
        """Start empty."""
        self.max_bytes, self._lock, self._values = max_bytes, Lock(), OrderedDict[str, T]()

    def get(self, key: str) -> T | None:
        """Return a value, which counts as used now; None if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: str, value: T) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > 1 and sum(one.nbytes for one in self._values.values()) > self.max_bytes:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()

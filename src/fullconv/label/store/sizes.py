"""The sizes of photos, and whether their files are still those that were opened."""

from __future__ import annotations

import os
from pathlib import Path

from fullconv.errors import DataError
from fullconv.images import image_size

__all__ = ["Sizes", "stamp_of"]

_GONE = 0, 0


def stamp_of(path: Path) -> tuple[int, int]:
    """Return the bytes of a file and the time of its last change in nanoseconds; zeros if there is no file."""
    try:
        facts = os.stat(path)
    except OSError:
        return _GONE
    return facts.st_size, facts.st_mtime_ns


class Sizes:
    """The sizes of photos, each read once. May be used from any thread."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], tuple[int, int]]] = {}

    def read(self, path: Path) -> tuple[int, int]:
        """Return (height, width) of a photo.

        Raises DataError if its header cannot be read, and if the file was changed since the first call.
        """
        stamp, known = stamp_of(path), self._known.get(path)
        if known is None:
            known = self._known.setdefault(path, (image_size(path), stamp))
        elif stamp not in (known[1], _GONE):
            message = f"{path}: was changed while it was open; start the command again"
            raise DataError(message, code="photo-changed")
        return known[0]

    def known(self, path: Path) -> tuple[int, int]:
        """Return the size if it was read, otherwise (0, 0)."""
        return self._known.get(path, ((0, 0), _GONE))[0]

    def stamp(self, path: Path) -> tuple[int, int]:
        """Return the stamp of the file whose size was read; zeros if none was."""
        return self._known.get(path, ((0, 0), _GONE))[1]

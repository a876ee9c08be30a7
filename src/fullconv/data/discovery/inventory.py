"""All files of a data set's folder, listed once, without the litter that systems and programs leave."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.files import is_litter

__all__ = ["Folder", "Inventory", "list_files"]

log = logging.getLogger(__name__)

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

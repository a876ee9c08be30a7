"""All files of a data set's folder, listed once, without the litter that systems and programs leave."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Folder", "Inventory", "is_litter", "list_files"]

log = logging.getLogger(__name__)

DEEPEST = 8
"""Folders below the data set's that are still searched."""

_LITTER = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini", "ehthumbs.db", "lost+found"}
)


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system or program and not to the user's data.

    Hidden files, `@eaDir` of disk stations, `__MACOSX` and `._x` of macOS' archives, `Thumbs.db` and the like.
    """
    return name.startswith((".", "@", "~$")) or name.lower() in _LITTER


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


def list_files(root: Path) -> Inventory:
    """List the files below `root`, down to `DEEPEST` folders; links to folders are followed once.

    Raises OSError where `root` cannot be read; folders inside of it that cannot be read are left out.
    """
    seen = {os.path.realpath(root)}
    folders: list[Folder] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop(0)
        path = root.joinpath(*parts)
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
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if len(parts) < DEEPEST and real not in seen:
                    seen.add(real)
                    waiting.append((*parts, entry.name))
            else:
                files.append(entry.name)
        if files:
            folders.append(Folder(root, parts, tuple(files)))
    return Inventory(root, tuple(folders))

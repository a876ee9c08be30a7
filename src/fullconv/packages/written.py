"""What was written for another program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Written"]


@dataclass(frozen=True)
class Written:
    """A file or folder, and `notes` for the person who will use it: one clause each."""

    path: Path
    notes: tuple[str, ...] = ()

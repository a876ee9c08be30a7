"""Paths in lists and descriptions of a data set: files and folders, here or where the data set was made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from fullconv.data.splits import split_of

__all__ = ["find_inside", "read_lines"]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def find_inside(root: Path, written: str, bases: Sequence[str] = ()) -> Path | None:
    """Return the file or folder that a path means, as it is written, or as its last parts lie in `root`.

    `bases` are folders to which it may be relative. If it does not exist, leading folders are left out one by one
    (`/content/set/train/images`, `../train/images`). What remains must name the same split, so that `images` is not
    taken for `valid/images`. A path that exists outside of `root` counts only if nothing in `root` fits.
    """
    outside = None
    for base in (*bases, ""):
        path = _join(root, base, written)
        if path is not None and _is_inside(root, path):
            return path
        outside = outside or path
    parts = [part for part in PurePosixPath(written.replace("\\", "/")).parts if part not in (".", "..", "/")]
    split = _split_in(parts)
    for start in range(len(parts)):
        rest = parts[start:]
        if ":" in rest[0] or _split_in(rest) != split:
            continue
        path = root.joinpath(*rest)
        if _exists(path):
            return path
    return outside


def _join(root: Path, base: str, written: str) -> Path | None:
    path = root / base.replace("\\", "/") / written.replace("\\", "/")
    if not _exists(path):
        return None
    return Path(os.path.normpath(path))


def _is_inside(root: Path, path: Path) -> bool:
    return path.is_relative_to(root) or path.resolve().is_relative_to(root.resolve())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False


def _split_in(parts: Sequence[str]) -> str | None:
    return next(_splits(parts), None)


def _splits(parts: Sequence[str]) -> Iterator[str]:
    for part in reversed(parts):
        split = split_of(PurePosixPath(part).stem)
        if split is not None:
            yield split

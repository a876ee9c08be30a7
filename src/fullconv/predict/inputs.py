"""Expand command-line arguments to input files, and name the results of each file."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from fullconv.errors import DataError, UsageError
from fullconv.files import is_litter
from fullconv.images import BAND_SUFFIXES
from fullconv.images.video import VIDEO_SUFFIXES, is_video
from fullconv.predict.result import file_identity

__all__ = ["expand_inputs", "is_url", "output_names", "refuse_url"]

log = logging.getLogger(__name__)


def expand_inputs(arguments: Sequence[str], out: Path | None = None) -> list[Path]:
    """Return the files that the arguments name, each once, in the order of the arguments.

    An argument is a file (of any suffix), a folder (its images at any depth, sorted), a glob, in which `**` matches
    folders at any depth, or `-` for a list of arguments on the standard input. Folders and globs skip hidden files and
    those of systems and programs (`is_litter`), as data sets do. The search of a folder skips `out`, so that the
    results of one run are not the inputs of the next. Folders inside of it that cannot be read are left out, with a
    warning. Linked folders are followed once. A video must be named, or match a glob with its suffix.

    A list has one path a line, or NUL characters between the paths (`find -print0`). Missing files of a list are
    returned too: the caller reports them, and one missing file does not stop the others.

    Raises DataError, which lists every argument without an image.
    """
    files: dict[str, Path] = {}
    missing = []
    for argument in arguments:
        try:
            matches = _read_list(out) if argument == "-" else list(_match(argument, out))
        except OSError as error:
            missing.append(f"{error.filename}: cannot be read ({error.strerror})")
            continue
        if not matches and argument == "-":
            missing.append("-: no paths on the standard input")
            continue
        if not matches and is_url(argument):
            missing.append(f"{argument}: is an address, and fullconv reads files only; download it first")
        elif not matches:
            missing.append(f"{argument or '(empty)'}: no such file, and no folder or pattern with images")
        for path in matches:
            files.setdefault(file_identity(path), path)
    if missing:
        message = "nothing to predict for some arguments; check the paths"
        raise DataError(message, details=missing, code="no-input")
    return list(files.values())


def is_url(name: str | Path) -> bool:
    """Return whether a name looks like an address on the internet; as a path, it has one slash only."""
    return re.match(r"[a-z][a-z0-9+.-]+:/|(data|tcp|udp):", str(name), re.IGNORECASE) is not None


def refuse_url(path: Path) -> None:
    """Raise DataError for an address, as a list of inputs may hold."""
    if is_url(path) and not os.path.lexists(path):
        message = f"{path}: is an address, and fullconv reads files only; download it first"
        raise DataError(message, code="address-as-path")


def output_names(paths: Sequence[Path]) -> list[Path]:
    """Return for each input the name of its results below the output folder, without suffix; all names differ.

    The name keeps the folders below the deepest folder that all inputs share. It ends with the stem of the file. If
    another input has the same stem (`a.jpg` and `a.png`), or the stem consists of dots, it ends with the whole file
    name. The name of a video is the folder of its frames, which contains no results of other inputs.

    Raises UsageError for inputs on different drives.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    try:
        shared = os.path.commonpath([path.parent for path in absolute]) if paths else ""
    except ValueError:
        message = "the inputs are on different drives; predict one drive at a time"
        raise UsageError(message, code="inputs-on-different-drives") from None
    relative = [path.relative_to(shared) for path in absolute]
    files = {str(path).casefold() for path in relative}
    folders = {str(parent).casefold() for path in relative for parent in path.parents}
    stems = Counter(str(path.with_suffix("")).casefold() for path in relative)

    def name(path: Path) -> Path:
        stem = str(path.with_suffix("")).casefold()
        ambiguous = stems[stem] > 1 or stem in files or not path.stem.strip(".")
        ambiguous |= is_video(path) and stem in folders
        return path if ambiguous else path.with_suffix("")

    return [name(path) for path in relative]


def _read_list(out: Path | None) -> list[Path]:
    """Return the files of the list on the standard input, and its lines that match no file as paths."""
    text = sys.stdin.buffer.read() if sys.stdin is not None else b""  # the caller may have closed it
    lines = [os.fsdecode(line) for line in (text.split(b"\0") if b"\0" in text else text.splitlines())]
    return [path for line in lines if line for path in _match_line(line, out)]


def _match_line(line: str, out: Path | None) -> list[Path]:
    try:
        return list(_match(line, out)) or [Path(line)]
    except OSError:  # such as a name that is too long; the caller reports the file
        return [Path(line)]


def _match(argument: str, out: Path | None) -> Iterator[Path]:
    path = Path(argument)
    if not argument:
        return
    if path.is_dir():
        yield from _find_images(path, out)
    elif path.exists():
        yield path
    elif has_magic(argument):
        yield from _expand_glob(path)


def _find_images(folder: Path, out: Path | None) -> Iterator[Path]:
    """Yield images at any depth, in the order of their paths; each real folder once, because links may loop."""
    entered = set() if out is None else {os.path.realpath(out)} - {os.path.realpath(folder)}
    pending = [folder]
    while pending:
        path = pending.pop()
        if not os.path.isdir(path):
            yield path
            continue
        real = os.path.realpath(path)
        if real in entered:
            continue
        entered.add(real)
        try:
            children = [child for child in path.iterdir() if not is_litter(child.name)]
        except OSError as error:
            if path == folder:
                raise
            log.warning("%s: left out, because this folder cannot be read (%s)", path, error.strerror or error)
            continue
        images = [child for child in children if child.suffix.lower() in BAND_SUFFIXES or os.path.isdir(child)]
        pending.extend(sorted(images, reverse=True))


def _expand_glob(pattern: Path) -> Iterator[Path]:
    """Yield the images that match; `**` of pathlib does not follow links, so loops end."""
    first = next(i for i, part in enumerate(pattern.parts) if has_magic(part))
    base, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    if rest[-1] == "**":
        rest = (*rest, "*")
    try:
        matches = sorted(base.glob(str(Path(*rest))))
    except ValueError:  # such as `a**`
        return
    hidden_too = any(part.startswith(".") for part in rest)
    suffixes = BAND_SUFFIXES | ({pattern.suffix.lower()} & VIDEO_SUFFIXES)
    for path in matches:
        hidden = any(map(is_litter, path.relative_to(base).parts))
        if path.suffix.lower() in suffixes and not os.path.isdir(path) and (hidden_too or not hidden):
            yield path

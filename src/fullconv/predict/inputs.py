"""What the arguments of a command mean: the files to predict, and the names of their results."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from fullconv.errors import DataError, UsageError
from fullconv.images import BAND_SUFFIXES
from fullconv.images.video import VIDEO_SUFFIXES, is_video
from fullconv.predict.result import file_identity

__all__ = ["expand_inputs", "output_names"]


def expand_inputs(arguments: Sequence[str], out: Path | None = None) -> list[Path]:
    """The files that arguments name, each once, in the order of the arguments.

    An argument is a file (of any suffix), a folder (its images at any depth, sorted), a glob, of which `**`
    matches folders at any depth, or `-` for a list of arguments from stdin. Folders and globs leave out what is
    hidden, and a folder's search leaves out `out`, so that the results of one run are not the inputs of the next.
    Linked folders are followed, once. Videos are those that are named, or that a glob with their suffix matches.

    A list has one path a line, or NUL characters between them (`find -print0`). What it names and is not there is
    given back too: whoever reads it tells so, and one lost file does not stop the rest of a list.

    Raises DataError that lists every argument without an image.
    """
    found: dict[str, Path] = {}
    missing = []
    for argument in arguments:
        try:
            matches = _listed(out) if argument == "-" else list(_matches(argument, out))
        except OSError as error:
            missing.append(f"{error.filename}: cannot be read ({error.strerror})")
            continue
        if not matches and argument == "-":
            missing.append("-: no paths on the standard input")
            continue
        if not matches:
            missing.append(f"{argument or '(empty)'}: no such file, and no folder or pattern with images")
        for path in matches:
            found.setdefault(file_identity(path), path)
    if missing:
        message = "nothing to predict for some arguments; check the paths"
        raise DataError(message, details=missing, code="no-input")
    return list(found.values())


def output_names(paths: Sequence[Path]) -> list[Path]:
    """For each input, the name of its results below the output folder, without suffix; no two are equal.

    Folders below the deepest one that all inputs share are kept. A name is the input's stem; where that
    would be shared (`a.jpg` beside `a.png`) or is nothing but dots, its whole file name. That of a video is the
    folder of its frames, which no other input's results may lie in.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    try:
        shared = os.path.commonpath([path.parent for path in absolute]) if paths else ""
    except ValueError:
        raise UsageError("the inputs are on different drives; predict one drive at a time") from None
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


def _listed(out: Path | None) -> list[Path]:
    """The arguments on stdin. Those that match nothing stand for themselves."""
    text = sys.stdin.buffer.read()
    lines = [os.fsdecode(line) for line in (text.split(b"\0") if b"\0" in text else text.splitlines())]
    return [path for line in lines if line for path in (list(_matches(line, out)) or [Path(line)])]


def _matches(argument: str, out: Path | None) -> Iterator[Path]:
    path = Path(argument)
    if not argument:
        return
    if path.is_dir():
        yield from _images_below(path, out)
    elif path.exists():
        yield path
    elif has_magic(argument):
        yield from _globbed(path)


def _images_below(folder: Path, out: Path | None) -> Iterator[Path]:
    """Images at any depth, in the order of their paths. Each real folder is entered once: links may loop."""
    entered = set() if out is None else {os.path.realpath(out)} - {os.path.realpath(folder)}
    pending = [folder]
    while pending:
        path = pending.pop()
        if not path.is_dir():
            yield path
            continue
        real = os.path.realpath(path)
        if real in entered:
            continue
        entered.add(real)
        children = [child for child in path.iterdir() if not child.name.startswith(".")]
        images = [child for child in children if child.suffix.lower() in BAND_SUFFIXES or child.is_dir()]
        pending.extend(sorted(images, reverse=True))


def _globbed(pattern: Path) -> Iterator[Path]:
    """Images that match. Pathlib's `**` does not follow links, so that loops end."""
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
        hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
        if path.suffix.lower() in suffixes and not path.is_dir() and (hidden_too or not hidden):
            yield path

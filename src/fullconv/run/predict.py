"""Prediction of files: what the arguments of a command mean, and where each result goes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, FullconvError, Interrupted, UsageError
from fullconv.image import IMAGE_SUFFIXES, read_image
from fullconv.run.outputs import AREAS_FILE, DEFAULT_SAVES, areas_rows, check_kinds, result_paths, write_areas
from fullconv.run.result import file_identity, segment
from fullconv.run.runner import Runner
from fullconv.run.video import VIDEO_SUFFIXES, is_video, need_video, video_frames

__all__ = ["PredictReport", "expand_inputs", "output_names", "predict_files"]

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PredictReport:
    """Which inputs were done, and which failed with what message, in the order of the inputs."""

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


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
    faults = []
    for argument in arguments:
        try:
            matches = _listed(out) if argument == "-" else list(_matches(argument, out))
        except OSError as error:
            faults.append(f"{error.filename}: cannot be read ({error.strerror})")
            continue
        if not matches and argument == "-":
            faults.append("-: no paths on the standard input")
            continue
        if not matches:
            faults.append(f"{argument or '(empty)'}: no such file, and no folder or pattern with images")
        for path in matches:
            found.setdefault(file_identity(path), path)
    if faults:
        raise DataError("nothing to predict for some arguments; check the paths", faults)
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


def predict_files(
    runner: Runner,
    paths: Iterable[Path],
    out: Path,
    save: Collection[str] = DEFAULT_SAVES,
    on_done: Callable[[Path, str | None], None] | None = None,
) -> PredictReport:
    """Segment each image and write its results, named by `output_names`, at the size of the image.

    The words in `save` are those of `outputs.SAVES`; `outputs.result_paths` says where each goes. A video's frames are
    `<name>/frame-000001` and so on. The areas of all images are in one table, `out/areas.csv`, written at the end, also
    when the run is stopped. An image that cannot be read, computed or written is reported, and the others are still
    done; an input is never overwritten. `on_done(path, message)` is called after each, with None for success.

    Raises UsageError, before any work, if `save` asks for something else or `out` is a file, and MissingExtra for
    videos without PyAV.
    """
    check_kinds(save)
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out}: the output is to be a folder, and this is a file; choose another")
    paths = list(dict.fromkeys(paths))
    work = _Work(runner, out, frozenset(save), frozenset(map(file_identity, paths)), [])
    if "areas" in save:
        work.refuse_inputs([out / AREAS_FILE], "the table of areas")
    if any(map(is_video, paths)):
        need_video()
    done, failed = [], []
    try:
        for path, name in zip(paths, output_names(paths), strict=True):
            message = _attempt(work, path, name)
            if message is None:
                done.append(path)
            else:
                failed.append((path, message))
            if on_done is not None:
                on_done(path, message)
    finally:
        if "areas" in save:
            write_areas(out / AREAS_FILE, work.areas)
    return PredictReport(tuple(done), tuple(failed))


@dataclass(frozen=True)
class _Work:
    """What is the same for all inputs of a run, and the rows of its table."""

    runner: Runner
    out: Path
    kinds: frozenset[str]
    inputs: frozenset[str]
    areas: list[tuple[str, ...]]

    def refuse_inputs(self, targets: Iterable[Path], what: str) -> None:
        """UsageError if a target is an input."""
        for target in targets:
            if file_identity(target) in self.inputs:
                raise UsageError(f"{what}: its result would overwrite the input {target}; choose another folder")


def _attempt(work: _Work, path: Path, name: Path) -> str | None:
    """Predict one file; the message of what went wrong, if something did."""
    try:
        for image, part, source in _pictures(path, name):
            _predict(work, image, part, source, str(source or path / part.name))
    except Interrupted:
        raise
    except (FullconvError, OSError) as error:
        return str(error)
    except MemoryError:
        return f"{path}: too large for the memory; predict it in tiles, or make it smaller"
    return None


def _pictures(path: Path, name: Path) -> Iterator[tuple[UInt8, Path, Path | None]]:
    """The image of a file or the frames of a video: the pixels, the name of the results, and the image's own file."""
    if not is_video(path):
        yield read_image(path), name, path
        return
    for number, frame in enumerate(video_frames(path), 1):
        yield frame, name / f"frame-{number:06d}", None


def _predict(work: _Work, image: UInt8, name: Path, source: Path | None, what: str) -> None:
    targets = result_paths(work.out, name, work.kinds)
    work.refuse_inputs(targets.values(), what)
    result = segment(work.runner, image, str(name), source, keep_logits="probabilities" in work.kinds)
    rows = areas_rows(what, result.areas()) if "areas" in work.kinds else []
    result.write(targets)
    work.areas.extend(rows)


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
        images = [child for child in children if child.suffix.lower() in IMAGE_SUFFIXES or child.is_dir()]
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
    suffixes = IMAGE_SUFFIXES | ({pattern.suffix.lower()} & VIDEO_SUFFIXES)
    for path in matches:
        hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
        if path.suffix.lower() in suffixes and not path.is_dir() and (hidden_too or not hidden):
            yield path

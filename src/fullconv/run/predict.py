"""Prediction of files: what the arguments of a command mean, and where each result goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from fullconv.errors import DataError, FullconvError, Interrupted, UsageError
from fullconv.image import IMAGE_SUFFIXES, overlay, read_image, write_image, write_label_map
from fullconv.run.large import LargeOptions, goes_in_windows, large_targets, predict_large
from fullconv.run.runner import Runner, label_maps

__all__ = ["SAVES", "PredictReport", "expand_inputs", "output_names", "predict_files"]

SAVES = ("labels", "overlay")
"""What `predict_files` can write for an image."""


@dataclass(frozen=True)
class PredictReport:
    """Which inputs were done, and which failed with what message, in the order of the inputs."""

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def expand_inputs(arguments: Sequence[str], out: Path | None = None) -> list[Path]:
    """The files that arguments name, each once, in the order of the arguments.

    An argument is a file (of any suffix), a folder (its images at any depth, sorted) or a glob, of which `**`
    matches folders at any depth. Folders and globs leave out what is hidden, and a folder's search leaves out
    `out`, so that the results of one run are not the inputs of the next. Linked folders are followed, once.

    Raises DataError that lists every argument without an image.
    """
    found: dict[str, Path] = {}
    faults = []
    for argument in arguments:
        try:
            matches = list(_matches(argument, out))
        except OSError as error:
            faults.append(f"{error.filename}: cannot be read ({error.strerror})")
            continue
        if not matches:
            faults.append(f"{argument or '(empty)'}: no such file, and no folder or pattern with images")
        for path in matches:
            found.setdefault(_identity(path), path)
    if faults:
        raise DataError("nothing to predict for some arguments; check the paths", faults)
    return list(found.values())


def output_names(paths: Sequence[Path]) -> list[Path]:
    """For each input, the name of its results below the output folder, without suffix; no two are equal.

    Folders below the deepest one that all inputs share are kept. A name is the input's stem; where that
    would be shared (`a.jpg` beside `a.png`) or is nothing but dots, its whole file name.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    try:
        shared = os.path.commonpath([path.parent for path in absolute]) if paths else ""
    except ValueError:
        raise UsageError("the inputs are on different drives; predict one drive at a time") from None
    relative = [path.relative_to(shared) for path in absolute]
    files = {str(path).casefold() for path in relative}
    stems = Counter(str(path.with_suffix("")).casefold() for path in relative)

    def name(path: Path) -> Path:
        stem = str(path.with_suffix("")).casefold()
        ambiguous = stems[stem] > 1 or stem in files or not path.stem.strip(".")
        return path if ambiguous else path.with_suffix("")

    return [name(path) for path in relative]


def predict_files(
    runner: Runner,
    paths: Iterable[Path],
    out: Path,
    save: Collection[str] = SAVES,
    on_done: Callable[[Path, str | None], None] | None = None,
    large: LargeOptions | None = None,
) -> PredictReport:
    """Segment each image and write its results, named by `output_names`, at the size of the image.

    "labels" in `save` writes an indexed label map, `out/<name>.png`; "overlay" `out/overlays/<name>.jpg`. An
    image that cannot be read, computed or written is reported, and the others are still done; an input is
    never overwritten. `on_done(path, message)` is called after each, with None for success.

    Large images (see `run.large`) are read and written in windows, with the tiles of `runner` where it is a
    `TiledRunner`, as `out/<name>.tif` where PNG does not suit; of them only the label map is written, unless `large`
    says otherwise.

    Raises UsageError, before any work, if `save` asks for something else or `out` is a file.
    """
    unknown = sorted(set(save) - set(SAVES))
    if unknown or not save:
        raise UsageError(f"cannot save {', '.join(unknown) or 'nothing'}; choose from {', '.join(SAVES)}")
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out}: the output is to be a folder, and this is a file; choose another")
    paths = list(dict.fromkeys(paths))
    inputs = {_identity(path) for path in paths}
    done, failed = [], []
    for path, name in zip(paths, output_names(paths), strict=True):
        targets = {kind: target for kind, target in _targets(out, name).items() if kind in save}
        message = _attempt(runner, path, targets, inputs, large or LargeOptions())
        if message is None:
            done.append(path)
        else:
            failed.append((path, message))
        if on_done is not None:
            on_done(path, message)
    return PredictReport(tuple(done), tuple(failed))


def _targets(out: Path, name: Path) -> dict[str, Path]:
    """Two suffixes, so that no overlay is ever in the place of a label map."""
    overlays = out / "overlays" / name
    return {
        "labels": out / name.with_name(f"{name.name}.png"),
        "overlay": overlays.with_name(f"{name.name}.jpg"),
    }


def _attempt(runner: Runner, path: Path, targets: dict[str, Path], inputs: set[str], large: LargeOptions) -> str | None:
    """Predict one file; the message of what went wrong, if something did."""
    try:
        _predict_file(runner, path, targets, inputs, large)
    except Interrupted:
        raise
    except (FullconvError, OSError) as error:
        return str(error)
    except MemoryError:
        return f"{path}: too large for the memory; predict it in tiles, or make it smaller"
    return None


def _predict_file(runner: Runner, path: Path, targets: dict[str, Path], inputs: set[str], large: LargeOptions) -> None:
    in_windows = goes_in_windows(runner, path)
    if in_windows:
        targets = large_targets(path, {kind: target for kind, target in targets.items() if large.writes(kind)})
    for target in targets.values():
        if _identity(target) in inputs:
            raise UsageError(f"{path}: its result would overwrite the input {target}; choose another folder")
    if in_windows:
        result = predict_large(runner, path, targets, large.on_tile)
        if result.note and large.tell is not None:
            large.tell(f"{path}: {result.note}")
        return
    image = read_image(path)
    label_map = label_maps(runner, image[None])[0]
    if "labels" in targets:
        write_label_map(targets["labels"], label_map, runner.labels)
    if "overlay" in targets:
        write_image(targets["overlay"], overlay(image, label_map, runner.labels))


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
    for path in matches:
        hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir() and (hidden_too or not hidden):
            yield path


def _identity(path: Path) -> str:
    """The same for two ways to one directory entry; a link to a file is a file of its own."""
    return os.path.join(os.path.realpath(path.parent), path.name)

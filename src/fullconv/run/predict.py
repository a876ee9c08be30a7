"""Prediction of files: each image to its results, whatever happens to the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.data.bands import wrong_bands
from fullconv.errors import DataError, FullconvError, Interrupted, UsageError
from fullconv.run.georeference import georeference
from fullconv.run.inputs import output_names
from fullconv.run.large import (
    LARGE,
    LargeOptions,
    goes_in_windows,
    large_targets,
    predict_large,
)
from fullconv.run.outputs import (
    AREAS_FILE,
    DEFAULT_SAVES,
    areas,
    areas_rows,
    check_kinds,
    read_areas,
    result_paths,
    update_areas,
)
from fullconv.run.picture import Picture, read_picture
from fullconv.run.rasters import PLACE_LOST
from fullconv.run.result import file_identity, segment, targets_of
from fullconv.run.runner import Runner, takes
from fullconv.run.video import is_video, need_video, video_frames

__all__ = ["PredictReport", "predict_files"]


@dataclass(frozen=True)
class PredictReport:
    """Which inputs were done, and which failed with what message, in the order of the inputs."""

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def predict_files(
    runner: Runner,
    paths: Iterable[Path],
    out: Path,
    save: Collection[str] = DEFAULT_SAVES,
    on_done: Callable[[Path, str | None], None] | None = None,
    large: LargeOptions | None = None,
) -> PredictReport:
    """Segment each image and write its results, named by `inputs.output_names`, at the size of the image.

    The words in `save` are those of `outputs.SAVES`; `outputs.result_paths` says where each goes. A video's frames are
    `<name>/frame-000001` and so on. The areas of all images are in one table, `out/areas.csv`, written at the end, also
    when the run is stopped; rows of other images that are in it stay. An image that cannot be read, computed or written
    is reported, and the others are still done; an input is never overwritten. `on_done(path, message)` is called after
    each, with None for success.

    Large images (see `run.large`) are read and written in windows, with the tiles of `runner` where it is a
    `TiledRunner`: label map, areas, and an overlay if `large` says so, as `.tif` where PNG does not suit.

    Raises UsageError, before any work, if `save` asks for something else, `out` is a file or its `areas.csv` is none
    of ours, and MissingExtra for videos without PyAV.
    """
    check_kinds(save)
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out}: the output is to be a folder, and this is a file; choose another")
    paths = list(dict.fromkeys(paths))
    work = _Work(runner, out, frozenset(save), frozenset(map(file_identity, paths)), large or LargeOptions())
    if "areas" in save:
        work.refuse_inputs([out / AREAS_FILE], "the table of areas")
        read_areas(out / AREAS_FILE)
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
            update_areas(out / AREAS_FILE, work.areas)
    return PredictReport(tuple(done), tuple(failed))


@dataclass(frozen=True)
class _Work:
    """What is the same for all inputs of a run, the rows of its table, and what is told but once."""

    runner: Runner
    out: Path
    kinds: frozenset[str]
    inputs: frozenset[str]
    large: LargeOptions
    areas: list[tuple[str, ...]] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def refuse_inputs(self, targets: Iterable[Path], what: str) -> None:
        """UsageError if a target is an input."""
        for target in targets:
            if file_identity(target) in self.inputs:
                raise UsageError(f"{what}: its result would overwrite the input {target}; choose another folder")

    def tell(self, path: Path | None, note: str) -> None:
        """What a user should know of an image that is done; of an installation, once a run."""
        line = note if note == PLACE_LOST else f"{path}: {note}"
        if note and line not in self.told and self.large.tell is not None:
            self.large.tell(line)
        self.told.add(line)


def _attempt(work: _Work, path: Path, name: Path) -> str | None:
    """Predict one file; the message of what went wrong, if something did."""
    try:
        if not is_video(path) and goes_in_windows(work.runner, path):
            _predict_large(work, path, name)
            return None
        for picture, part, source in _pictures(work.runner, path, name):
            _predict(work, picture, part, source, str(source or path / part.name))
    except Interrupted:
        raise
    except (FullconvError, OSError) as error:
        return str(error)
    except MemoryError:
        return f"{path}: too large for the memory; predict it in tiles, or make it smaller"
    return None


def _pictures(runner: Runner, path: Path, name: Path) -> Iterator[tuple[Picture, Path, Path | None]]:
    """The image of a file or the frames of a video: the picture, the name of the results, and the image's own file."""
    if not is_video(path):
        yield read_picture(path, *takes(runner)), name, path
        return
    if takes(runner)[0] != 3:
        raise wrong_bands(path, 3, takes(runner)[0])
    for number, frame in enumerate(video_frames(path), 1):
        yield Picture(frame), name / f"frame-{number:06d}", None


def _predict(work: _Work, picture: Picture, name: Path, source: Path | None, what: str) -> None:
    targets = targets_of(work.out, name, work.kinds, picture.origin)
    work.refuse_inputs(targets.values(), what)
    work.tell(source, picture.note)
    result = segment(work.runner, picture, str(name), source, keep_logits="probabilities" in work.kinds)
    rows = areas_rows(what, result.areas()) if "areas" in work.kinds else []
    result.write(targets)
    work.areas.extend(rows)


def _predict_large(work: _Work, path: Path, name: Path) -> None:
    unwritten = _unwritten(work, path)
    labels = result_paths(work.out, name, {"labels"})
    wanted = result_paths(work.out, name, work.kinds - unwritten)
    targets = large_targets(path, {**labels, **wanted}, work.runner)
    work.refuse_inputs(targets.values(), str(path))
    files = {kind: targets[kind] for kind in wanted}
    result = predict_large(work.runner, path, files, work.large.on_tile, beside=targets["labels"])
    if "areas" in work.kinds:
        found = areas(result.counts, work.runner.labels, georeference(path))
        work.areas.extend(areas_rows(str(path), found))
    work.tell(path, result.note)


def _unwritten(work: _Work, path: Path) -> set[str]:
    """The kinds that a large image does not get, which is told; DataError where it gets none."""
    unwritten = {kind for kind in work.kinds - {"areas"} if not work.large.writes(kind)}
    words = " and ".join(sorted(unwritten))
    if unwritten == work.kinds:
        raise DataError(
            f"{path}: has more than {LARGE:,} pixels, and {words} would need all of them in memory; "
            "save labels, overlay or areas, or cut it into smaller images",
            code="too-large",
        )
    if unwritten == {"overlay"}:
        work.tell(path, f"has more than {LARGE:,} pixels: an overlay is written only if it is asked for")
    elif unwritten:
        work.tell(path, f"has more than {LARGE:,} pixels: without {words}, which would need all of them in memory")
    return unwritten

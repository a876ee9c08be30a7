"""Predict files and write their results; a failed image does not stop the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.errors import DataError, Interrupted, UsageError, describe_failure
from fullconv.images import Picture, read_image
from fullconv.images.decoders.pillow import GEO_LOST
from fullconv.images.decoders.values import band_count_error
from fullconv.images.georeference import read_georeference
from fullconv.images.video import check_video_support, is_video, read_frames
from fullconv.images.write import fits_format
from fullconv.predict.areas_table import AREAS_FILE, Row, format_areas, read_areas, update_areas
from fullconv.predict.inputs import output_names, refuse_url
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS, goes_in_windows, large_targets, predict_large
from fullconv.predict.outputs import DEFAULT_SAVES, FRAME_NAME, check_kinds, compute_areas, result_paths
from fullconv.predict.ranges import find_misfit
from fullconv.predict.result import choose_targets, file_identity, refuse_targets, segment
from fullconv.predict.resumable import has_progress
from fullconv.runtime.runner import Runner

__all__ = [
    "Attempt",
    "FilePredictor",
    "PredictOptions",
    "PredictReport",
    "check_output",
    "predict_files",
]

log = logging.getLogger(__name__)

RANGE = "range"
"""The key of the warning on the range, which appears once a run."""


@dataclass(frozen=True)
class PredictOptions:
    """The options of `predict_files`.

    `save` names kinds of results, of `outputs.SAVES`. None means `DEFAULT_SAVES`, but no overlay of large images, which
    have more than `max_in_memory_pixels`. `on_image(path, message)` is called after each input, with None for success,
    and `on_tile(done, all)` after each tile of a large image. With `range_is_given`, images that do not fit the range
    of the model are not reported.
    """

    save: Collection[str] | None = None
    on_image: Callable[[Path, str | None], None] | None = None
    on_tile: Callable[[int, int], None] | None = None
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS
    range_is_given: bool = False

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of results of an image that fits in memory."""
        return frozenset(DEFAULT_SAVES if self.save is None else self.save)

    @property
    def kinds_of_large(self) -> frozenset[str]:
        """The kinds of results of a large image; all others would need all of its pixels in memory."""
        return self.kinds & ({"labels", "areas"} if self.save is None else {"labels", "areas", "overlay"})


@dataclass(frozen=True)
class PredictReport:
    """The inputs that were processed, and those that failed with their messages, in the order of the inputs."""

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def predict_files(
    runner: Runner, paths: Iterable[Path], out: Path, options: PredictOptions | None = None
) -> PredictReport:
    """Segment each image and write its results, named by `inputs.output_names`, at the size of the image.

    `outputs.result_paths` names the file of each kind of result. The frames of a video are `<name>/frame-000001` and so
    on. One table, `out/areas.csv`, holds the areas of all images. It is written at the end, even after an interrupt,
    and keeps its rows of other images. Frames that a video no longer has lose their rows; their files stay, and a note
    names them. If an image cannot be read, computed or written, the report has its message, and all others are
    processed. Neither an input nor another file in the folder of an input is overwritten.

    Large images (see `predict.large`) are read and written in windows, with the tiles of `runner` if it is a
    `TiledRunner`.

    Raises UsageError, before any work, for other kinds of results, if `out` is a file, or if its `areas.csv` has other
    columns; and MissingExtra for videos without PyAV.
    """
    options = options or PredictOptions()
    check_kinds(options.kinds)
    paths = list(dict.fromkeys(paths))
    predictor = FilePredictor(runner, out, options, frozenset(map(file_identity, paths)))
    names = output_names(paths)
    table = check_output(out, options, predictor.inputs)
    if any(map(is_video, paths)):
        check_video_support()
    done, failed = [], []
    rows: list[Row] = []
    try:
        for path, name in zip(paths, names, strict=True):
            attempt = predictor.attempt(path, name)
            rows += attempt.rows
            if attempt.error is None:
                done.append(path)
            else:
                failed.append((path, attempt.error))
            if options.on_image is not None:
                options.on_image(path, attempt.error)
    finally:
        if table is not None:
            videos = [str(path) for path in done if is_video(path)]
            update_areas(table, [*rows, *predictor.rows], videos)  # rows of an interrupted video, too
    return PredictReport(tuple(done), tuple(failed))


def check_output(out: Path, options: PredictOptions, inputs: Collection[str]) -> Path | None:
    """Return the table of areas if it is to be written. `inputs` are the `file_identity` of all inputs.

    Raises UsageError if `out` is a file, and if the table is an input or has other columns.
    """
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(
            f"{out}: the output must be a folder, but this is a file; choose another", code="output-is-a-file"
        )
    if "areas" not in options.kinds:
        return None
    table = out / AREAS_FILE
    refuse_targets([table], "the table of areas", inputs, ())
    read_areas(table)
    return table


@dataclass(frozen=True)
class Attempt:
    """What became of one input: the message of its failure or None, its rows of the table of areas, and its files."""

    error: str | None
    rows: tuple[Row, ...] = ()
    files: tuple[Path, ...] = ()


def _log(key: str, level: int, text: str) -> None:
    log.log(level, "%s", text)


@dataclass(frozen=True)
class FilePredictor:
    """Predicts one file after another.

    `inputs` are the `file_identity` of the files that no result may overwrite, and neither may it overwrite other files
    in their folders. Messages go to `on_note(key, level, text)`, one for each key. If `is_temporary`, the predicted
    files do not stay, so the files of labelme contain their pictures.
    """

    runner: Runner
    out: Path
    options: PredictOptions
    inputs: frozenset[str]
    on_note: Callable[[str, int, str], None] = _log
    rows: list[Row] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    noted: set[str] = field(default_factory=set)
    is_temporary: bool = False
    folders: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Note the folders of the inputs."""
        object.__setattr__(self, "folders", frozenset(map(os.path.dirname, self.inputs)))

    def attempt(self, path: Path, name: Path) -> Attempt:
        """Predict one file, and write the results `name`. An error becomes a message."""
        error = self._attempt(path, name)
        attempt = Attempt(error, tuple(self.rows), tuple(self.files))
        self.rows.clear()
        self.files.clear()
        return attempt

    def _attempt(self, path: Path, name: Path) -> str | None:
        try:
            refuse_url(path)
            if self.is_large(path):
                self._predict_large(path, name)
            else:
                count = 0
                for picture, part, source in _read_pictures(self.runner, path, name):
                    self._predict(picture, part, source, str(source or path / part.name))
                    count += 1
                if is_video(path):
                    self._report_later_frames(path, name, count)
        except Interrupted:
            raise
        except Exception as error:  # one file never stops the others
            log.debug("%s", path, exc_info=True)
            return describe_failure(path, error)
        return None

    def is_large(self, path: Path) -> bool:
        """Return whether the file is predicted in windows. Raises DataError like `read_header`."""
        return not is_video(path) and goes_in_windows(self.runner, path, self.options.max_in_memory_pixels)

    def prepare_large(self, path: Path, name: Path) -> dict[str, Path]:
        """Return the files of a large image's results by kind, "labels" included; the notes on it are made.

        Raises DataError if it gets no result, the UsageError of `refuse_targets`, and the errors of `read_georeference`
        if its areas are wanted.
        """
        wanted = result_paths(self.out, name, {"labels", *self._large_kinds(path)})
        targets = large_targets(path, wanted, self.runner)
        written = [target for kind, target in targets.items() if kind in self.options.kinds_of_large]
        folders = () if has_progress(targets["labels"]) else self.folders  # an interrupted run wrote some of them
        refuse_targets(written, str(path), self.inputs, folders)
        self._warn_of_range(path)
        if "areas" in self.options.kinds_of_large:
            read_georeference(path)  # its errors appear before hours of work
        return targets

    def _predict(self, picture: Picture, name: Path, source: Path | None, image: str) -> None:
        kinds = self.options.kinds
        targets = choose_targets(self.out, name, kinds, picture.geo)
        refuse_targets(targets.values(), image, self.inputs, self.folders)
        _check_overlay(targets, picture, image)
        self._log_note(source, picture.note)
        self._warn_of_range(source)
        result = segment(self.runner, picture, str(name), source, keep_logits="probabilities" in kinds)
        rows = format_areas(image, result.areas()) if "areas" in kinds else []
        result.write(targets, embed=self.is_temporary)
        self.rows.extend(rows)
        self.files.extend(targets.values())

    def _predict_large(self, path: Path, name: Path) -> None:
        targets, kinds = self.prepare_large(path, name), self.options.kinds_of_large
        files = {kind: target for kind, target in targets.items() if kind in kinds}
        result = predict_large(self.runner, path, files, self.options.on_tile, resume_at=targets["labels"])
        if "areas" in kinds:
            image_areas = compute_areas(result.counts, self.runner.info.labels, read_georeference(path))
            self.rows.extend(format_areas(str(path), image_areas))
        self.files.extend(files.values())
        self._log_note(path, result.note)

    def _report_later_frames(self, path: Path, name: Path, count: int) -> None:
        """Log a note on results of frames after the last one, which an earlier, longer video left."""
        targets = result_paths(self.out, name / "frame-000000", self.options.kinds).values()
        files = [file for target in targets for file in target.parent.glob(f"frame-*{target.suffix}")]
        numbers = [(int(match[1]), file) for file in files if (match := FRAME_NAME.fullmatch(file.stem))]
        later = sorted(file for number, file in numbers if number > count)
        if later:
            more = f" and {len(later) - 1} more" if len(later) > 1 else ""
            self._log_note(path, f"has {count} frames, and there are results of later ones; delete {later[0]}{more}")

    def _large_kinds(self, path: Path) -> frozenset[str]:
        """Return the kinds that a large image gets, and log the others; raise DataError if it gets none."""
        kinds, size = self.options.kinds_of_large, f"has more than {self.options.max_in_memory_pixels:,} pixels"
        missing = self.options.kinds - kinds
        words = " and ".join(sorted(missing))
        if not kinds:
            raise DataError(
                f"{path}: {size}, and {words} would need all of them in memory; "
                "save labels, overlay or areas, or cut it into smaller images",
                code="too-large-for-results",
            )
        if missing == {"overlay"}:
            self._log_note(path, f"{size}: an overlay is written only if it is asked for")
        elif missing:
            self._log_note(path, f"{size}: without {words}, which would need all of them in memory")
        return kinds

    def _warn_of_range(self, path: Path | None) -> None:
        """Log a warning on the first image whose values do not fit the range that the model expects."""
        if path is None or self.options.range_is_given or RANGE in self.noted:
            return
        misfit = find_misfit(path, self.runner.info.input)
        if misfit is not None:
            self._note(RANGE, logging.WARNING, str(misfit))

    def _log_note(self, path: Path | None, note: str) -> None:
        """Log a note on an image; a note on the installation appears once a run."""
        line = note if note.startswith(GEO_LOST) else f"{path}: {note}"
        if note:
            self._note(line, logging.WARNING if note.startswith(GEO_LOST) else logging.INFO, line)

    def _note(self, key: str, level: int, text: str) -> None:
        if key not in self.noted:
            self.noted.add(key)
            self.on_note(key, level, text)


def _check_overlay(targets: Mapping[str, Path], picture: Picture, image: str) -> None:
    """Refuse an image whose overlay its format cannot hold, before the image is predicted."""
    height, width = picture.pixels.shape[:2]
    if "overlay" in targets and not fits_format(targets["overlay"], (height, width)):
        message = f"{image}: {height} x {width} pixels do not fit in the overlay, a {targets['overlay'].suffix} file"
        raise DataError(f"{message}; save only labels, or cut it into smaller images", code="too-large-for-overlay")


def _read_pictures(runner: Runner, path: Path, name: Path) -> Iterator[tuple[Picture, Path, Path | None]]:
    """Yield picture, name of the results and file of an image, or of each frame of a video; a frame has no file."""
    images = runner.info.input
    if not is_video(path):
        yield read_image(path, images), name, path
        return
    if images.channels != 3:
        raise band_count_error(path, 3, images)
    for number, frame in enumerate(read_frames(path), 1):
        yield Picture(frame), name / f"frame-{number:06d}", None

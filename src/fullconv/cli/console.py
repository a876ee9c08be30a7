"""Output to the terminal: results go to stdout, messages and progress bars to stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from fullconv.cores import is_main_process
from fullconv.faults import count_repairs
from fullconv.visible import escape_in_json, make_visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from fractions import Fraction
    from pathlib import Path
    from typing import Any

    from rich.progress import Progress, TaskID

    from fullconv.data.reading import Reading
    from fullconv.metrics import Scores
    from fullconv.training.progress import Progress as TrainingProgress

__all__ = [
    "STOPPING",
    "TTA_COST",
    "emit",
    "format_axes",
    "hint_at_check",
    "print_scores",
    "print_table",
    "prints_json",
    "progress_bar",
    "sample_bar",
    "say",
    "show_log",
    "training_bar",
    "write_results",
]


TTA_COST = "tta: the network labels each image and its mirror image, which takes twice the time"
"""The line on the cost of --tta."""

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that stop a command; SIGHUP says that the terminal was closed."""


@contextmanager
def hint_at_check(data: Path, reading: Reading) -> Iterator[None]:
    """Add the commands that show and repair the faults of `data` to a DataError that lists faults."""
    from fullconv.data.reading import ReadingOptions
    from fullconv.errors import DataError

    try:
        yield
    except DataError as error:
        if error.faults:
            command = ReadingOptions(**reading).check_command(data)
            hint = f"{command} lists all faults, with pictures"
            if repairs := count_repairs(error.faults):
                hint += (
                    f"; {command} --fix DIR writes a copy, in which {repairs} of these {len(error.faults)} are repaired"
                )
            error.add_note(hint)
        raise


def say(text: str) -> None:
    """Print a message to stderr, unless nobody can read it: the terminal may be closed."""
    with suppress(OSError):
        print(make_visible(text, lines=True), file=sys.stderr, flush=True)


def emit(text: str = "", *, flush: bool = False) -> None:
    """Print a line of the results to stdout; control characters in names are shown as escapes.

    `flush` is for a line that must arrive in a pipe before the command ends.
    """
    print(make_visible(text, lines=True), flush=flush)


class _Stderr(logging.Handler):
    """Prints log messages to `sys.stderr`, looked up at each message: a progress bar or a test may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_main_process():
            return
        say(record.getMessage())
        if record.exc_info:
            traceback.print_exception(*record.exc_info)


@contextmanager
def show_log(debug: bool = False) -> Iterator[None]:
    """Print fullconv's log messages from level INFO upwards to stderr only; restore the logger at the end.

    With `debug`, messages of level DEBUG are printed, too, with their tracebacks.
    """
    logger, handler = logging.getLogger("fullconv"), _Stderr()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def write_results(json_file: Path | None, values: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Call `show` to print the results, and write `values` as JSON to `json_file`, if there is one.

    If `json_file` is `-` or /dev/stdout, print the JSON and do not call `show`. The JSON is ASCII: any terminal can
    print it.
    """
    from fullconv.files import write_text

    text = json.dumps(values, indent=1)
    if prints_json(json_file):
        print(escape_in_json(text))
        return
    show()
    if json_file is not None:
        write_text(json_file, escape_in_json(text))


def prints_json(json_file: Path | None) -> bool:
    """Return whether stdout is for JSON only."""
    return str(json_file) in ("-", "/dev/stdout")


def print_scores(scores: Scores) -> None:
    """Print the four scores of the paper, then the IoU of each class, in percent."""
    rows = [["pixel acc.", "mean acc.", "mIoU", "f.w. IU"]]
    values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
    rows.append([f"{100 * value:.1f}" for value in values])
    print_table(rows)
    pairs = zip(scores.class_names, scores.per_class_iou, strict=True)
    print_table([["class", "IoU"], *([name, "absent" if iou is None else f"{100 * iou:.1f}"] for name, iou in pairs)])


def format_axes(pair: tuple[int | Fraction, int | Fraction] | None, square: bool = True) -> str:
    """Return "vertical x horizontal", or one number if both are equal and `square` is set; "" for None."""
    if pair is None:
        return ""
    values = [f"{float(value):g}" for value in pair]
    return values[0] if square and values[0] == values[1] else "x".join(values)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row is the head. The first column and texts are aligned left, numbers right."""
    from rich.console import Console
    from rich.table import Table

    from fullconv.pages.parts import holds_text

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(rows[0]):
        is_text = index == 0 or holds_text(row[index] for row in rows[1:])
        table.add_column(make_visible(name), justify="left" if is_text else "right")
    for row in rows[1:]:
        table.add_row(*map(make_visible, row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def progress_bar() -> Progress:
    """Return a progress bar on stderr, which is visible only on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def sample_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield the callback that moves it: (samples done, samples in all)."""
    with progress_bar() as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training_bar() -> Iterator[Callable[[TrainingProgress], None]]:
    """Show a progress bar on a terminal; yield the `on_progress` callback of a training or a ladder that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(file=sys.stderr)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    bar = Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True, disable=not console.is_terminal
    )
    rows: dict[tuple[str, str], TaskID] = {}

    def show(progress: TrainingProgress) -> None:
        loss = "" if progress.loss is None else f" loss {progress.loss:.3f}"
        name = "computing feature maps" if progress.stage == "features" else make_visible(f"{progress.network}{loss}")
        key = progress.stage, progress.network
        if key not in rows:
            for row in rows.values():
                bar.update(row, visible=False)
            rows[key] = bar.add_task(name, total=progress.steps, completed=progress.step, left="")
        seconds = progress.seconds_left
        left = "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
        bar.update(rows[key], completed=progress.step, description=name, left=left)

    with bar:
        yield show

"""Results as tables on stdout, progress as a bar and log messages on stderr."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from fractions import Fraction
    from pathlib import Path
    from typing import Any

    from rich.progress import Progress, TaskID

    from fullconv.bench.dense import DenseBench
    from fullconv.bench.views import View
    from fullconv.metrics import Scores
    from fullconv.net.inspect.inspection import Inspection
    from fullconv.training.progress import Progress as TrainingProgress

__all__ = [
    "print_dense_bench",
    "print_inspection",
    "print_scores",
    "print_table",
    "print_views",
    "prints_json",
    "progress_bar",
    "sample_bar",
    "show_log",
    "training_bar",
    "write_results",
]


class _Stderr(logging.Handler):
    """Print the message alone to what `sys.stderr` is at that moment: a progress bar or a test may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


@contextmanager
def show_log() -> Iterator[None]:
    """Print what fullconv logs, from INFO upwards, to stderr, and to no other handler; afterwards as it was before."""
    logger, handler = logging.getLogger("fullconv"), _Stderr()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def write_results(json_file: Path | None, values: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Let `show` print results for people, and write `values` to `json_file`, if there is one.

    For `-`, print JSON instead. JSON is ASCII, which every terminal and every program reads.
    """
    from fullconv.files import write_text

    text = json.dumps(values, indent=1)
    if prints_json(json_file):
        print(text)
        return
    show()
    if json_file is not None:
        write_text(json_file, text)


def prints_json(json_file: Path | None) -> bool:
    """Whether standard output is for JSON alone."""
    return str(json_file) == "-"


def print_scores(scores: Scores) -> None:
    """The four scores, then the IU of each class, in percent."""
    rows = [["pixel acc.", "mean acc.", "mean IU", "f.w. IU"]]
    values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
    rows.append([f"{100 * value:.1f}" for value in values])
    print_table(rows)
    pairs = zip(scores.class_names, scores.per_class_iou, strict=True)
    print_table([["class", "IU"], *([name, "absent" if iou is None else f"{100 * iou:.1f}"] for name, iou in pairs)])


def print_inspection(found: Inspection) -> None:
    """The layers with their totals, and for a skip network its padding, halo and crops."""
    rows = [
        ["layer", "kind", "kernel", "stride", "pad", "output", "cell stride", "field", "offset", "parameters", "MACs"]
    ]
    for row in found.rows:
        shown = (row.kernel, row.step, row.padding), (row.stride, row.receptive_field, row.offset)
        numbers = [[_axes(pair) for pair in group] for group in shown]
        output = "x".join(map(str, row.shape))
        rows.append([row.name, row.kind, *numbers[0], output, *numbers[1], f"{row.params:,}", f"{row.macs:,}"])
    rows.append(["total", *[""] * 8, f"{found.params:,}", f"{found.macs:,}"])
    print(f"{found.name}, image of {_axes(found.size, square=False)}\n")
    print_table(rows)
    if found.context:
        more = f" and {len(found.context) - 3} more" if len(found.context) > 3 else ""
        print(
            f"\nglobal context at {', '.join(found.context[:3])}{more}: every cell depends on the whole image, so "
            "labels from tiles are not the whole image's, and no halo makes them so"
        )
    if found.skip is None:
        return
    (top, bottom), (left, right) = found.skip.padding
    halo = " and ".join(_axes(pair) for pair in zip(*found.skip.halo, strict=True))
    told = "" if found.context else f"; halo: {halo} before and after"
    print(f"\nimage padding: top {top}, bottom {bottom}, left {left}, right {right}{told}\n")
    facts = [[up.name, *map(_axes, (up.factor, up.kernel, up.crop))] for up in found.skip.upsamplings]
    print_table([["upsampling", "factor", "kernel", "crop"], *facts])


def print_dense_bench(found: DenseBench) -> None:
    """Time per cell with ratios, then bytes."""
    print(
        f"{found.model}, image of {_axes(found.size, square=False)}: {_axes(found.cells, square=False)} cells, windows "
        f"of {_axes(found.window, square=False)}, stride {_axes(found.stride)}; float32, {found.threads} thread(s), "
        f"medians of {found.rounds} round(s), torch {found.torch}\n"
    )
    rows = [["", "ms a cell", "times the dense pass", "by multiply-accumulates", "in the paper"]]
    for way in found.ways:
        name = f"{way.way} ({found.batch})" if way.way == "batched" else way.way
        paper = "" if way.paper is None else f"{way.paper:.1f}"
        rows.append(
            [f"{way.direction}, {name}", f"{way.milliseconds:.2f}", f"{way.ratio:.1f}", f"{way.bound:.1f}", paper]
        )
    print_table(rows)
    print()
    rows = [["patches", "number", "bytes (uint8)", "bytes (float32)", "times the image"]]
    for kept in found.storage:
        name = f"every {kept.step} pixels" if kept.step > 1 else "every pixel"
        ratio = kept.patch_bytes / kept.image_bytes
        rows.append([name, f"{kept.patches:,}", f"{kept.patch_bytes:,}", f"{4 * kept.patch_bytes:,}", f"{ratio:,.1f}"])
    image = found.storage[0].image_bytes
    print_table([*rows, ["the image", "1", f"{image:,}", f"{4 * image:,}", "1.0"]])


def print_views(views: Sequence[View]) -> None:
    """Accuracy by window, in percent."""
    rows = [["window", "pixels right", "of digits", "seconds of training"]]
    for view in views:
        shares = [f"{100 * share:.1f}" for share in (view.accuracy, view.on_digits)]
        rows.append([f"{view.window} pixels", *shares, f"{view.seconds:.0f}"])
    print_table(rows)


def _axes(pair: tuple[int | Fraction, int | Fraction] | None, square: bool = True) -> str:
    """Vertical x horizontal, or one number where they are the same."""
    if pair is None:
        return ""
    values = [f"{float(value):g}" for value in pair]
    return values[0] if square and values[0] == values[1] else "x".join(values)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the head; its first column goes to the left, the others to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def progress_bar() -> Progress:
    """A bar on stderr, shown on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def sample_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for a callback that receives how many samples are done, and of how many."""
    with progress_bar() as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training_bar() -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar on stderr for `on_progress` of a training or a ladder, shown on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("left")
    bar = Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True, disable=not console.is_terminal
    )
    rows: dict[tuple[str, str], TaskID] = {}

    def show(progress: TrainingProgress) -> None:
        loss = "" if progress.loss is None else f" loss {progress.loss:.3f}"
        name = "computing feature maps" if progress.stage == "features" else f"{progress.network}{loss}"
        key = progress.stage, progress.network
        if key not in rows:
            for row in rows.values():
                bar.update(row, visible=False)
            rows[key] = bar.add_task(name, total=progress.steps, completed=progress.step)
        bar.update(rows[key], completed=progress.step, description=name)

    with bar:
        yield show

"""Write the page of a ladder: the table of its networks, their curves, and links to their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fullconv.pages.parts import Cell, Row, Table
from fullconv.pages.render import write_page
from fullconv.report.charts import MARKS, Chart, Curve, line_chart
from fullconv.report.source import read_curves

__all__ = ["Step", "write_ladder_page"]


@dataclass(frozen=True)
class Step:
    """One network of a ladder: its name, its run folder, and the alarm of its report, empty if it works."""

    name: str
    folder: Path
    alarm: str


def write_ladder_page(path: Path, data: str, steps: Sequence[Step], rows: Sequence[Sequence[str]], note: str) -> None:
    """Write the page into the ladder's folder.

    `rows` are the head and the rows of the ladder's table; a row with the name of a step links to its report. Raises
    FullconvError if the page cannot be written, and ModelError for a damaged metrics.csv.
    """
    reports = {step.name: _address(step.folder / "report.html", path.parent) for step in steps}
    head, *body = rows
    cells: list[Row] = [[Cell(row[0], href=reports.get(row[0], "")), *row[1:]] for row in body]
    write_page(
        path,
        "ladder.html",
        title=f"{steps[0].name} to {steps[-1].name}: {data}" if len(steps) > 1 else f"{steps[0].name}: {data}",
        table=Table(note, [head[0] or "network", *head[1:]], cells),
        charts=_charts({step.name: step.folder for step in steps}),
        alarms=[step for step in steps if step.alarm],
        reports=reports,
    )


def _address(report: Path, folder: Path) -> str:
    return quote(report.relative_to(folder).as_posix())


def _charts(folders: Mapping[str, Path]) -> list[Chart]:
    """Draw loss and mIoU over the epochs of all runs; each network starts at the last epoch of the one before."""
    start, ends = 0.0, []
    losses, scores = [], []
    for number, (name, folder) in enumerate(folders.items()):
        rows = read_curves(folder)
        epochs, look = [start + row["epoch"] for row in rows], number % len(MARKS)
        losses.append(Curve(name, epochs, [row["train_loss"] for row in rows], look))
        scores.append(Curve(name, epochs, [100 * row["mean_iou"] for row in rows], look))
        start = epochs[-1] if epochs else start
        ends.append(start)
    return [
        line_chart(
            "chart-scores", "mIoU (“mean IU” in the table) on the validation images, percent", " %", scores, ends[:-1]
        ),
        line_chart("chart-loss", "Training loss", "", losses, ends[:-1]),
    ]

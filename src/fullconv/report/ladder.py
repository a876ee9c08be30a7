"""Write the page of a ladder: the table of its networks, their curves, and links to their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fullconv.pages.parts import Table
from fullconv.pages.render import write_page
from fullconv.report.charts import MARKS, Chart, Curve, line_chart
from fullconv.report.runs import Run, find_reports, link_rows
from fullconv.report.source import read_curves

__all__ = ["write_ladder_page"]


def write_ladder_page(path: Path, data: str, steps: Sequence[Run], rows: Sequence[Sequence[str]], note: str) -> None:
    """Write the page into the ladder's folder.

    `rows` are the head and the rows of the ladder's table; a row with the name of a step links to its report. Raises
    FullconvError if the page cannot be written, and ModelError for a damaged metrics.csv.
    """
    reports = find_reports(path, steps)
    head, *body = rows
    write_page(
        path,
        "ladder.html",
        title=f"{steps[0].name} to {steps[-1].name}: {data}" if len(steps) > 1 else f"{steps[0].name}: {data}",
        table=Table(note, [head[0] or "network", *head[1:]], link_rows(body, reports)),
        charts=_charts({step.name: step.folder for step in steps}),
        alarms=[step for step in steps if step.alarm],
        reports=reports,
    )


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

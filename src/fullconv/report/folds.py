"""Write the page of a cross-validation: the scores of its folds, and of all images together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fullconv.evaluation.intervals import DRAWS, LEVEL, Bootstrap
from fullconv.pages.parts import Table
from fullconv.pages.render import write_page
from fullconv.report.runs import Run, find_reports, link_rows

__all__ = ["write_folds_page"]


def write_folds_page(
    path: Path,
    data: str,
    folds: Sequence[Run],
    rows: Sequence[Sequence[str]],
    classes: Sequence[Sequence[str]],
    intervals: Bootstrap,
) -> None:
    """Write the page into the folder of the folds.

    `rows` are the head and the rows of the folds' scores; a row with the name of a fold links to its report. `classes`
    are rows of a class, its IoU and its interval; `intervals` says what was drawn. Raises FullconvError if the page
    cannot be written.
    """
    head, *body = rows
    caption = "Percent. In the last row, each image was labelled by the network that was not trained on it"
    write_page(
        path,
        "folds.html",
        title=f"{len(folds)} folds: {data}",
        table=Table(caption, ["fold", *head[1:]], link_rows(body, find_reports(path, folds))),
        classes=Table(_describe(intervals), ["class", "IoU", "interval"], list(classes)),
        alarms=[fold for fold in folds if fold.alarm],
    )


def _describe(intervals: Bootstrap) -> str:
    """Return what the table of classes shows, and what the intervals were drawn from."""
    text = "IoU of all images in percent"
    if intervals.mean_iou is None:
        return f"{text}, without intervals: the images are of {intervals.series} series"
    drawn = f"{intervals.series} series of images" if intervals.in_series else "images"
    return f"{text}, with the interval of {LEVEL} % of {DRAWS} bootstrap samples of the {drawn}"

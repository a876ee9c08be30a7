"""Write the page of a cross-validation: the scores of its folds, and of all images together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fullconv.pages.parts import Table
from fullconv.pages.render import write_page
from fullconv.report.runs import Run, find_reports, link_rows

__all__ = ["write_folds_page"]


def write_folds_page(
    path: Path, data: str, folds: Sequence[Run], rows: Sequence[Sequence[str]], classes: Sequence[Sequence[str]]
) -> None:
    """Write the page into the folder of the folds.

    `rows` are the head and the rows of the folds' scores; a row with the name of a fold links to its report. `classes`
    are rows of a class, its IoU and its interval. Raises FullconvError if the page cannot be written.
    """
    head, *body = rows
    caption = "Percent. In the last row, each image was labelled by the network that was not trained on it"
    of_classes = "IoU of all images in percent, with the interval of 95 % of 1000 bootstrap samples of the images"
    write_page(
        path,
        "folds.html",
        title=f"{len(folds)} folds: {data}",
        table=Table(caption, ["fold", *head[1:]], link_rows(body, find_reports(path, folds))),
        classes=Table(of_classes, ["class", "IoU", "interval"], list(classes)),
        alarms=[fold for fold in folds if fold.alarm],
    )

"""Write the page of a cross-validation: the scores of its folds, and of all images together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fullconv.pages.parts import Cell, Row, Table
from fullconv.pages.render import write_page

__all__ = ["Fold", "write_folds_page"]


@dataclass(frozen=True)
class Fold:
    """One fold: its name, its run folder, and the alarm of its report, empty if it works."""

    name: str
    folder: Path
    alarm: str


def write_folds_page(
    path: Path, data: str, folds: Sequence[Fold], rows: Sequence[Sequence[str]], classes: Sequence[Sequence[str]]
) -> None:
    """Write the page into the folder of the folds.

    `rows` are the head and the rows of the folds' scores; a row with the name of a fold links to its report. `classes`
    are rows of a class, its IoU and its interval. Raises FullconvError if the page cannot be written.
    """
    reports = {fold.name: quote((fold.folder / "report.html").relative_to(path.parent).as_posix()) for fold in folds}
    head, *body = rows
    cells: list[Row] = [[Cell(row[0], href=reports.get(row[0], "")), *row[1:]] for row in body]
    caption = "Percent. In the last row, each image was labelled by the network that was not trained on it"
    of_classes = "IoU of all images in percent, with the interval of 95 % of 1000 bootstrap samples of the images"
    write_page(
        path,
        "folds.html",
        title=f"{len(folds)} folds: {data}",
        table=Table(caption, ["fold", *head[1:]], cells),
        classes=Table(of_classes, ["class", "IoU", "interval"], list(classes)),
        alarms=[fold for fold in folds if fold.alarm],
    )

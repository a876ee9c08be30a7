"""The runs that a page lists, and the links to their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fullconv.pages.parts import Cell, Row

__all__ = ["Run", "find_reports", "link_rows"]


@dataclass(frozen=True)
class Run:
    """One run of a ladder or of folds: its name, its folder, and the alarm of its report, empty if it works."""

    name: str
    folder: Path
    alarm: str


def find_reports(page: Path, runs: Sequence[Run]) -> dict[str, str]:
    """Return the address of each run's report, relative to the page, by the name of the run."""
    return {run.name: quote((run.folder / "report.html").relative_to(page.parent).as_posix()) for run in runs}


def link_rows(rows: Sequence[Sequence[str]], reports: Mapping[str, str]) -> list[Row]:
    """Return the rows of a table, in which the name of a run links to its report."""
    return [[Cell(row[0], href=reports.get(row[0], "")), *row[1:]] for row in rows]

"""The values that the templates draw: tables, cells, legends and percentages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Cell", "Legend", "Row", "Table", "css_color", "holds_text", "legend_of", "percent"]

_NUMBER = re.compile(r"[<>~+−-]?\s*[\d.]")

Legend = Sequence[tuple[str, str]]
"""Class names with their CSS colours."""


@dataclass(frozen=True)
class Cell:
    """A text in a table or a list, optionally with a patch of `color`, a link to `href` and the CSS classes `kind`."""

    text: str
    color: str = ""
    href: str = ""
    kind: str = ""


Row = Sequence[Cell | str]


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first cell of a row is its header, and `kind` holds CSS classes."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Row]
    kind: str = ""

    @property
    def texts(self) -> Sequence[bool]:
        """Whether each column holds texts, which are aligned left."""
        columns = zip(
            *([cell if isinstance(cell, str) else cell.text for cell in row] for row in self.rows), strict=False
        )
        return [holds_text(column) for column in columns] if self.rows else [False] * len(self.head)


def holds_text(column: Iterable[str]) -> bool:
    """Return whether most cells of a column, apart from empty ones and dashes, are no numbers."""
    cells = [cell for cell in column if cell.strip("–- ")]
    return sum(_NUMBER.match(cell) is None for cell in cells) > len(cells) / 2


def legend_of(names: Iterable[str], palette: Iterable[tuple[int, int, int]]) -> Legend:
    """Return the names with their colours."""
    return [(name, css_color(color)) for name, color in zip(names, palette, strict=True)]


def css_color(color: tuple[int, int, int]) -> str:
    """Return red, green and blue, 0..255, as #rrggbb."""
    return f"#{bytes(color).hex()}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share, 0..1, in percent without the sign; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}"

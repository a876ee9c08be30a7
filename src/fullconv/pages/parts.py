"""The values that the templates draw: tables, cells, legends and percentages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Cell", "Legend", "Row", "Table", "css_color", "legend_of", "percent"]

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


def legend_of(names: Iterable[str], palette: Iterable[tuple[int, int, int]]) -> Legend:
    """Return the names with their colours."""
    return [(name, css_color(color)) for name, color in zip(names, palette, strict=True)]


def css_color(color: tuple[int, int, int]) -> str:
    """Return red, green and blue, 0..255, as #rrggbb."""
    return f"#{bytes(color).hex()}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share, 0..1, in percent without the sign; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}"

"""Pieces of HTML; every text of a user goes through `esc`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["class_name", "details", "esc", "points", "section", "table"]


def esc(text: object) -> str:
    """The text with the characters escaped that HTML gives a meaning, in content and in quoted attributes.

    What UTF-8 cannot hold, as the bytes of a file's name in another encoding, is written with backslashes.
    """
    return escape(str(text).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def points(value: float | None, digits: int = 1) -> str:
    """A share, 0..1, in percent without the sign; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def class_name(name: str, color: tuple[int, int, int]) -> str:
    """A class' name behind a patch of its colour."""
    return f'<span class="swatch" style="background:#{bytes(color).hex()}"></span>{esc(name)}'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table in a box of its own that scrolls, below its caption; cells are HTML, the first of each row its header."""
    label = f' class="{kind}"' if kind else ""
    lines = [f'<figure class="table"><figcaption>{esc(caption)}</figcaption>']
    lines.append(f'<div class="scroll" tabindex="0" role="group" aria-label="{esc(caption)}"><table{label}>')
    lines.append("<thead><tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head) + "</tr></thead><tbody>")
    for first, *others in rows:
        cells = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div></figure>"])


def section(name: str, title: str, *parts: str) -> str:
    """A section with its heading, which `name` links to."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>\n{body}\n</section>'


def details(summary: str, body: str) -> str:
    """A body that is folded until it is asked for."""
    return f"<details><summary>{esc(summary)}</summary>\n{body}\n</details>"

"""Tables of classes as text: one line for each class, with a name, a colour, a number, or several of them; and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from fullconv.data.class_tables.colors import parse_color
from fullconv.data.class_tables.label_map import parse_label_map_line, read_label_map_file
from fullconv.data.class_tables.table import ClassTable, Entry, make_table, table_error

__all__ = ["read_csv_table", "read_text_table"]

_GAP = r"[\s,;]+"
_RGB = rf"(?P<color>\d{{1,3}}{_GAP}\d{{1,3}}{_GAP}\d{{1,3}}|#[0-9a-fA-F]{{6}})"
_COLORED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<value>\d+){_GAP}{_RGB}{_GAP}(?P<name>.*\S)",
        rf"{_RGB}{_GAP}(?P<name>.*\S)",
        rf"(?P<value>\d+){_GAP}(?P<name>\S.*?){_GAP}{_RGB}",
        rf"(?P<name>\S.*?)(?:{_GAP}|\s*:\s*){_RGB}",
    )
)
_NUMBERED = (
    re.compile(r"(?P<value>\d+)(?:\s*[:,;=\t]\s*|\s+)(?P<name>.*\S)"),
    re.compile(r"(?P<name>\S.*?)\s*[:,;=\t]\s*(?P<value>\d+)"),
)

LONGEST_LINE = 1000
"""Text with longer lines is not a list of classes; the patterns would take long, too."""

_COLUMNS = {
    "name": ("name", "classname", "labelname", "class", "label", "category", "title", "readable"),
    "value": ("pixelvalue", "pixel", "value", "classid", "labelid", "id", "index", "idx", "gray", "grey", "class"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
    "color": ("color", "colour", "hex", "hexcolor", "rgb", "colorcode", "hexcode"),
}
"""Words in the first line of a CSV file, by what the column holds; the first that is there counts."""


def read_text_table(path: Path, text: str) -> ClassTable | None:
    """Read a text file with one class for each line; None for text that is not such a list.

    A line is "r g b name", "name r g b" (also with `#rrggbb`), either with a number before it, "name:r,g,b::" as CVAT
    writes it, "number name", or a name alone.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(r"\s*(//|#(?!\w{6}\b))", line)]
    if (
        not lines
        or max(map(len, lines)) > LONGEST_LINE
        or any(re.search(r"\.(png|jpe?g|tiff?|bmp)\b", line, re.IGNORECASE) for line in lines)
    ):
        return None
    if parse_label_map_line(lines[0])[1] is not None:
        labels = read_label_map_file(path)
        pairs = zip(labels.class_names, labels.palette, strict=True)
        return make_table(path, [Entry(name, color=color) for name, color in pairs], ordered=False)
    patterns = [pattern for pattern in _COLORED if 2 * sum(map(bool, map(pattern.fullmatch, lines))) >= len(lines)]
    if patterns:
        return make_table(path, _colored_entries(path, lines, patterns), ordered=False)
    for pattern in _NUMBERED:
        matches = [pattern.fullmatch(line) for line in lines]
        entries = [Entry(match["name"], int(match["value"])) for match in matches if match and len(match["value"]) < 10]
        if len(entries) == len(lines) and len({entry.value for entry in entries}) == len(lines):
            return make_table(path, entries)
    return make_table(path, [Entry(line.strip("\"'")) for line in lines])


def _colored_entries(path: Path, lines: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> list[Entry]:
    pattern = max(patterns, key=lambda pattern: sum(map(bool, map(pattern.fullmatch, lines))))
    entries = []
    for number, line in enumerate(lines):
        match = pattern.fullmatch(line)
        color = parse_color(match["color"]) if match else None
        value = match.groupdict().get("value") if match else None
        if match is None or color is None or len(value or "") > 9:
            words = set(re.findall(r"\w+", line.lower()))
            if number == 0 and ({"r", "g", "b"} <= words or {"red", "green", "blue"} <= words):
                continue
            raise table_error(path, f"the line {line!r} is not a name with a colour")
        entries.append(Entry(match["name"].strip("\"'"), None if value is None else int(value), color))
    return entries


def read_csv_table(path: Path, text: str, known: bool) -> ClassTable | None:
    """Read a CSV file whose first line names its columns; None for a file that is not a table of classes.

    A file whose name does not say that it holds classes (`known`) counts if it has the columns of a colour, or "Pixel
    Value".
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    separator = max(",;\t", key=lines[0].count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
    except csv.Error:  # a cell has more than 131,072 characters
        return None
    columns = _find_columns(rows[0])
    colored = "color" in columns or {"r", "g", "b"} <= columns.keys()
    sure = colored or "pixelvalue" in map(_plain, rows[0])
    if "name" not in columns or not (colored or "value" in columns):
        table = read_text_table(path, text) if known else None
        plain = table is not None and (table.colored or table.stated or not any(separator in line for line in lines))
        return table if plain else None
    if not (sure or known):
        return None
    entries = []
    for row in rows[1:]:
        entry = _read_row(row, columns, colored)
        if entry is None and not (known or sure):
            return None
        if entry is None:
            raise table_error(path, f"the line {separator.join(row)!r} does not fit the first line")
        entries.append(entry)
    return make_table(path, entries, ordered=not colored) if entries else None


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the place of each column by what it holds. "class" is a number where another column is the name."""
    plain = [_plain(cell) for cell in header]
    columns: dict[str, int] = {}
    for what, words in _COLUMNS.items():
        place = next((plain.index(word) for word in words if word in plain), None)
        if place is not None and place not in columns.values():
            columns[what] = place
    return columns


def _plain(cell: str) -> str:
    return re.sub(r"[\W_]+", "", cell).lower()


def _read_row(row: Sequence[str], columns: dict[str, int], colored: bool) -> Entry | None:
    if len(row) <= max(columns.values()) or not row[columns["name"]]:
        return None
    value = color = None
    if "value" in columns:
        if not re.fullmatch(r"\d{1,9}", row[columns["value"]]):
            return None
        value = int(row[columns["value"]])
    if colored:
        cells = [row[columns[key]] for key in ("r", "g", "b")] if "r" in columns else [row[columns["color"]]]
        color = parse_color(" ".join(cells))
        if color is None:
            return None
    return Entry(row[columns["name"]], value, color)

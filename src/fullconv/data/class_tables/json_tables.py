"""Tables of classes in JSON and YAML, in the forms that tools write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullconv.data.class_tables.colors import parse_color
from fullconv.data.class_tables.table import ClassTable, Entry, make_table, table_error
from fullconv.documents import parse_yaml

__all__ = ["read_json_table", "read_yaml_table"]

_LISTS = ("label_map", "labels", "classes", "names", "class_names", "categories", "id2label", "labelmap")
"""Keys under which a file keeps its classes."""

_COLORS = ("segmentation_colors", "label_colors", "colors", "colours", "palette", "colormap")
"""Keys under which a file keeps the colours of its classes, in their order or by their names."""

_NAMES = ("name", "title", "label", "class", "class_name", "className", "category", "label_name", "display_name")
_VALUES = ("value", "pixel_value", "pixelValue", "class_id", "classId", "id", "index", "label_id")
_ENTRY_COLORS = ("color", "colour", "rgb", "hex", "hex_color", "color_hex_code")


def read_json_table(path: Path, text: str, named: bool) -> ClassTable | None:
    """Read a JSON file; None if it holds anything but classes. Raises DataError if it is not JSON.

    A file whose name does not say that it holds classes (not `named`) must have them under a key.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise table_error(path, f"is not JSON ({error})") from None
    if not named and (not isinstance(document, dict) or _classes_key(document) is None):
        return None
    return _table(path, document)


def read_yaml_table(path: Path, text: str) -> ClassTable | None:
    """Read `names` of a YAML file, as ultralytics writes it. Raises DataError if the file is not YAML."""
    try:
        document = parse_yaml(text)
    except ValueError as error:
        raise table_error(path, f"is not YAML ({' '.join(str(error).split())})") from None
    return _table(path, document) if isinstance(document, dict) and "names" in document else None


def _table(path: Path, document: Any) -> ClassTable | None:
    if isinstance(document, dict):
        key = _classes_key(document)
        if key is not None:
            entries = _entries(document[key])
            colors = next((document[key] for key in _COLORS if document.get(key)), None)
            if entries and colors is not None:
                entries = _with_colors(path, entries, colors)
            return _from_entries(path, entries, document[key])
    return _from_entries(path, _entries(document), document)


def _classes_key(document: dict[Any, Any]) -> str | None:
    return next((key for key in _LISTS if isinstance(document.get(key), list | dict) and document[key]), None)


def _from_entries(path: Path, entries: list[Entry] | None, source: Any) -> ClassTable | None:
    """Return the table. Numbers 0, 1, 2, ... say no more than the order; others are strict."""
    if not entries:
        return None
    values = [entry.value for entry in entries]
    if any(value is None or not 0 <= value <= 0xFFFF for value in values) or len(set(values)) < len(values):
        entries = [replace(entry, value=None) for entry in entries]
    elif path.suffix in (".yaml", ".yml"):
        entries = sorted(entries, key=lambda entry: entry.value or 0)
        if [entry.value for entry in entries] == list(range(len(entries))):
            entries = [replace(entry, value=None) for entry in entries]
    by_name = isinstance(source, dict) and all(entry.value is None for entry in entries)
    return make_table(path, entries, ordered=not by_name)


def _entries(value: Any) -> list[Entry] | None:
    """Return the entries of a list or a map of classes; None for anything else."""
    if isinstance(value, list) and value:
        if all(isinstance(item, str) and item.strip() for item in value):
            return [Entry(item) for item in value]
        return _entries_of_maps(value)
    if isinstance(value, dict) and value:
        return _entries_of_map(value)
    return None


def _entries_of_map(value: dict[Any, Any]) -> list[Entry] | None:
    """Read a map: number to name, name to number, name to colour, colour to name, or either to a map."""
    keys, items = list(value), list(value.values())
    numbered = all(type(key) is int or (isinstance(key, str) and key.isdecimal() and len(key) < 10) for key in keys)
    if all(isinstance(item, str) for item in items) and numbered:
        return [Entry(item, int(key)) for key, item in value.items()]
    if all(type(item) is int for item in items):
        return [Entry(str(key), item) for key, item in value.items()]
    colors = [parse_color(item) for item in items]
    if all(colors) and not numbered:
        return [Entry(str(key), color=color) for key, color in zip(keys, colors, strict=True)]
    key_colors = [parse_color(key) for key in keys]
    if all(key_colors) and all(isinstance(item, str) for item in items):
        return [Entry(item, color=color) for item, color in zip(items, key_colors, strict=True)]
    if all(isinstance(item, dict) for item in items):
        key_of = "value" if numbered else "name"
        return _entries_of_maps([{key_of: int(key) if numbered else key} | item for key, item in value.items()])
    return None


def _entries_of_maps(items: Sequence[Any]) -> list[Entry] | None:
    """Read a list of maps with a name each. In Mapillary's config, which has `evaluate`, the place is the number."""
    if not all(isinstance(item, dict) for item in items):
        return None
    readable = [item.get("readable") for item in items]
    unique = all(isinstance(name, str) and name for name in readable) and len(set(readable)) == len(items)
    placed = any("evaluate" in item or "readable" in item for item in items)
    entries = []
    for place, item in enumerate(items):
        name = item["readable"] if unique else _first(item, _NAMES)
        if not isinstance(name, str) or not name.strip():
            return None
        value = _first(item, _VALUES)
        color = parse_color(_first(item, _ENTRY_COLORS))
        ignored = item.get("evaluate") is False or item.get("ignoreInEval") is True
        number = value if type(value) is int else place if placed else None
        entries.append(Entry(name, number, color, ignored))
    return entries


def _first(item: dict[Any, Any], keys: Iterable[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _with_colors(path: Path, entries: list[Entry], colors: Any) -> list[Entry]:
    """Give the entries the colours that another part of the file lists, in their order, by number, or by name."""
    if isinstance(colors, dict):
        by_key = {str(key): parse_color(color) for key, color in colors.items()}
        found = [by_key.get(entry.name, by_key.get(str(entry.value))) for entry in entries]
    else:
        found = [parse_color(color) for color in colors] if isinstance(colors, list) else []
    if len(found) != len(entries) or not all(found):
        raise table_error(path, f"{len(entries)} classes have {len([color for color in found if color])} colours")
    return [replace(entry, color=color) for entry, color in zip(entries, found, strict=True)]

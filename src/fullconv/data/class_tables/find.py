"""Find the tables of classes that lie with a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from fullconv.data.class_tables.json_tables import read_json_table, read_yaml_table
from fullconv.data.class_tables.table import ClassTable, table_error
from fullconv.data.class_tables.text_tables import read_csv_table, read_text_table
from fullconv.files import read_file

__all__ = ["find_tables"]

LARGEST = 1 << 20
"""Larger files, in bytes, are not tables of classes."""

MOST_ENTRIES = 4096
"""Longer lists are not tables of classes."""

_SUFFIXES = (".csv", ".json", ".names", ".txt", ".yaml", ".yml")

_CLASSES = r"_?(class(es)?|labels?|category|categories|colou?rs?|seg(mentation)?)"
_WHAT = r"(maps?|names?|colou?rs?|dict|lists?|table|info|id|seg|classes|labels|palette)"
_STEM = re.compile(
    rf"{_CLASSES}([_\- ]?{_WHAT})*|(.*[_\- ])?{_CLASSES}[_\- ]?{_WHAT}([_\- ]?{_WHAT})*|(.*[_\- ])?colou?r_?map|"
    r"codes|names|palette|id2label|label2id",
    re.IGNORECASE,
)
"""Stems of files that hold classes: `class_dict`, `label_colors`, `labelmap`, `class_names`, `_classes`, `codes`."""

_JSON = re.compile(r"dataset_?meta|meta|config([_\-]?v?[\d.]+)?", re.IGNORECASE)
"""Stems of JSON files that may hold classes among other things."""


def find_tables(root: Path, masks: Iterable[Path] = ()) -> list[ClassTable]:
    """Read every table of classes in `root`, one folder deep, and in or next to the folders of masks.

    `classes.txt` in `root` is not one of them: like dataset.yaml, it counts before all (`classes.find_labels`). Raises
    DataError for a file whose name says that it holds classes, but that cannot be read.
    """
    tables = []
    for folder in _folders(root, masks):
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(_SUFFIXES) and name[0] != ".")
        for path in (folder / name for name in names):
            if path == root / "classes.txt" or not path.is_file():
                continue
            table = _read(path) if 0 < path.stat().st_size <= LARGEST else None
            if table is not None and _lists_classes(table):
                tables.append(table)
    return tables


def _lists_classes(table: ClassTable) -> bool:
    """Return whether a table lists classes, and not the class of each image: most names are there once."""
    names = [entry.name for entry in table.entries]
    if len(names) > MOST_ENTRIES or 2 * len(set(names)) <= len(names):
        return False
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if repeated and not (table.colored or table.stated):
        raise table_error(table.path, f"lists {', '.join(repeated[:3])} more than once")
    return True


def _folders(root: Path, masks: Iterable[Path]) -> list[Path]:
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith((".", "@", "__"))]
    near = [
        folder for mask in sorted(set(masks)) for folder in (mask, mask.parent) if root in (folder, *folder.parents)
    ]
    return list(dict.fromkeys([root, *inside, *near]))


def _read(path: Path) -> ClassTable | None:
    """Read a file if its name or, for CSV, its first line says that it is a table of classes."""
    suffix, named = path.suffix.lower(), bool(_STEM.fullmatch(path.stem))
    if suffix == ".csv":
        text = _text(path, named)
        return None if text is None else read_csv_table(path, text, named)
    if (suffix == ".txt" and named) or suffix == ".names":
        return read_text_table(path, _text(path) or "")
    if suffix == ".json" and (named or _JSON.fullmatch(path.stem)):
        return read_json_table(path, _text(path) or "", named)
    if suffix in (".yaml", ".yml") and (named or path.stem.lower() == "data"):
        return read_yaml_table(path, _text(path) or "")
    return None


def _text(path: Path, required: bool = True) -> str | None:
    try:
        return read_file(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if required:
            raise table_error(path, f"cannot be read as UTF-8 text ({error})") from None
        return None

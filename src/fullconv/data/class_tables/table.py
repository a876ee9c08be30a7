"""A table of classes: names with the numbers or the colours that masks have for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fullconv.data.classes import IGNORED_VALUE, describe_line
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, Color, fold_name

__all__ = ["ClassTable", "Entry", "make_table", "merge", "table_error"]

IGNORED_NAMES = frozenset({"__ignore__"})
"""Names that mean "ignored" at every value."""

IGNORED_AT_255 = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", "nodata", "border"})
"""Names that mean "ignored" at the value 255, which most programs leave out of the classes."""


MOST_DECLARED = 32
"""Longer tables are not written out in a message."""


@dataclass(frozen=True)
class Entry:
    """One line of a table. `value` is the number in the masks, None where only the order of the lines says it."""

    name: str
    value: int | None = None
    color: Color | None = None
    ignored: bool = False


@dataclass(frozen=True)
class ClassTable:
    """The entries of one file, or of several that agree.

    `path` is the file. With `stated`, its entries state their values, and these are strict; otherwise the value of an
    entry is its place. With `ordered`, the file is a list in the order of the ids; a table of colours is not.
    """

    path: Path
    entries: tuple[Entry, ...]
    ordered: bool = True

    @property
    def stated(self) -> bool:
        """Return whether the file states a number for every entry."""
        return all(entry.value is not None for entry in self.entries)

    @property
    def colored(self) -> bool:
        """Return whether every entry has a colour."""
        return all(entry.color is not None or entry.ignored for entry in self.entries) and any(
            entry.color is not None for entry in self.entries
        )

    def names_by_value(self) -> dict[int, str]:
        """Return the folded names by their values, which are places where the file states none."""
        if self.stated:
            return {entry.value: fold_name(entry.name) for entry in self.entries if entry.value is not None}
        return {place: fold_name(entry.name) for place, entry in enumerate(self.entries)} if self.ordered else {}

    def names_by_color(self) -> dict[Color, str]:
        """Return the folded names by their colours."""
        return {entry.color: fold_name(entry.name) for entry in self.entries if entry.color is not None}

    def names(self) -> set[str]:
        """Return the folded names."""
        return {fold_name(entry.name) for entry in self.entries}


def _mark_ignored(entry: Entry) -> Entry:
    """Mark an entry whose name says that its pixels are ignored."""
    name = entry.name.strip().casefold()
    ignored = name in IGNORED_NAMES or (entry.value == IGNORE_INDEX and name in IGNORED_AT_255)
    return replace(entry, ignored=True) if ignored else entry


def make_table(path: Path, entries: Sequence[Entry], ordered: bool = True) -> ClassTable:
    """Return the table of a file. labelme's `__ignore__` in the first line has no number: the next entry is 0."""
    entries = [_mark_ignored(entry) for entry in entries]
    if ordered and len(entries) > 1 and entries[0].ignored and entries[0].value is None:
        entries = entries[1:]
    for what in ("color", "value"):
        seen: dict[object, Entry] = {}
        for entry in entries:
            key = getattr(entry, what)
            other = seen.setdefault(key, entry)
            if key is not None and fold_name(other.name) != fold_name(entry.name):
                raise table_error(path, f"{other.name!r} and {entry.name!r} have the same {what}")
    return ClassTable(path, tuple(entries), ordered)


def table_error(path: Path, problem: str) -> DataError:
    """Return the error of a file that is a table of classes but cannot be used."""
    remedy = "correct it, or write names (and palette, if masks are in colours) into dataset.yaml, which counts first"
    return DataError.of(Fault("class-names", path, problem, remedy))


def merge(tables: Sequence[ClassTable], in_colors: bool = True) -> ClassTable:
    """Return all that agreeing tables say, of masks in colours or numbers. Raises DataError for two that disagree.

    The order is that of the table that states numbers, else of a list of names, else of the first table of colours.
    """
    ranked = sorted(tables, key=lambda table: (not table.stated, not table.ordered, not table.colored))
    merged = ranked[0]
    for table in ranked[1:]:
        difference = _difference(merged, table)
        if difference:
            one, other = sorted((merged.path, table.path))
            answers = [_declare(found, in_colors) for found in sorted((merged, table), key=lambda found: found.path)]
            remedy = f"write {' or '.join(dict.fromkeys(answers))} into dataset.yaml, or remove a file"
            if "" in answers:
                remedy = "remove the wrong file, or correct it"
            raise DataError.of(Fault("class-names", one, f"disagrees with {other}: {difference}", remedy))
        merged = _joined(merged, table)
    return merged


def _declare(table: ClassTable, in_colors: bool) -> str:
    """Return the line of dataset.yaml that says the same as a table; empty if it is long."""
    values: dict[int | str, str] = {}
    for place, entry in enumerate(table.entries):
        number = place if entry.value is None else entry.value
        key = f"#{bytes(entry.color).hex()}" if entry.color is not None and in_colors else number
        values[key] = IGNORED_VALUE if entry.ignored else entry.name.strip()
    return describe_line("values", values) if len(values) <= MOST_DECLARED else ""


def _difference(one: ClassTable, other: ClassTable) -> str:
    """Say the first contradiction of two tables; empty if there is none."""
    listed = one.stated != other.stated and one.ordered and other.ordered
    if listed and _order(one, other) != _order(other, one):
        return f"{', '.join(_order(one, other)[:6])} have another order in the other"
    keyed: tuple[tuple[Mapping[Any, str], Mapping[Any, str]], ...] = (
        ({}, {}) if listed else (one.names_by_value(), other.names_by_value()),
        (one.names_by_color(), other.names_by_color()),
    )
    for first, second in keyed:
        for key in first.keys() & second.keys():
            if first[key] != second[key]:
                shown = f"#{bytes(key).hex()}" if isinstance(key, tuple) else key
                return f"{shown} is {first[key]!r} in one and {second[key]!r} in the other"
    colors = {name: color for color, name in one.names_by_color().items()}
    for color, name in other.names_by_color().items():
        if colors.get(name, color) != color and name not in _repeated(one) | _repeated(other):
            return f"{name!r} has the colour #{bytes(colors[name]).hex()} in one and #{bytes(color).hex()} in the other"
    if not (one.names() <= other.names() or other.names() <= one.names()):
        return f"only one of them has {', '.join(sorted(one.names() ^ other.names())[:6])}"
    return ""


def _order(table: ClassTable, other: ClassTable) -> list[str]:
    """Return the folded names of both tables in the order of the first."""
    by_value = table.names_by_value()
    return [by_value[value] for value in sorted(by_value) if by_value[value] in other.names()]


def _repeated(table: ClassTable) -> set[str]:
    names = [fold_name(entry.name) for entry in table.entries]
    return {name for name in names if names.count(name) > 1}


def _joined(one: ClassTable, other: ClassTable) -> ClassTable:
    """Add what the other table knows: colours and the mark "ignored" by name, and entries that the first lacks."""
    known = {fold_name(entry.name): entry for entry in reversed(other.entries)}
    entries = []
    for entry in one.entries:
        twin = known.get(fold_name(entry.name))
        if twin is not None:
            entry = replace(entry, color=entry.color or twin.color, ignored=entry.ignored or twin.ignored)
        entries.append(entry)
    missing = [entry for entry in other.entries if fold_name(entry.name) not in one.names()]
    if one.stated:
        missing = [entry for entry in missing if entry.value is not None]
    return replace(one, entries=(*entries, *missing))

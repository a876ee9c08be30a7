"""The line of dataset.yaml that settles what masks mean, ready to be copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fullconv.data.classes import DESCRIPTION, IGNORED_VALUE, describe_line
from fullconv.data.mask_classes.summary import hex_of

__all__ = ["color_entries", "mixed_entries", "number_entries", "suggest_values"]

MOST_LISTED = 32
"""More values than this are not written out."""

Entries = Mapping[Any, str]
"""The class name, or "ignore", of numbers and colours, as `values` in dataset.yaml has them."""


def suggest_values(entries: Entries, otherwise: str, nearest: bool = False) -> str:
    """Return a remedy with these entries of `values`; `otherwise` comes last, or alone if they are many.

    The entries are a proposal: the user corrects the names.
    """
    if not 1 < len(entries) <= MOST_LISTED:
        return otherwise
    lines = describe_line("values", dict(entries)) + (" and `nearest: true`" if nearest else "")
    return f"write {lines} into {DESCRIPTION}, with the right class for each, or {otherwise}"


def number_entries(names: Sequence[str], values: Iterable[int]) -> dict[int | str, str]:
    """Return an entry for each value: ids keep their names, others get those that are left in order, or "ignore"."""
    values = sorted(set(values))
    taken = {value for value in values if 0 <= value < len(names)}
    rest = iter([name for index, name in enumerate(names) if index not in taken])
    return {value: names[value] if value in taken else next(rest, IGNORED_VALUE) for value in values}


def color_entries(
    names: Sequence[str], codes: Sequence[int], table: Mapping[int, int] | None = None
) -> dict[int | str, str]:
    """Return an entry for each colour: those of the table, and the codes with the names that are left, in order."""
    known = {code: names[index] if index < len(names) else IGNORED_VALUE for code, index in (table or {}).items()}
    rest = iter([name for name in names if name not in known.values()])
    entries: dict[int | str, str] = {hex_of(code): name for code, name in known.items() if code >= 0}
    return entries | {hex_of(code): next(rest, IGNORED_VALUE) for code in codes if code not in known}


def mixed_entries(names: Sequence[str] | None, numbers: Sequence[int], colors: Sequence[int]) -> dict[int | str, str]:
    """Return an entry for each number and each colour of masks in both ways, where both are in the same order."""
    known = names or ("background", *(f"class_{index}" for index in range(1, max(len(numbers), len(colors)))))
    return {**number_entries(known, numbers), **color_entries(known, colors)}

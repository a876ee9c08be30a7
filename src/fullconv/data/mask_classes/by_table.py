"""The classes of masks by the tables of classes that lie with them, or by what the masks hold where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fullconv.data.class_tables.find import find_tables
from fullconv.data.class_tables.table import ClassTable, Entry, merge
from fullconv.data.classes import DESCRIPTION, find_labels
from fullconv.data.mask_classes.declared import read_declared
from fullconv.data.mask_classes.remedies import color_entries, suggest_values
from fullconv.data.mask_classes.summary import (
    MOST_VALUES,
    ClassReading,
    MaskSummary,
    Question,
    add_counts,
    code_of,
    compute_shares,
    hex_of,
    rgb_of,
)
from fullconv.data.mask_classes.values import decide_classes
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.labels import IGNORE_INDEX, Color, LabelSet, fold_name

__all__ = ["decide_with_tables"]

MOST_CLASSES = 255

Decide = Callable[[Sequence[MaskSummary], Sequence[str] | None, Mapping[int, int] | None], ClassReading | Question]
"""`decide_classes`, perhaps with more of its parameters given."""

NEAR = 16
"""A colour this many levels from that of a class, in any channel, may be that colour smeared."""


@dataclass(frozen=True)
class _Classes:
    """The classes of a table: their names and colours, and the class ids (or 255) by number and by colour."""

    names: tuple[str, ...]
    by_value: Mapping[int, int]
    by_color: Mapping[int, int]
    colors: tuple[Color, ...] | None
    plain: bool


def decide_with_tables(
    root: Path, masks: Mapping[Path, MaskSummary], decide: Decide = decide_classes
) -> ClassReading | Fault:
    """Decide the class of each stored code.

    `values` in dataset.yaml of `root` count first, then its names or those of classes.txt. Else all tables that lie
    with the data (`find_tables`) must agree and fit the masks. Without any, the masks say it (`decide`). Raises
    DataError for tables that cannot be read, or that disagree.
    """
    summaries = list(masks.values())
    declared = read_declared(root, summaries)
    if declared is not None:
        return declared
    named = find_labels(root)
    if named is not None:
        return _with_labels(root, named, masks, decide)
    tables = find_tables(root, {path.parent for path in masks})
    if not tables:
        return _as_fault(root, decide(summaries, None, None))
    table = merge(tables, any(mask.kind == "colours" for mask in summaries))
    classes, notes = _make_classes(table, add_counts(summaries))
    decision = _as_fault(table.path, _apply(table, classes, summaries, decide))
    if isinstance(decision, Fault):
        return decision
    paths = ", ".join(dict.fromkeys(os.path.relpath(found.path, root).replace(os.sep, "/") for found in tables))
    listed = ", ".join(classes.names[:12]) + (", ..." if len(classes.names) > 12 else "")
    by_place = not table.stated and {mask.kind for mask in summaries} == {"numbers"}
    order = " (numbers are places in the file, from 0)" if by_place else ""
    source = f"{len(classes.names)} classes from {paths}{order}: {listed}"
    return replace(decision, notes=(source, *notes, *decision.notes))


def _with_labels(
    root: Path, named: tuple[LabelSet, bool], masks: Mapping[Path, MaskSummary], decide: Decide
) -> ClassReading | Fault:
    """Decide with the user's own names; a table of the same names adds colours that these lack."""
    labels, colored = named
    notes: list[str] = []
    by_color = {code_of(color): index for index, color in enumerate(labels.palette)} if colored else None
    try:
        tables = find_tables(root, {path.parent for path in masks})
    except DataError as error:
        tables, notes = [], [f"{error}; it is not needed"]
    ids = {fold_name(name): index for index, name in enumerate(labels.class_names)}
    source = "classes.txt" if (root / "classes.txt").is_file() else DESCRIPTION
    for table in tables:
        if not table.names() <= ids.keys():
            others = ", ".join(entry.name for entry in table.entries if fold_name(entry.name) not in ids)
            notes.append(f"{source} counts, and not {table.path.name}, which has other names: {others}")
        elif by_color is None and table.colored and table.names() == ids.keys():
            by_color = {code_of(entry.color): ids[fold_name(entry.name)] for entry in table.entries if entry.color}
            notes.append(f"the colours of the classes are those of {table.path.name}")
    decision = _as_fault(root, decide(list(masks.values()), labels.class_names, by_color))
    if isinstance(decision, Fault):
        return decision
    colors = labels.palette if colored and decision.names == labels.class_names else decision.colors
    return replace(decision, colors=colors, notes=(*notes, *decision.notes))


def _make_classes(table: ClassTable, counts: Mapping[int, int]) -> tuple[_Classes, list[str]]:
    """Return the classes of a table, and what to say of it. Names that fold alike are one class."""
    notes: list[str] = []
    entries = list(table.entries)
    if table.stated:
        entries.sort(key=lambda entry: entry.value or 0)
    values = {id(entry): place if entry.value is None else entry.value for place, entry in enumerate(entries)}
    if len({fold_name(entry.name) for entry in entries if not entry.ignored}) > MOST_CLASSES:
        entries = [
            entry
            for entry in entries
            if values[id(entry)] in counts or (entry.color and code_of(entry.color) in counts)
        ]
        notes.append(f"{len(entries)} of the {len(table.entries)} classes are in the masks; the others are left out")
    ids: dict[str, int] = {}
    names: dict[str, str] = {}
    for entry in entries:
        if entry.ignored:
            notes.append(f"{entry.name} is ignored, as {table.path.name} says")
            continue
        first = names.setdefault(fold_name(entry.name), entry.name.strip())
        if first != entry.name.strip():
            notes.append(f"{first!r} and {entry.name.strip()!r} differ only by case or blanks and are one class")
        ids.setdefault(fold_name(entry.name), len(ids))
    id_of = {id(entry): IGNORE_INDEX if entry.ignored else ids[fold_name(entry.name)] for entry in entries}
    by_value = {values[id(entry)]: id_of[id(entry)] for entry in entries} if table.stated or table.ordered else {}
    by_color = {code_of(entry.color): id_of[id(entry)] for entry in entries if entry.color is not None}
    return _Classes(
        tuple(names.values()),
        by_value or {values[id(entry)]: id_of[id(entry)] for entry in entries},
        by_color if table.colored else {},
        _colors(entries, ids),
        all(value == index for value, index in ((values[id(entry)], id_of[id(entry)]) for entry in entries)),
    ), notes


def _colors(entries: Sequence[Entry], ids: Mapping[str, int]) -> tuple[Color, ...] | None:
    colors: dict[int, Color] = {}
    for entry in entries:
        if not entry.ignored and entry.color is not None:
            colors.setdefault(ids[fold_name(entry.name)], entry.color)
    return tuple(colors[index] for index in range(len(ids))) if len(colors) == len(ids) else None


def _apply(
    table: ClassTable, classes: _Classes, masks: Sequence[MaskSummary], decide: Decide
) -> ClassReading | Question:
    """Read the masks by the numbers or the colours of the table, whichever they store."""
    counts = add_counts(masks)
    kinds = {mask.kind for mask in masks}
    if len(kinds) == 1 and classes.by_color and _show_colors(masks, classes.by_color):
        return _by_color(table, classes, masks, decide)
    grey = kinds == {"colours"} and all(code >= 0 and code == (code & 255) * 0x010101 for code in counts)
    if kinds == {"numbers"} and (table.stated or not classes.plain):
        return _by_value(table, classes, masks)
    if kinds == {"numbers"} or grey or not classes.by_color:
        decision = decide(masks, classes.names, None)
    else:
        decision = _far_colors(table, classes, masks) or decide(masks, classes.names, classes.by_color)
    if isinstance(decision, ClassReading) and classes.colors and decision.names == classes.names:
        return replace(decision, colors=classes.colors)
    return decision


def _by_color(
    table: ClassTable, classes: _Classes, masks: Sequence[MaskSummary], decide: Decide
) -> ClassReading | Question:
    """Read colours by the table. White, which most programs leave out, is ignored where no entry has it."""
    decision = _far_colors(table, classes, masks) or decide(masks, classes.names, classes.by_color)
    white = compute_shares(add_counts(masks)).get(0xFFFFFF, 0) if {mask.kind for mask in masks} == {"colours"} else 0
    if isinstance(decision, ClassReading) and white and 0xFFFFFF not in classes.by_color:
        note = f"white is in no line of {table.path.name} and is ignored ({white:.1%} of the pixels)"
        return replace(decision, notes=(*decision.notes, note))
    return decision


def _show_colors(masks: Sequence[MaskSummary], by_color: Mapping[int, int]) -> bool:
    """Return whether all masks show only colours of the table, as pixels or by their palettes."""
    shown: set[int] = set()
    for mask in masks:
        if mask.kind == "numbers":
            if mask.palette is None:
                return False
            shown |= {mask.palette.get(index, 0) for index in mask.counts if index != IGNORE_INDEX}
        else:
            shown |= {code for code in mask.counts if code >= 0}
    return shown <= by_color.keys() | {0xFFFFFF}


def _far_colors(table: ClassTable, classes: _Classes, masks: Sequence[MaskSummary]) -> Question | None:
    """Ask where the masks hold a few clear colours that no entry has; colours smeared by compression are many."""
    counts, by_color = add_counts(masks), classes.by_color
    known = [rgb_of(code) for code in by_color]
    far = {
        code: share
        for code, share in compute_shares(counts).items()
        if code not in by_color
        and code >= 0
        and code != 0xFFFFFF
        and min(max(abs(a - b) for a, b in zip(rgb_of(code), color, strict=True)) for color in known) > NEAR
    }
    if not far or len(counts) > MOST_VALUES or masks[0].kind != "colours":
        return None
    listed = ", ".join(f"{hex_of(code)} ({share:.1%})" for code, share in sorted(far.items(), key=lambda x: -x[1])[:8])
    missing = [code for code in counts if code not in by_color and code >= 0]
    remedy = suggest_values(color_entries(classes.names, missing, by_color), _add_to(table))
    return Question("unknown-colour", f"no class has the colour {listed}, which the masks hold", remedy)


def _by_value(table: ClassTable, classes: _Classes, masks: Sequence[MaskSummary]) -> ClassReading | Question:
    """Read numbers strictly by the table. 255 is ignored, and so is declared nodata, where no entry has them."""
    counts, notes = add_counts(masks), []
    shares = compute_shares(counts)
    ids = dict(classes.by_value)
    declared = {mask.nodata for mask in masks if mask.nodata is not None}
    for value in sorted((declared | {IGNORE_INDEX}) & counts.keys() - ids.keys()):
        ids[value] = IGNORE_INDEX
        notes.append(f"{value} is in no line of {table.path.name} and is ignored ({shares[value]:.1%} of the pixels)")
    strange = sorted(counts.keys() - ids.keys())
    held = {ids[value] for value in counts if value in ids} - {IGNORE_INDEX}
    if strange or (len(held) < 2 <= len(classes.names) and IGNORE_INDEX in counts and notes):
        listed = ", ".join(f"{value} ({shares[value]:.1%})" for value in (strange or [IGNORE_INDEX])[:8])
        entries = {value: classes.names[label] if label < IGNORE_INDEX else "ignore" for value, label in ids.items()}
        remedy = suggest_values(entries | dict.fromkeys(strange, "ignore"), _add_to(table))
        return Question("unknown-label", f"no class has the number {listed}, which the masks hold", remedy)
    stated = IGNORE_INDEX in declared or classes.by_value.get(IGNORE_INDEX) == IGNORE_INDEX
    return ClassReading(classes.names, ids, colors=classes.colors, notes=tuple(notes), states_ignored=stated)


def _add_to(table: ClassTable) -> str:
    return f"add it to {table.path.name}"


def _as_fault(path: Path, decision: ClassReading | Question) -> ClassReading | Fault:
    if isinstance(decision, Question):
        return Fault(decision.code, path, decision.problem, decision.remedy)
    return decision

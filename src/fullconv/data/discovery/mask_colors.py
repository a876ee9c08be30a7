"""The classes of masks that store colours: by a table of colours, or each colour a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fullconv.data.discovery.mask_summary import (
    MOST_VALUES,
    TRANSPARENT,
    ClassReading,
    MaskSummary,
    Question,
    add_counts,
    ask_for_labels,
    compute_shares,
    hex_of,
)
from fullconv.labels import IGNORE_INDEX, Color

__all__ = ["decide_colors"]


def decide_colors(
    masks: Sequence[MaskSummary],
    names: Sequence[str] | None,
    table: Mapping[int, int] | None,
    by_palette: bool,
    differ: bool,
) -> ClassReading | Question:
    """Decide the classes of masks that store colours."""
    counts, notes = add_counts(masks), []
    if differ:
        notes.append("palettes differ from mask to mask: the colours say the class, not the indices")
    if table:
        return _with_table(counts, names or (), table, by_palette, notes)
    codes = sorted(counts, key=lambda code: (code != 0, -counts[code], code))
    if len(codes) > MOST_VALUES:
        return Question(
            "no-colour-table",
            f"the masks hold {len(codes)} different colours, more than classes can have without a table",
            "write names and palette into dataset.yaml",
        )
    if names is not None:
        return Question(
            "no-colour-table",
            f"the masks hold {len(codes)} colours ({', '.join(map(hex_of, codes[:8]))}), "
            "and no file says which class each is",
            "write names and palette into dataset.yaml",
        )
    if len(codes) < 2:
        return (
            Question("only-background", f"all pixels are {hex_of(codes[0])}", "label the objects")
            if codes
            else ask_for_labels()
        )
    ids = {code: index for index, code in enumerate(codes)}
    shares = compute_shares(counts)
    if len(codes) == 2:
        class_names: tuple[str, ...] = ("background", "foreground")
        notes.append(
            f"the masks hold two colours: {hex_of(codes[0])} is the background and {hex_of(codes[1])} is the one class"
        )
    else:
        class_names = tuple(map(hex_of, codes))
        listed = ", ".join(f"{hex_of(code)} ({shares[code]:.1%})" for code in codes)
        notes.append(f"each colour of the masks is a class: {listed}")
    colors = tuple(_rgb(code) for code in codes)
    return ClassReading("colours", ids, class_names, colors, by_palette, tuple(notes))


def _with_table(
    counts: Mapping[int, int],
    names: Sequence[str],
    table: Mapping[int, int],
    by_palette: bool,
    notes: list[str],
) -> ClassReading | Question:
    ids = dict(table)
    ids.setdefault(0xFFFFFF, IGNORE_INDEX)
    shares = compute_shares(counts)
    if TRANSPARENT in counts:
        background = not any(ids.get(code) == 0 for code in counts)
        ids[TRANSPARENT] = 0 if background else IGNORE_INDEX
        what = f"class {names[0]}" if background else "ignored"
        notes.append(f"transparent pixels of the masks are {what} ({shares[TRANSPARENT]:.1%})")
    strange = {code: count for code, count in counts.items() if code not in ids}
    if strange:
        nearest = _nearest(strange, [code for code in table if code != TRANSPARENT])
        moved = sum(strange.values()) / sum(counts.values())
        if nearest is None:
            listed = ", ".join(map(hex_of, sorted(strange, key=strange.__getitem__, reverse=True)[:5]))
            return Question(
                "unknown-colour", f"the masks hold colours of no class: {listed}", "add them to the table of classes"
            )
        ids |= {code: table[near] for code, near in nearest.items()}
        notes.append(f"{moved:.2%} of the pixels have a colour near that of a class and become that class")
    colors: list[Color] = [(0, 0, 0)] * len(names)
    for code, index in table.items():
        if index < len(names):
            colors[index] = _rgb(code)
    return ClassReading("colours", ids, tuple(names), tuple(colors), by_palette, tuple(notes))


def _nearest(strange: Mapping[int, int], known: Sequence[int]) -> dict[int, int] | None:
    """Return the nearest of well separated colours for each strange one; None where one lies between two."""
    result = {}
    far = 0
    for code in strange:
        ranked = sorted((_apart(code, other), other) for other in known)
        nearest, second = ranked[0], ranked[1] if len(ranked) > 1 else (1 << 30, 0)
        if 4 * nearest[0] > second[0]:  # not twice as near as the next
            far += strange[code]
        result[code] = nearest[1]
    return None if far > 0.2 * sum(strange.values()) and len(strange) < 16 else result


def _apart(one: int, other: int) -> int:
    return sum((a - b) ** 2 for a, b in zip(_rgb(one), _rgb(other), strict=True))


def _rgb(code: int) -> Color:
    return (255, 255, 255) if code == TRANSPARENT else (code >> 16, code >> 8 & 255, code & 255)

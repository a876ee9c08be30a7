"""What the masks of a data set store, taken together, and the classes that follow from it.

Each mask is summarised when it is decoded. The decision looks at all summaries, so it is the same for every file. It is
logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fullconv.data.discovery.mask_colors import decide_colors
from fullconv.data.discovery.mask_summary import (
    MOST_VALUES,
    SMALL_SHARE,
    ClassReading,
    MaskSummary,
    Question,
    add_counts,
    ask_for_labels,
)
from fullconv.labels import IGNORE_INDEX

__all__ = ["decide_classes"]


def decide_classes(
    masks: Sequence[MaskSummary],
    names: Sequence[str] | None = None,
    table: Mapping[int, int] | None = None,
) -> ClassReading | Question:
    """Decide which class each stored code is.

    `names` are class names in the order of their ids, where a file gives them. `table` maps colours, 0xRRGGBB, to class
    ids (of `names`), where a file gives it.
    """
    kinds = {mask.kind for mask in masks}
    if kinds == {"colours"} and not table and _all_grey(masks):
        decision = _decide_numbers([_as_grey_numbers(mask) for mask in masks], names)
        if isinstance(decision, Question):
            return decision
        ids = {value * 0x010101: index for value, index in decision.ids.items()}
        return replace(decision, kind="colours", ids=ids)
    by_palette = kinds == {"numbers"} and _palettes_differ(masks)
    if by_palette and _grey_palettes(masks):
        masks, by_palette = [_as_grey(mask) for mask in masks], False
        note = ("palettes differ from mask to mask and are grey: the grey levels are the class ids",)
        decision = _decide_numbers(masks, names)
        if isinstance(decision, Question):
            return decision
        return replace(decision, by_palette=True, notes=note + decision.notes)
    if by_palette or kinds == {"colours"} or (table and kinds == {"numbers"} and _shown_in(masks, table)):
        coloured = [_as_colours(mask) for mask in masks]
        return decide_colors(coloured, names, table, by_palette=kinds == {"numbers"}, differ=by_palette)
    if len(kinds) > 1:
        return Question(
            "no-colour-table",
            "some masks hold numbers and others colours",
            "save all masks in one way",
        )
    return _decide_numbers(masks, names)


def _decide_numbers(masks: Sequence[MaskSummary], names: Sequence[str] | None) -> ClassReading | Question:
    """Decide the classes of masks that store numbers."""
    counts = add_counts(masks)
    notes: list[str] = []
    ignored, question = _ignored_numbers(masks, counts, names, notes)
    if question is not None:
        return question
    values = sorted(set(counts) - ignored)
    if not values:
        return ask_for_labels()
    ids = _ids_of_values(values, names, counts)
    if isinstance(ids, Question):
        return ids
    mapping, class_names, note = ids
    notes += [note] if note else []
    mapping |= dict.fromkeys(ignored, IGNORE_INDEX)
    return ClassReading("numbers", mapping, class_names, notes=tuple(notes))


def _ignored_numbers(
    masks: Sequence[MaskSummary],
    counts: Mapping[int, int],
    names: Sequence[str] | None,
    notes: list[str],
) -> tuple[set[int], Question | None]:
    """Return the numbers that are ignored: 255 after class ids, and declared nodata that is not the background."""
    ignored: set[int] = set()
    declared = {mask.nodata for mask in masks if mask.nodata is not None and mask.nodata in counts}
    for value in sorted(declared):
        share = counts[value] / sum(counts.values())
        background, why = _nodata_is_background(value, share, counts, names)
        if background:
            notes.append(
                f"{value}, which the masks declare as nodata, is the background ({share:.1%} of the pixels): {why}"
            )
        else:
            ignored.add(value)
            notes.append(f"{value}, which the masks declare as nodata, is ignored ({share:.1%} of the pixels): {why}")
    rest = sorted(set(counts) - ignored - {IGNORE_INDEX})
    if IGNORE_INDEX in counts and IGNORE_INDEX not in declared:
        question = _mixed_levels(masks)
        if question is not None:
            return ignored, question
        if (_are_ids(rest, names) and len(rest) > 1) or (names is not None and len(rest) == len(names) > 1):
            ignored.add(IGNORE_INDEX)
    return ignored, None


def _nodata_is_background(
    value: int, share: float, counts: Mapping[int, int], names: Sequence[str] | None
) -> tuple[bool, str]:
    others = sorted(set(counts) - {value, IGNORE_INDEX})
    if value != 0:
        return False, "only 0 is taken for a background"
    if names is not None and len(names) == len(others) and others == list(range(1, len(names) + 1)):
        return False, "the named classes are the other numbers"
    if names is not None and len(names) > max(others, default=0):
        return True, f"class 0 is named {names[0]!r}"
    if share <= SMALL_SHARE and len(others) > 1:
        return False, "its share is small; a background as the first name in classes.txt changes that"
    return True, "QGIS declares its background in this way; naming only the other values in classes.txt changes that"


def _mixed_levels(masks: Sequence[MaskSummary]) -> Question | None:
    """Some masks of 0 and 255 among masks of 0 and 1: 255 may be class 1, or ignored."""
    held = [set(mask.counts) for mask in masks]
    if set().union(*held) != {0, 1, IGNORE_INDEX}:
        return None
    ones = sum(1 in values for values in held)
    full = sum(IGNORE_INDEX in values and 1 not in values for values in held)
    both = sum({1, IGNORE_INDEX} <= values for values in held)
    if ones and full and not both:
        return Question(
            "mask-0-255",
            f"{full} masks hold 0 and 255 where {ones} hold 0 and 1, so 255 may be class 1 or ignored",
            "write all masks in one way",
        )
    return None


def _are_ids(values: Sequence[int], names: Sequence[str] | None) -> bool:
    """Return whether numbers are class ids, and not grey levels: those of the named classes, or small ones."""
    if not values or values[0] < 0:
        return False
    if names is not None:
        return values[-1] < len(names)
    return values[-1] < 2 * len(values)


def _ids_of_values(
    values: Sequence[int], names: Sequence[str] | None, counts: Mapping[int, int]
) -> tuple[dict[int, int], tuple[str, ...], str] | Question:
    """Map numbers to class ids, with the classes' names and a note."""
    in_order = {value: index for index, value in enumerate(values)}
    listed = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    if names is not None:
        return _ids_with_names(values, names, in_order, listed)
    if len(values) == 1:
        if IGNORE_INDEX in counts:  # a few painted pixels of one class
            return Question("only-background", f"all labelled pixels are {values[0]}", "label a second class")
        return Question("only-background", f"all pixels are {values[0]}", "label the objects")
    if _are_ids(values, None) and len(values) <= MOST_VALUES:
        return {value: value for value in values}, tuple(f"class_{index}" for index in range(values[-1] + 1)), ""
    if len(values) == 2:
        note = f"the masks hold {listed}: {values[0]} is the background and {values[1]} is the one class"
        return in_order, ("background", "foreground"), note
    if len(values) > MOST_VALUES:
        return Question(
            "grey-levels",
            f"the masks hold {len(values)} different values ({listed}), like grey levels and not class ids",
            "write class ids 0, 1, 2, ..., or name all classes",
        )
    table = ", ".join(f"{value} is class {index}" for value, index in in_order.items())
    return (
        in_order,
        tuple(f"class_{value}" for value in values),
        f"the values of the masks are mapped in order: {table}",
    )


def _ids_with_names(
    values: Sequence[int], names: Sequence[str], in_order: dict[int, int], listed: str
) -> tuple[dict[int, int], tuple[str, ...], str] | Question:
    count = len(names)
    if values[0] >= 0 and values[-1] < count:
        return {value: value for value in values}, tuple(names), ""
    if len(values) == count:
        table = ", ".join(f"{value} is {names[index]}" for value, index in in_order.items())
        return in_order, tuple(names), f"the values of the masks are mapped to the classes in order: {table}"
    has_background = any(name.casefold() in ("background", "_background_") for name in names)
    if len(values) == count + 1 and values[0] == 0 and not has_background:
        note = "0 has no name and becomes the class background"
        return in_order, ("background", *names), note
    return Question(
        "unknown-label",
        f"the masks hold {len(values)} values ({listed}), but {count} classes are named ({', '.join(names[:6])})",
        "name every class in the order of its value, or correct the masks",
    )


def _palettes_differ(masks: Sequence[MaskSummary]) -> bool:
    """Return whether one index has two colours in two palette images."""
    seen: dict[int, int] = {}
    for mask in masks:
        for index, color in (mask.palette or {}).items():
            if index in mask.counts and seen.setdefault(index, color) != color:
                return True
    return False


def _grey_palettes(masks: Sequence[MaskSummary]) -> bool:
    used = [color for mask in masks for index, color in (mask.palette or {}).items() if index in mask.counts]
    return all(color >> 16 == color >> 8 & 255 == color & 255 for color in used)


def _all_grey(masks: Sequence[MaskSummary]) -> bool:
    """Return whether every colour is grey, as in class ids that were saved as RGB."""
    return all(code >= 0 and code >> 16 == code >> 8 & 255 == code & 255 for mask in masks for code in mask.counts)


def _as_grey_numbers(mask: MaskSummary) -> MaskSummary:
    return MaskSummary("numbers", {code & 255: count for code, count in mask.counts.items()}, None, mask.nodata)


def _as_grey(mask: MaskSummary) -> MaskSummary:
    return mask if mask.palette is None else _as_grey_numbers(_as_colours(mask))


def _as_colours(mask: MaskSummary) -> MaskSummary:
    if mask.kind == "colours" or mask.palette is None:
        return mask
    counts: Counter[int] = Counter()
    for index, count in mask.counts.items():
        counts[mask.palette.get(index, 0)] += count
    return MaskSummary("colours", counts, nodata=mask.nodata)


def _shown_in(masks: Sequence[MaskSummary], table: Mapping[int, int]) -> bool:
    """Return whether all masks are palette images that show only colours of the table."""
    if any(mask.palette is None for mask in masks):
        return False
    shown = {mask.palette[index] for mask in masks if mask.palette for index in mask.counts if index in mask.palette}
    return shown <= table.keys() | {0xFFFFFF}

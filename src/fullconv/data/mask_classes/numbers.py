"""The classes of masks that store numbers: ids, two values, or a handful of values in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fullconv.data.mask_classes.nearest import (
    UNCLEAR_SHARE,
    are_apart,
    find_centers,
    find_nearest,
    is_smeared,
    measure_moved,
)
from fullconv.data.mask_classes.nodata import is_ignored
from fullconv.data.mask_classes.remedies import number_entries, suggest_values
from fullconv.data.mask_classes.summary import (
    BACKGROUND_NAMES,
    MOST_VALUES,
    ClassReading,
    MaskSummary,
    Odd,
    Question,
    add_counts,
    are_ids,
    ask_for_labels,
)
from fullconv.data.reading import MaskNodata
from fullconv.labels import IGNORE_INDEX

__all__ = ["WARNED_SHARE", "decide_numbers", "moved_note", "unclear_question"]

FEWEST_LEVELS = 64
"""Smoothed masks hold grey levels from here on; smaller numbers are the ids of thin objects."""

WARNED_SHARE = 0.01
"""A larger share of pixels that are set to the nearest class is a warning."""


def decide_numbers(
    masks: Sequence[MaskSummary], names: Sequence[str] | None, nodata: MaskNodata | None
) -> ClassReading | Question:
    """Decide the classes of masks that store numbers."""
    smeared = [index for index, mask in enumerate(masks) if mask.lossy or _is_smeared(mask, names)]
    if not smeared:
        return _decide_exact(masks, names, nodata)
    sharp = sorted(add_counts(mask for index, mask in enumerate(masks) if index not in set(smeared)))
    centers = find_centers("numbers", masks)
    if centers is None or not set(sharp) <= set(centers):
        centers = sharp if sharp and are_apart("numbers", sharp) else None
    if centers is None and not sharp:
        return unclear_question(masks)
    odd = {
        index: _unclear_mask(masks[index])
        for index in smeared
        if centers is None or measure_moved("numbers", masks[index].counts, centers)[1] > UNCLEAR_SHARE
    }
    used = [index for index in range(len(masks)) if index not in odd]
    decision = _decide_exact([_snap(masks[index], centers or sharp) for index in used], names, nodata)
    if isinstance(decision, Question):
        return decision
    odd |= {used[index]: question for index, question in decision.odd.items()}
    moved = measure_moved("numbers", add_counts(masks[index] for index in used), centers or sharp)[0]
    notes, warnings = moved_note(moved)
    warnings = decision.warnings + warnings
    return replace(decision, nearest=centers is not None, notes=decision.notes + notes, warnings=warnings, odd=odd)


def _is_smeared(mask: MaskSummary, names: Sequence[str] | None) -> bool:
    """Return whether a mask has smoothed edges; class ids, with 255 or nodata next to them, have none."""
    ids = mask.counts.keys() - {IGNORE_INDEX, mask.nodata}
    if max(ids, default=0) < max(FEWEST_LEVELS, len(names or ())):
        return False
    return is_smeared("numbers", [mask])


def moved_note(share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what to say of pixels that are set to the nearest class, as notes and as warnings."""
    if not share:
        return (), ()
    note = f"{share:.2%} of the pixels of the masks have no value of a class and get the nearest class"
    return ((), (note,)) if share > WARNED_SHARE else ((note,), ())


def unclear_question(masks: Sequence[MaskSummary]) -> Question:
    """Return the question where the values of smeared masks are not well separated."""
    if any(mask.lossy for mask in masks):
        problem = "masks are in JPEG, whose compression changes labels, and their values are not well separated"
        return Question("jpeg-mask", problem, "export the masks as PNG")
    count = len(add_counts(masks))
    problem = f"the masks hold {count} different values, like grey levels and smoothed colours, not classes"
    ends = add_counts(masks)
    entries: dict[int | str, str] = {min(ends): "background", max(ends): "foreground"}
    return Question("grey-levels", problem, suggest_values(entries, "export the masks without smoothing", nearest=True))


def _unclear_mask(mask: MaskSummary) -> Question:
    if mask.lossy:
        problem = "is a mask in JPEG, whose compression changes labels"
        return Question("jpeg-mask", problem, "export the mask as PNG")
    problem = f"has smoothed edges: it holds {len(mask.counts)} grey levels"
    return Question("antialiased", problem, "export it without antialiasing, and resize masks with nearest neighbour")


def _snap(mask: MaskSummary, centers: Sequence[int]) -> MaskSummary:
    nearest, _ = find_nearest("numbers", mask.counts, centers)
    counts: dict[int, int] = {}
    for index, count in zip(nearest, mask.counts.values(), strict=True):
        counts[centers[index]] = counts.get(centers[index], 0) + count
    return replace(mask, counts=counts)


@dataclass(frozen=True)
class _Nodata:
    """Values that are declared as nodata: ignored, or the background, with notes."""

    ignored: frozenset[int]
    background: frozenset[int]
    notes: tuple[str, ...]


def _decide_exact(
    masks: Sequence[MaskSummary], names: Sequence[str] | None, nodata: MaskNodata | None
) -> ClassReading | Question:
    """Decide the classes of masks that are not smeared."""
    counts = add_counts(masks)
    declared = _decide_nodata(masks, counts, names, nodata)
    held = sorted(set(counts) - declared.ignored)
    stated = IGNORE_INDEX in declared.ignored | declared.background
    odd = {} if stated else _mixed_levels(masks, names)
    values, ignores = held, False
    if IGNORE_INDEX in held and IGNORE_INDEX not in declared.background:
        rest = [value for value in held if value != IGNORE_INDEX]
        ignores = _are_labels_beside_ignored(masks, rest, names)
        values = rest if ignores else held
    if not values:
        return ask_for_labels()
    if 0 not in values and declared.background - {0} and nodata == "background":
        values = sorted(set(values) - declared.background)
        found = _map_values(masks, [0, *values], names, counts)
    else:
        found = _map_values(masks, values, names, counts)
    if names is not None:
        strange = _odd_masks(masks, names, declared.ignored)
        if strange is not None:
            odd = strange | odd
            found = {value: value for value in range(len(names))}, tuple(names), ""
            ignores = True
    if isinstance(found, Question):
        return found
    mapping, class_names, note = found
    mapping = mapping | dict.fromkeys(declared.ignored, IGNORE_INDEX)
    if nodata == "background":
        mapping |= dict.fromkeys(declared.background, 0)
    if ignores:
        mapping[IGNORE_INDEX] = IGNORE_INDEX
    if names is not None and len(class_names) > 1 and all(mapping.get(value) in (0, IGNORE_INDEX) for value in counts):
        return Question("only-background", "no mask contains a class above 0", "label the objects")
    notes = declared.notes + ((note,) if note else ())
    return ClassReading(class_names, mapping, notes=notes, odd=odd, states_ignored=stated)


def _are_labels_beside_ignored(masks: Sequence[MaskSummary], rest: Sequence[int], names: Sequence[str] | None) -> bool:
    """Return whether 255 is the ignored label: class ids stand next to it."""
    if names is None:
        return are_ids(rest, None) and len(rest) > 1
    return (are_ids(rest, names) and len(rest) > 1) or len(rest) == len(names) > 1


def _odd_masks(masks: Sequence[MaskSummary], names: Sequence[str], ignored: frozenset[int]) -> Odd | None:
    """Return the masks with other values than the class ids of the others; None unless most masks hold class ids."""
    legal = {*range(len(names)), IGNORE_INDEX, *ignored}
    strange = [index for index, mask in enumerate(masks) if not mask.counts.keys() <= legal]
    rest = [mask for index, mask in enumerate(masks) if index not in set(strange)]
    labelled = any(0 < value != IGNORE_INDEX for mask in rest for value in mask.counts.keys() - ignored)
    if not strange or not labelled or 2 * len(strange) > len(masks):
        return None
    return {index: _unknown_labels(masks, index, legal, names) for index in strange}


def _unknown_labels(masks: Sequence[MaskSummary], index: int, legal: set[int], names: Sequence[str]) -> Question:
    wrong, count = sorted(masks[index].counts.keys() - legal), len(names)
    shown = ", ".join(map(str, wrong[:8])) + (f" and {len(wrong) - 8} more" if len(wrong) > 8 else "")
    problem = f"contains the labels {shown}, but the {count} classes are 0 to {count - 1}"
    entries = number_entries(names, (*range(count), *add_counts(masks)))
    return Question("unknown-label", problem, suggest_values(entries, "correct the mask"))


def _decide_nodata(
    masks: Sequence[MaskSummary], counts: Mapping[int, int], names: Sequence[str] | None, chosen: MaskNodata | None
) -> _Nodata:
    ignored, background, notes = set[int](), set[int](), list[str]()
    declared = {mask.nodata for mask in masks if mask.nodata is not None and mask.nodata in counts}
    for value in sorted(declared):
        others = sorted(set(counts) - declared - {IGNORE_INDEX})
        share = counts[value] / sum(counts.values())
        ignore, why = is_ignored(share, value != 0 and 0 in others, others, chosen)
        (ignored if ignore else background).add(value)
        what = "ignored" if ignore else "the background"
        notes.append(f"{value}, which the masks declare as nodata, is {what} ({share:.1%} of the pixels): {why}")
    return _Nodata(frozenset(ignored), frozenset(background), tuple(notes))


def _mixed_levels(masks: Sequence[MaskSummary], names: Sequence[str] | None) -> Odd:
    """Some masks of 0 and 255 among masks of 0 and 1: 255 may be class 1, or ignored."""
    held = [set(mask.counts) for mask in masks]
    if set().union(*held) != {0, 1, IGNORE_INDEX} or any({1, IGNORE_INDEX} <= values for values in held):
        return {}
    problem = "contains only 0 and 255, while other masks contain 0 and 1; 255 is ignored"
    first, second = names if names is not None and len(names) == 2 else ("background", "foreground")
    remedy = suggest_values({0: first, 1: second, IGNORE_INDEX: second}, "write 255 as 1")
    question = Question("mask-0-255", problem, remedy)
    return {index: question for index, values in enumerate(held) if IGNORE_INDEX in values}


def _are_solid(masks: Sequence[MaskSummary], values: Sequence[int]) -> bool:
    """Return whether most of many values fill areas, as class ids do and the grey levels of photos do not."""
    solid = frozenset().union(*(mask.solid for mask in masks))
    return MOST_VALUES < len(values) <= IGNORE_INDEX and 2 * len(solid.intersection(values)) > len(values)


def _map_values(
    masks: Sequence[MaskSummary], values: Sequence[int], names: Sequence[str] | None, counts: Mapping[int, int]
) -> tuple[dict[int, int], tuple[str, ...], str] | Question:
    """Map numbers to class ids, with the classes' names and a note."""
    in_order = {value: index for index, value in enumerate(values)}
    listed = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    if names is not None:
        return _map_to_names(values, names, in_order, listed)
    if len(values) == 1:
        if IGNORE_INDEX in counts:  # a few painted pixels of one class
            return Question("only-background", f"all labelled pixels are {values[0]}", "label a second class")
        return Question("only-background", f"all pixels are {values[0]}", "label the objects")
    if are_ids(values, None) and (
        2 < len(values) <= MOST_VALUES or list(values) == [0, 1] or _are_solid(masks, values)
    ):
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
    note = f"the values of the masks are mapped in order: {table}"
    return in_order, tuple(f"class_{value}" for value in values), note


def _map_to_names(
    values: Sequence[int], names: Sequence[str], in_order: dict[int, int], listed: str
) -> tuple[dict[int, int], tuple[str, ...], str] | Question:
    count = len(names)
    if values[0] >= 0 and values[-1] < count and (count > 1 or len(values) == 1):
        return {value: value for value in range(count)}, tuple(names), ""
    if len(values) == count > 1:
        table = ", ".join(f"{value} is {names[index]}" for value, index in in_order.items())
        return in_order, tuple(names), f"the values of the masks are mapped to the classes in order: {table}"
    has_background = any(name.casefold() in BACKGROUND_NAMES for name in names)
    if len(values) == count + 1 and (values[0] == 0 or count == 1) and not has_background:
        note = f"{values[0]} has no name and becomes the class background"
        return in_order, ("background", *names), note
    return Question(
        "unknown-label",
        f"the masks hold {len(values)} values ({listed}), but {count} classes are named ({', '.join(names[:6])})",
        suggest_values(number_entries(names, values), "correct the masks"),
    )

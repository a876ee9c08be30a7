"""What the masks of a data set store, taken together, and the classes that follow from it.

Each mask is summarised when it is decoded. The decision looks at all summaries, so it is the same for every file. It is
logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fullconv.data.mask_classes.colors import decide_colors
from fullconv.data.mask_classes.numbers import decide_numbers
from fullconv.data.mask_classes.palettes import as_viewed, decide_palettes
from fullconv.data.mask_classes.remedies import mixed_entries, suggest_values
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary, Odd, Question, add_counts, is_grey
from fullconv.data.reading import MaskNodata

__all__ = ["decide_classes"]


def decide_classes(
    masks: Sequence[MaskSummary],
    names: Sequence[str] | None = None,
    table: Mapping[int, int] | None = None,
    nodata: MaskNodata | None = None,
) -> ClassReading | Question:
    """Decide which class each stored code is.

    `names` are class names in the order of their ids, where a file gives them. `table` maps colours, 0xRRGGBB, to class
    ids (of `names`), where a file gives it. `nodata` is what the user says of nodata and transparent pixels.
    """
    rule = decide_palettes(masks, names, table)
    if isinstance(rule, Question):
        return rule
    palettes, note = rule
    frame = ClassReading((), colours=table or {}, palettes=palettes)
    viewed = [as_viewed(mask, frame) for mask in masks]
    in_colors = [mask for mask in viewed if mask.kind == "colours"]
    frame = replace(frame, grey=bool(in_colors) and _grey_are_numbers(viewed, table))
    viewed = [as_viewed(mask, frame) for mask in viewed]
    numbers, colors = ([i for i, mask in enumerate(viewed) if mask.kind == kind] for kind in ("numbers", "colours"))
    odd: Odd = {}
    if numbers and colors and not table:
        fewer = colors if len(colors) < len(numbers) else numbers
        held = [sorted(add_counts(viewed[index] for index in kind)) for kind in (numbers, colors)]
        remedy = suggest_values(mixed_entries(names, *held), "save all masks in one way")
        if 2 * len(fewer) > len(viewed) - 1:
            problem = f"{len(numbers)} masks hold numbers and {len(colors)} hold colours"
            return Question("no-colour-table", problem, remedy)
        what = (
            "colours, and no file says which class each is" if fewer is colors else "numbers, while others hold colours"
        )
        odd = dict.fromkeys(fewer, Question("no-colour-table", f"holds {what}", remedy))
        numbers, colors = (numbers, []) if fewer is colors else ([], colors)
    reading = ClassReading((), odd=odd)
    if numbers or not colors:
        decision = decide_numbers([viewed[index] for index in numbers], names, nodata)
        if isinstance(decision, Question):
            return decision
        reading = _joined(reading, decision, numbers)
    if colors:
        decision = decide_colors([viewed[index] for index in colors], names, table, nodata)
        if isinstance(decision, Question):
            return decision
        reading = _joined(reading, decision, colors)
    notes = ((note,) if note else ()) + reading.notes
    return replace(reading, palettes=palettes, grey=frame.grey, notes=notes)


def _grey_are_numbers(masks: Sequence[MaskSummary], table: Mapping[int, int] | None) -> bool:
    """Return whether grey colours are class ids that were saved as RGB."""
    if table:
        return False
    return all(is_grey(code) for mask in masks if mask.kind == "colours" for code in mask.counts)


def _joined(reading: ClassReading, decision: ClassReading, indices: Sequence[int]) -> ClassReading:
    """Return both readings as one; `indices` are the masks of the second one."""
    return ClassReading(
        decision.names,
        {**reading.numbers, **decision.numbers},
        {**reading.colours, **decision.colours},
        decision.colors,
        nearest=reading.nearest or decision.nearest,
        notes=reading.notes + decision.notes,
        warnings=reading.warnings + decision.warnings,
        odd={**reading.odd, **{indices[index]: question for index, question in decision.odd.items()}},
        states_ignored=reading.states_ignored or decision.states_ignored,
    )

"""Whether palette images are read by their indices or by their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from fullconv.data.classes import describe_line
from fullconv.data.mask_classes.remedies import color_entries
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary, Question, are_ids, hex_of, is_grey
from fullconv.labels import IGNORE_INDEX

__all__ = ["PaletteRule", "as_viewed", "decide_palettes"]

PaletteRule = Literal["index", "colour", "known"]

BY_COLOR = "palettes differ from mask to mask: the colours say the class, not the indices"


def decide_palettes(
    masks: Sequence[MaskSummary], names: Sequence[str] | None, table: Mapping[int, int] | None
) -> tuple[PaletteRule, str] | Question:
    """Return how palette images are read, and a note.

    With a table, images that show only its colours are read by them. Otherwise indices count if each has one colour in
    all masks. If one colour has several indices, colours are the truth, as adaptive palettes have them (Pillow,
    ImageMagick, GIMP).
    """
    indexed = [mask for mask in masks if mask.palette is not None]
    if not indexed:
        return "index", ""
    if table:
        moved = any(_is_moved(mask, table) for mask in indexed)
        return "known", BY_COLOR if moved and _differ(indexed)[0] else ""
    if all(is_grey(color) for mask in indexed for color in _used(mask).values()):
        return _decide_grey(masks, indexed, names)
    by_index, by_color = _differ(indexed)
    if by_color:
        return "colour", BY_COLOR
    if not by_index:
        return "index", ""
    indices = sorted({index for mask in indexed for index in mask.counts} - {IGNORE_INDEX})
    colors = {color for mask in indexed for index, color in _used(mask).items() if index != IGNORE_INDEX}
    if names is not None and are_ids(indices, names) and len(colors) > len(names):
        return "index", "palettes differ from mask to mask, and have more colours than classes: the indices count"
    index, shown = next(iter(by_index.items()))
    problem = f"palettes differ: index {index} is {' or '.join(sorted(map(hex_of, shown)))}"
    by_number = {value: names[value] if names and value < len(names) else f"class_{value}" for value in indices}
    in_colors = color_entries(list(by_number.values()), sorted(colors))
    remedy = (
        f"write {describe_line('values', by_number)}, if the numbers count, or {describe_line('values', in_colors)}, "
        "if the colours count, into dataset.yaml, with the right class for each"
    )
    return Question("no-colour-table", problem, remedy)


def as_viewed(mask: MaskSummary, reading: ClassReading) -> MaskSummary:
    """Return a mask with the codes that a reading looks up: of colours where it is read by its palette."""
    views = reading.views(mask.kind, mask.counts, mask.palette)
    kinds = {kind for kind, _ in views}
    if kinds == {mask.kind} and all(code == view for code, (_, view) in zip(mask.counts, views, strict=True)):
        return mask
    if len(kinds) > 1:  # some colours are grey and some are not
        return mask
    counts: dict[int, int] = {}
    for (_, view), count in zip(views, mask.counts.values(), strict=True):
        counts[view] = counts.get(view, 0) + count
    of_code = dict(zip(mask.counts, (view for _, view in views), strict=True))
    solid = frozenset(of_code[code] for code in mask.solid if code in of_code)
    return replace(mask, kind=kinds.pop() if kinds else mask.kind, counts=counts, palette=None, solid=solid)


def _used(mask: MaskSummary) -> dict[int, int]:
    return {index: (mask.palette or {}).get(index, 0) for index in mask.counts}


def _is_moved(mask: MaskSummary, table: Mapping[int, int]) -> bool:
    used = _used(mask)
    return all(color in table for color in used.values()) and any(table[c] != index for index, c in used.items())


def _differ(indexed: Sequence[MaskSummary]) -> tuple[dict[int, set[int]], bool]:
    """Return the indices that have several colours, and whether a colour has several indices, one in each mask."""
    colors: dict[int, set[int]] = {}
    indices: dict[int, set[int]] = {}
    clear = True
    for mask in indexed:
        used = _used(mask)
        clear &= len(set(used.values())) == len(used)
        for index, color in used.items():
            colors.setdefault(index, set()).add(color)
            indices.setdefault(color, set()).add(index)
    several = {index: shown for index, shown in colors.items() if len(shown) > 1}
    return several, clear and any(len(places) > 1 for places in indices.values())


def _decide_grey(
    masks: Sequence[MaskSummary], indexed: Sequence[MaskSummary], names: Sequence[str] | None
) -> tuple[PaletteRule, str]:
    """Decide for grey palettes, whose levels may be the class ids: writers of GIF drop levels that are not used."""
    plain = {code for mask in masks if mask.kind == "numbers" and mask.palette is None for code in mask.counts}
    pairs = {(index, color & 255) for mask in indexed for index, color in _used(mask).items()}
    if all(index == level for index, level in pairs):
        return "index", ""
    levels = plain | {level for _, level in pairs}
    indices = plain | {index for index, _ in pairs}
    both = pairs | {(code, code) for code in plain}
    differ = len({index for index, _ in both}) < len(both) or len({level for _, level in both}) < len(both)
    if (differ and (_make_sense(levels, names) or not _make_sense(indices, names))) or _are_small_ids(levels, names):
        return "colour", "palettes are grey and differ from mask to mask: the grey levels count, not the indices"
    return "index", ""


def _are_small_ids(values: set[int], names: Sequence[str] | None) -> bool:
    rest = sorted(values - {IGNORE_INDEX})
    return len(rest) > 1 and are_ids(rest, names)


def _make_sense(values: set[int], names: Sequence[str] | None) -> bool:
    return _are_small_ids(values, names) or len(values) <= 2

"""The classes of masks that store colours: by a table of colours, or each colour a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fullconv.data.mask_classes.nearest import (
    FEWEST_BETWEEN,
    UNCLEAR_SHARE,
    find_centers,
    find_nearest,
    is_smeared,
    measure_moved,
    within_levels,
)
from fullconv.data.mask_classes.nodata import is_ignored
from fullconv.data.mask_classes.numbers import moved_note, unclear_question
from fullconv.data.mask_classes.remedies import color_entries, suggest_values
from fullconv.data.mask_classes.summary import (
    BACKGROUND_NAMES,
    MOST_VALUES,
    TRANSPARENT,
    WHITE,
    ClassReading,
    MaskSummary,
    Odd,
    Question,
    add_counts,
    ask_for_labels,
    compute_shares,
    hex_of,
    rgb_of,
)
from fullconv.data.reading import MaskNodata
from fullconv.labels import IGNORE_INDEX, Color

__all__ = ["decide_colors"]


def decide_colors(
    masks: Sequence[MaskSummary],
    names: Sequence[str] | None,
    table: Mapping[int, int] | None,
    nodata: MaskNodata | None,
) -> ClassReading | Question:
    """Decide the classes of masks that store colours."""
    if table:
        return _with_table(masks, names or (), table, nodata)
    masks = [_join_transparent(mask) for mask in masks]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    smeared = any(mask.lossy for mask in masks) or is_smeared("colours", masks)
    if smeared or len(add_counts(masks)) > MOST_VALUES:
        centers = find_centers("colours", masks)
        if centers is None:
            count = len(add_counts(masks))
            if any(mask.lossy for mask in masks):
                return unclear_question(masks)
            problem = f"the masks hold {count} different colours, more than classes can have without a table"
            common = [code for code, _ in add_counts(masks).most_common(2)]
            entries = color_entries(names or ("background", "foreground"), sorted(common))
            return Question("no-colour-table", problem, suggest_values(entries, "export the masks again", nearest=True))
        notes, warnings = moved_note(measure_moved("colours", add_counts(masks), centers)[0])
        masks, smeared = [_snap(mask, centers) for mask in masks], True
    decision = _each_a_class(masks, names, nodata)
    if isinstance(decision, Question):
        return decision
    return replace(decision, nearest=smeared, notes=decision.notes + notes, warnings=warnings)


def _each_a_class(
    masks: Sequence[MaskSummary], names: Sequence[str] | None, nodata: MaskNodata | None
) -> ClassReading | Question:
    counts, notes = add_counts(masks), []
    ids: dict[int, int] = {}
    shares = compute_shares(counts)
    codes = sorted(counts, key=lambda code: (code >= 0, code != 0, -counts[code], code))
    if TRANSPARENT in counts:
        others = [code for code in codes if code != TRANSPARENT]
        ignore, why = is_ignored(shares[TRANSPARENT], 0 in counts, others, nodata)
        notes.append(_transparent_note(shares[TRANSPARENT], "ignored" if ignore else "the background", why))
        if ignore:
            ids[TRANSPARENT], codes = IGNORE_INDEX, others
        elif 0 in counts:  # black is the background, too, and comes first
            ids[TRANSPARENT], codes = 0, others
    if len(codes) < 2:
        what = f"all pixels are {hex_of(codes[0])}" if codes else ""
        return Question("only-background", what, "label the objects") if codes else ask_for_labels()
    class_names = _name_colors(codes, names)
    if class_names is None:
        shown = ", ".join(map(hex_of, codes[:8]))
        problem = f"the masks hold {len(codes)} colours ({shown}), and no file says which class each is"
        return Question(
            "no-colour-table", problem, suggest_values(color_entries(names or (), codes), "correct classes.txt")
        )
    if len(codes) == 2:
        what = f"{hex_of(codes[0])} is the background and {hex_of(codes[1])} is the one class"
        notes.append(f"the masks hold two colours: {what}")
    else:
        listed = ", ".join(f"{hex_of(code)} ({shares[code]:.1%})" for code in codes)
        notes.append(f"each colour of the masks is a class: {listed}")
    ids |= {code: index for index, code in enumerate(codes)}
    colors = tuple(rgb_of(code) for code in codes)
    return ClassReading(class_names, colours=ids, colors=colors, notes=tuple(notes))


def _name_colors(codes: Sequence[int], names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of colours; None where names are given and their order is not certain."""
    first_is_background = codes[0] in (0, TRANSPARENT)
    if names is None:
        if len(codes) == 2:
            return "background", "foreground"
        return tuple("background" if code == TRANSPARENT else hex_of(code) for code in codes)
    if len(codes) == 2 and len(names) == 1:
        return "background", names[0]
    if len(codes) == len(names) == 2 and first_is_background and names[0].casefold() in BACKGROUND_NAMES:
        return tuple(names)
    return None


def _with_table(
    masks: Sequence[MaskSummary], names: Sequence[str], table: Mapping[int, int], nodata: MaskNodata | None
) -> ClassReading:
    counts = add_counts(masks)
    shares, notes = compute_shares(counts), []
    ids = {WHITE: IGNORE_INDEX, **table}
    hidden = [code for code in counts if code < 0]
    known = {code: table[-1 - code] for code in hidden if -1 - code in table}
    ids |= {-1 - code: class_id for code, class_id in table.items()}
    clear = [code for code in hidden if code not in known]
    if clear:
        share = sum(shares[code] for code in clear)
        shown = any(ids.get(code) == 0 for code in counts)
        others = [code for code in counts if code >= 0]
        ignore, why = is_ignored(share, shown, others, nodata)
        ids |= dict.fromkeys([TRANSPARENT, *clear], IGNORE_INDEX if ignore else 0)
        notes.append(_transparent_note(share, "ignored" if ignore else f"class {names[0]}", why))
    if WHITE not in table and not any(WHITE in mask.solid for mask in masks) and any(counts.keys() - ids.keys()):
        del ids[WHITE]  # a few white pixels among other strange ones are smeared, too
    centers = [code for code in ids if code >= 0]
    odd: Odd = {}
    moved = 0
    for index, mask in enumerate(masks):
        strange = {code: count for code, count in mask.counts.items() if code not in ids}
        question = _strange_colors(mask, strange, centers, names, table) if strange else None
        if question is not None:
            odd[index] = question
        else:
            moved += sum(strange.values())
    moved_notes, warnings = moved_note(moved / max(1, sum(counts.values())))
    colors: list[Color] = [(0, 0, 0)] * len(names)
    for code, class_id in table.items():
        if class_id < len(names):
            colors[class_id] = rgb_of(code)
    return ClassReading(
        tuple(names),
        colours=ids,
        colors=tuple(colors),
        nearest=moved > 0,
        notes=(*notes, *moved_notes),
        warnings=warnings,
        odd=odd,
    )


def _strange_colors(
    mask: MaskSummary,
    strange: Mapping[int, int],
    centers: Sequence[int],
    names: Sequence[str],
    table: Mapping[int, int],
) -> Question | None:
    """Return why colours of no class cannot get the nearest class; None if they can.

    They can if they are off by a few levels, or are many rare ones as compression and smoothing make them.
    """
    far = {code: count for code, count in strange.items() if not within_levels("colours", code, centers)}
    ranked = sorted(far, key=far.__getitem__, reverse=True)
    listed = ", ".join(map(hex_of, ranked[:5]))
    remedy = suggest_values(color_entries(names, ranked, table), "correct the mask")
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    question = Question("unknown-colour", f"contains colours that belong to no class: {listed}{more}", remedy)
    if not far:
        return None
    if not mask.lossy and (len(far) < FEWEST_BETWEEN or any(code in mask.solid for code in far)):
        return question
    _, clear = find_nearest("colours", far, centers)
    unclear = sum(count for count, is_clear in zip(far.values(), clear, strict=True) if not is_clear)
    if unclear <= UNCLEAR_SHARE * sum(mask.counts.values()):
        return None
    if mask.lossy:
        problem = "is a mask in JPEG, whose compression changes labels"
        return Question("jpeg-mask", problem, "export the mask as PNG")
    return question


def _snap(mask: MaskSummary, centers: Sequence[int]) -> MaskSummary:
    nearest, _ = find_nearest("colours", mask.counts, centers)
    counts: dict[int, int] = {}
    for (code, count), index in zip(mask.counts.items(), nearest, strict=True):
        center = code if code < 0 else centers[index]
        counts[center] = counts.get(center, 0) + count
    return replace(mask, counts=counts)


def _join_transparent(mask: MaskSummary) -> MaskSummary:
    """Return a mask whose transparent pixels have one code: without a table, their colours mean nothing."""
    hidden = sum(count for code, count in mask.counts.items() if code < 0)
    if not hidden:
        return mask
    counts = {code: count for code, count in mask.counts.items() if code >= 0}
    return replace(mask, counts={TRANSPARENT: hidden, **counts})


def _transparent_note(share: float, what: str, why: str) -> str:
    return f"transparent pixels of the masks are {what} ({share:.1%} of the pixels): {why}"

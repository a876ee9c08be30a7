"""The classes of masks as `values` in dataset.yaml states them, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fullconv.data.classes import DESCRIPTION, IGNORED_VALUE, find_labels, read_values
from fullconv.data.mask_classes.summary import (
    TRANSPARENT,
    ClassReading,
    MaskSummary,
    Question,
    add_counts,
    code_of,
    hex_of,
    rgb_of,
)
from fullconv.labels import IGNORE_INDEX

__all__ = ["declare_classes", "read_declared"]


def read_declared(root: Path, masks: Sequence[MaskSummary]) -> ClassReading | None:
    """Return the reading of masks that `values` in dataset.yaml states; None if there is no such key.

    Masks with other values are odd. Raises DataError for a wrong entry.
    """
    values = read_values(root)
    if values is None:
        return None
    named = find_labels(root)
    stated = list(dict.fromkeys(name for name in values.entries.values() if name != IGNORED_VALUE))
    names = named[0].class_names if named is not None else tuple(stated)
    ids = {name: index for index, name in enumerate(names)} | {IGNORED_VALUE: IGNORE_INDEX}
    numbers = {key: ids[name] for key, name in values.entries.items() if isinstance(key, int)}
    colours = {_code(key): ids[name] for key, name in values.entries.items() if isinstance(key, str)}
    reading = ClassReading(
        names,
        numbers,
        colours,
        named[0].palette if named is not None and named[1] else _colors(colours, len(names)),
        palettes="index" if not colours else "known" if numbers else "colour",
        grey=not colours,
        nearest=values.nearest,
        states_ignored=numbers.get(IGNORE_INDEX) == IGNORE_INDEX,
    )
    odd = {} if values.nearest else {
        index: question for index, mask in enumerate(masks) if (question := _find_unknown(reading, mask)) is not None
    }  # fmt: skip
    reading.odd.update(odd)
    return reading


def declare_classes(reading: ClassReading, masks: Sequence[MaskSummary]) -> dict[str, Any]:
    """Return the keys of dataset.yaml that make `read_declared` return this reading for masks of these values."""
    numbers, colours = dict(reading.numbers), dict(reading.colours)
    if not reading.nearest:
        held: set[tuple[str, int]] = set()
        for mask in masks:
            held |= set(reading.views(mask.kind, mask.counts, mask.palette))
        kept = {TRANSPARENT} if any(view < 0 for _, view in held) else set()
        shown = {view for kind, view in held if kind == "colours"} | kept
        numbers = {value: label for value, label in numbers.items() if ("numbers", value) in held}
        colours = {code: label for code, label in colours.items() if code in shown}
    entries: dict[int | str, str] = {value: _name(reading, label) for value, label in sorted(numbers.items())}
    entries |= {
        hex_of(code): _name(reading, label) for code, label in sorted(colours.items(), key=lambda item: item[1])
    }
    declared: dict[str, Any] = {"names": list(reading.names)}
    if reading.colors is not None:
        declared["palette"] = [hex_of(code_of(color)) for color in reading.colors]
    return declared | {"values": entries} | ({"nearest": True} if reading.nearest else {})


def _name(reading: ClassReading, label: int) -> str:
    return IGNORED_VALUE if label == IGNORE_INDEX else reading.names[label]


def _code(key: str) -> int:
    return TRANSPARENT if key == hex_of(TRANSPARENT) else int(key[1:], 16)


def _colors(colours: Mapping[int, int], count: int) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colour of each class, the first that is stated; None if a class has none, or two have the same."""
    first: dict[int, int] = {}
    for code, label in colours.items():
        first.setdefault(label, code)
    if any(index not in first for index in range(count)):
        return None
    return tuple(rgb_of(first[index]) if first[index] >= 0 else (255, 255, 255) for index in range(count))


def _find_unknown(reading: ClassReading, mask: MaskSummary) -> Question | None:
    unknown = [code for code, label in reading.exact_classes(mask).items() if label is None and code != mask.nodata]
    if not unknown:
        return None
    share = sum(mask.counts[code] for code in unknown) / sum(add_counts([mask]).values())
    shown = ", ".join(hex_of(code) if mask.kind == "colours" else str(code) for code in sorted(unknown)[:8])
    problem = f"holds {shown} ({share:.1%} of the pixels), which `values` in {DESCRIPTION} does not name"
    return Question("unknown-label", problem, f"add it to {DESCRIPTION}, or correct the mask")

"""What masks store and what follows from it: summaries of masks, readings of classes, and questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fullconv.labels import Color

__all__ = [
    "MOST_VALUES",
    "SMALL_SHARE",
    "TRANSPARENT",
    "ClassReading",
    "Kind",
    "MaskSummary",
    "Question",
    "add_counts",
    "ask_for_labels",
    "compute_shares",
    "hex_of",
]

MOST_VALUES = 64
"""More distinct values than this are no classes but grey levels or smeared colours."""

SMALL_SHARE = 0.05
"""A value that is declared as nodata is ignored where it covers no more than this share of the pixels."""

TRANSPARENT = -1
"""The code of pixels that are fully transparent."""

Kind = Literal["numbers", "colours"]


@dataclass(frozen=True)
class MaskSummary:
    """One decoded mask: how many pixels have each code.

    Codes are the numbers stored, or 0xRRGGBB for colours; `TRANSPARENT` where alpha is 0. `palette` gives the colour of
    each index that a palette image uses, and None for others. `nodata` is the number that the file declares as such.
    """

    kind: Kind
    counts: Mapping[int, int]
    palette: Mapping[int, int] | None = None
    nodata: int | None = None


@dataclass(frozen=True)
class Question:
    """Why the classes cannot be inferred, and the command that settles it."""

    code: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ClassReading:
    """How stored codes become class ids: `ids` maps a code to its class or to 255.

    With `by_palette`, indices of palette images are replaced by their colours first. `names` and `colors` are those of
    the classes. `notes` are sentences for the reader, one for each inference.
    """

    kind: Kind
    ids: Mapping[int, int]
    names: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    by_palette: bool = False
    notes: tuple[str, ...] = ()

    def class_of(self, code: int, palette: Mapping[int, int] | None) -> int | None:
        """Return the class of a code that a mask with this palette stores; None where the code is of no class."""
        if self.by_palette and palette is not None:
            code = palette.get(code, 0)
            if self.kind == "numbers":
                code &= 255
        return self.ids.get(code)


def hex_of(code: int) -> str:
    """Return a colour as people write it, or the word for transparent pixels."""
    return "transparent" if code == TRANSPARENT else f"#{code:06x}"


def add_counts(masks: Sequence[MaskSummary]) -> Counter[int]:
    """Return the pixels of each code in all masks."""
    total: Counter[int] = Counter()
    for mask in masks:
        total.update(mask.counts)
    return total


def compute_shares(counts: Mapping[int, int]) -> dict[int, float]:
    """Return the share of the pixels of each code."""
    total = sum(counts.values())
    return {code: count / total for code, count in counts.items()}


def ask_for_labels() -> Question:
    """Return the question where no pixel of any mask has a class."""
    return Question("only-background", "no pixel of any mask has a class", "label some pixels")

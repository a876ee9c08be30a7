"""What masks store and what follows from it: summaries of masks, readings of classes, and questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fullconv.arrays import Int64
from fullconv.labels import IGNORE_INDEX, Color

__all__ = [
    "BACKGROUND_NAMES",
    "MOST_VALUES",
    "TRANSPARENT",
    "WHITE",
    "ClassReading",
    "Kind",
    "MaskSummary",
    "Odd",
    "Question",
    "add_counts",
    "are_ids",
    "ask_for_labels",
    "code_of",
    "compute_shares",
    "hex_of",
    "is_grey",
    "rgb_of",
]

MOST_VALUES = 64
"""More distinct values than this are no classes but grey levels or smeared colours."""

BACKGROUND_NAMES = ("background", "_background_")
"""Names of the background in lower case."""

WHITE = 0xFFFFFF

TRANSPARENT = -1
"""The code of transparent pixels whose colour means nothing."""

Kind = Literal["numbers", "colours"]


@dataclass(frozen=True)
class MaskSummary:
    """One decoded mask: how many pixels have each code.

    Codes are the numbers stored, or 0xRRGGBB for colours; -1 - 0xRRGGBB for fully transparent pixels of this colour.
    `palette` gives the colour of each index that a palette image uses, and None for others. `nodata` is the number that
    the file declares as such. `solid` are the codes that fill a square of 3 x 3 pixels, where they were looked for.
    `lossy` marks JPEG. `plain` says that `images.read_label_map` decodes the file. `widths` counts the pixels of each
    code by the width of their object, where it was measured.
    """

    kind: Kind
    counts: Mapping[int, int]
    palette: Mapping[int, int] | None = None
    nodata: int | None = None
    size: tuple[int, int] = (0, 0)
    solid: frozenset[int] = frozenset()
    lossy: bool = False
    plain: bool = True
    widths: Mapping[int, Int64] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Question:
    """Why the classes cannot be inferred, and the command that settles it."""

    code: str
    problem: str
    remedy: str


Odd = dict[int, Question]
"""Masks that do not fit the reading of all others, by their index, with the reason."""


@dataclass(frozen=True)
class ClassReading:
    """How stored codes become class ids: `numbers` and `colours` map a code to its class or to 255.

    Palette images are read by their colours if `palettes` says so: all of them, or those that show only colours that
    have a class (`known`). With `grey`, grey colours are numbers. With `nearest`, other codes get the class of the
    nearest one. `names` and `colors` are those of the classes. `notes` are sentences for the reader, one for each
    inference, and `warnings` those that a person should look at. `states_ignored` means that a file states that 255, if
    masks hold it, is ignored.
    """

    names: tuple[str, ...]
    numbers: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[int, int] = field(default_factory=dict)
    colors: tuple[Color, ...] | None = None
    palettes: Literal["index", "colour", "known"] = "index"
    grey: bool = False
    nearest: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    odd: Odd = field(default_factory=dict)
    states_ignored: bool = False

    def views(self, kind: Kind, codes: Iterable[int], palette: Mapping[int, int] | None) -> list[tuple[Kind, int]]:
        """Return what each code of a mask is by this reading: a number, or a colour."""
        viewed: list[tuple[Kind, int]] = [(kind, code) for code in codes]
        if palette is not None and self.palettes != "index":
            shown = [palette.get(code, 0) for _, code in viewed]
            known = all(color in self.colours or color == WHITE for color in shown)
            pairs = zip((code for _, code in viewed), shown, strict=True)
            moved = any(self.colours.get(color) != index for index, color in pairs if index != IGNORE_INDEX)
            if self.palettes == "colour" or (known and moved):
                viewed = [("colours", color) for color in shown]
        if self.grey:
            viewed = [("numbers", code & 255) if kind == "colours" and is_grey(code) else (kind, code)
                      for kind, code in viewed]  # fmt: skip
        return viewed

    def exact_classes(self, mask: MaskSummary) -> dict[int, int | None]:
        """Return the class of each code of a mask; None where no class has exactly this code."""
        views = self.views(mask.kind, mask.counts, mask.palette)
        return {code: self.class_of(kind, view) for code, (kind, view) in zip(mask.counts, views, strict=True)}

    def class_of(self, kind: Kind, view: int) -> int | None:
        """Return the class of a number or colour that `views` returned; None where no class has exactly this one."""
        if kind == "numbers":
            return self.numbers.get(view)
        return self.colours.get(view, self.colours.get(TRANSPARENT) if view < 0 else None)


def hex_of(code: int) -> str:
    """Return a colour as people write it, or the word for transparent pixels."""
    return "transparent" if code < 0 else f"#{code:06x}"


def code_of(color: Color) -> int:
    """Return the code of a colour, 0xRRGGBB."""
    return (color[0] << 16) | (color[1] << 8) | color[2]


def rgb_of(code: int) -> Color:
    """Return red, green and blue of a colour's code."""
    code = code if code >= 0 else -1 - code
    return (code >> 16, code >> 8 & 255, code & 255)


def is_grey(code: int) -> bool:
    """Return whether a colour is grey and not transparent."""
    return code >= 0 and code >> 16 == code >> 8 & 255 == code & 255


def are_ids(values: Sequence[int], names: Sequence[str] | None) -> bool:
    """Return whether ascending numbers are class ids, and not grey levels: of the named classes, or small ones."""
    if not values or values[0] < 0:
        return False
    if names is not None:
        return values[-1] < len(names)
    return values[-1] < 2 * len(values) and values[-1] != IGNORE_INDEX


def add_counts(masks: Iterable[MaskSummary]) -> Counter[int]:
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

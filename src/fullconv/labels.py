"""Class names, colours and the ignored label; conversion between colours and class ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import DataError, ModelError

__all__ = ["IGNORE_INDEX", "LabelSet", "check_classes", "default_palette", "fold_name", "legal_ids", "voc_palette"]

IGNORE_INDEX = 255
"""The label of pixels that losses and scores ignore."""

BAND_PIXELS = 2**20
"""Pixels whose colours are compared at a time, which bounds the memory."""

Color = tuple[int, int, int]


def fold_name(name: str) -> str:
    """Return a name without differences of case and blanks: names that fold alike are one class."""
    return "".join(unicodedata.normalize("NFC", name).casefold().split())


def legal_ids(num_classes: int) -> str:
    """Return the class ids in words: "the 3 classes are 0 to 2"."""
    return "the only class is 0" if num_classes == 1 else f"the {num_classes} classes are 0 to {num_classes - 1}"


def voc_palette(num_classes: int) -> tuple[Color, ...]:
    """Return the PASCAL VOC colour map.

    The bits of the class id go to R, G and B in turn, and fill each of them from the highest bit downwards. Source: the
    VOC development kit, `VOClabelcolormap.m`.
    """
    colors = []
    for class_id in range(num_classes):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (class_id >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return tuple(colors)


DISTINCT_COLORS: tuple[Color, ...] = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (51, 34, 136), (221, 204, 119), (17, 119, 51), (136, 34, 85),
)  # fmt: skip
"""Twelve colours that people with red-green colour blindness can distinguish.

Any two are at least 17 apart in CIELAB, with full colour vision and without red or green cones. Two of VOC's first
twelve are only 1 apart. Sources: eight colours of Okabe and Ito, Color Universal Design, 2008; indigo, sand, green
and wine from the scheme "muted" in Tol, Colour Schemes, SRON/EPS/TN/09-002, 2021.
"""


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Return `num_classes` different colours, none of them white: `DISTINCT_COLORS`, then those of `voc_palette`."""
    return (DISTINCT_COLORS + voc_palette(num_classes)[len(DISTINCT_COLORS) :])[:num_classes]


@dataclass(frozen=True)
class LabelSet:
    """The meaning of the class ids in a label map.

    `class_names[i]` and `palette[i]` (RGB, 0..255) describe class id `i`; `ignore_index` marks pixels without a label.
    There are at most 255 classes, so a label map takes one byte per pixel.

    Raises DataError if there are not 1 to 255 names, if names repeat, or if the number of colours differs.
    """

    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        """Check names and colours."""
        if not 1 <= len(self.class_names) <= 255:
            message = f"a label set must have 1 to 255 classes, not {len(self.class_names)}"
            raise DataError(message, code="class-count-out-of-range")
        if len(self.palette) != len(self.class_names):
            message = f"{len(self.class_names)} class names but {len(self.palette)} colours; give one colour per class"
            raise DataError(message, code="palette-size-differs")
        repeated = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if repeated:
            message = f"class names must differ; these appear more than once: {', '.join(repeated)}"
            raise DataError(message, code="class-names-repeat")

    @classmethod
    def named(cls, class_names: Sequence[str], palette: Sequence[Color] | None = None) -> LabelSet:
        """Build a label set; without `palette` it gets the colours of `default_palette`."""
        return cls(tuple(class_names), tuple(palette or default_palette(len(class_names))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSet:
        """Build a label set from the values that `to_dict` returned; ValueError for any others."""
        names, palette = values["class_names"], values["palette"]
        if not (isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)):
            raise ValueError("class_names must be a list of names")
        if not isinstance(palette, list | tuple) or any(
            not isinstance(color, list | tuple) or len(color) != 3 or not all(map(_is_byte, color)) for color in palette
        ):
            raise ValueError("palette must be a list of three numbers from 0 to 255 for each class")
        ignore_index = values.get("ignore_index", IGNORE_INDEX)
        if not _is_byte(ignore_index):
            raise ValueError("ignore_index must be a number from 0 to 255")
        try:
            return cls(tuple(names), tuple((r, g, b) for r, g, b in palette), ignore_index)
        except DataError as error:
            raise ValueError(str(error)) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the label set as lists, strings and numbers, for JSON and YAML."""
        return {
            "class_names": list(self.class_names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
        }

    def with_distinct_colors(self) -> LabelSet:
        """Return the label set with an unused colour for each class that has the colour of an earlier one."""
        unused = iter([color for color in default_palette(255) if color not in self.palette])
        colors = [next(unused) if color in self.palette[:i] else color for i, color in enumerate(self.palette)]
        return replace(self, palette=tuple(colors))

    @property
    def num_classes(self) -> int:
        """The number of classes, without the ignored label."""
        return len(self.class_names)

    def colorize(self, label_map: UInt8) -> UInt8:
        """Convert H x W class ids to H x W x 3 uint8 RGB; labels that are not classes become white."""
        table = np.full((256, 3), 255, np.uint8)
        table[: self.num_classes] = np.asarray(self.palette, np.uint8)
        return table[label_map]

    def from_colors(self, rgb: UInt8) -> UInt8:
        """Convert H x W x 3 uint8 RGB to H x W uint8 class ids.

        White becomes `ignore_index`, unless it is the colour of a class. Raises DataError that lists the colours that
        belong to no class.
        """
        known = {0xFFFFFF: self.ignore_index}
        known |= {(r << 16) | (g << 8) | b: i for i, (r, g, b) in enumerate(self.palette)}
        colors = np.array(sorted(known), np.uint32)
        ids = np.array([known[code] for code in colors.tolist()], np.uint8)
        result, unknown = np.empty(rgb.shape[:2], np.uint8), set[int]()
        rows = max(1, BAND_PIXELS // max(1, rgb.shape[1]))
        for top in range(0, len(rgb), rows):
            band = rgb[top : top + rows].astype(np.uint32)
            codes = band[..., 0] << 16 | band[..., 1] << 8 | band[..., 2]
            places = np.minimum(np.searchsorted(colors, codes), len(colors) - 1)
            result[top : top + rows] = ids[places]
            unknown.update(np.unique(codes[colors[places] != codes]).tolist())
        if unknown:
            listed = ", ".join(f"#{code:06x}" for code in sorted(unknown)[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            message = f"colours that belong to no class: {listed}{more}; check the palette"
            raise DataError(message, code="color-without-class")
        return result


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def check_classes(model: str | Path, known: LabelSet, data: str | Path, given: LabelSet) -> None:
    """Raise ModelError if a model and a data set do not have the same class names in the same order."""
    if known.class_names != given.class_names:
        ours, theirs = ", ".join(known.class_names), ", ".join(given.class_names)
        raise ModelError(f"{model} has the classes {ours}; {data} has {theirs}", code="classes-differ")

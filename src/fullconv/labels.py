"""Class names, colours and the ignored label, and the way between colours and class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, ModelError

__all__ = ["IGNORE_INDEX", "LabelSet", "check_classes", "default_palette", "voc_palette"]

IGNORE_INDEX = 255
"""The label of pixels that no score and no loss counts."""

Color = tuple[int, int, int]


def voc_palette(num_classes: int) -> tuple[Color, ...]:
    """The PASCAL VOC colour map: the bits of the class id, dealt to R, G and B from the top bit down.

    Source: the VOC development kit, `VOClabelcolormap.m`.
    """
    colors = []
    for class_id in range(num_classes):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (class_id >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return tuple(colors)


APART: tuple[Color, ...] = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (51, 34, 136), (221, 204, 119), (17, 119, 51), (136, 34, 85),
)  # fmt: skip
"""Colours that are told apart without red or green cones, too: at least 17 apart in CIELAB, VOC's first twelve 1.

Source: eight of Okabe and Ito, Color Universal Design, 2008; indigo, sand, green and wine of the scheme "muted" of Tol,
Colour Schemes, SRON/EPS/TN/09-002, 2021.
"""


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """The colours of classes that nobody gave any: `APART`, then VOC's. All differ, and none is white."""
    return (APART + voc_palette(num_classes)[len(APART) :])[:num_classes]


@dataclass(frozen=True)
class LabelSet:
    """What the class ids of a label map mean.

    `class_names[i]` and `palette[i]` (RGB, 0..255) belong to class id `i`; `ignore_index` marks pixels
    without a label. At most 255 classes, so that a label map is one byte a pixel.
    """

    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not 1 <= len(self.class_names) <= 255:
            raise DataError(f"a label set holds 1 to 255 classes, this one {len(self.class_names)}")
        if len(self.palette) != len(self.class_names):
            raise DataError(f"{len(self.class_names)} class names but {len(self.palette)} colours")
        twice = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if twice:
            raise DataError(f"class names must differ; these appear more than once: {', '.join(twice)}")

    @classmethod
    def named(cls, class_names: Sequence[str], palette: Sequence[Color] | None = None) -> LabelSet:
        """A label set with the colours of `default_palette` unless a palette is given."""
        return cls(tuple(class_names), tuple(palette or default_palette(len(class_names))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSet:
        """The inverse of `to_dict`."""
        palette = tuple((int(r), int(g), int(b)) for r, g, b in values["palette"])
        return cls(tuple(values["class_names"]), palette, int(values.get("ignore_index", IGNORE_INDEX)))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON and YAML."""
        return {
            "class_names": list(self.class_names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
        }

    @property
    def num_classes(self) -> int:
        """How many classes there are, the ignored label not counted."""
        return len(self.class_names)

    def colorize(self, label_map: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """H x W class ids to H x W x 3 RGB; labels beyond the classes become white."""
        table = np.full((256, 3), 255, np.uint8)
        table[: self.num_classes] = np.asarray(self.palette, np.uint8)
        return table[label_map]

    def from_colors(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """H x W x 3 RGB to H x W class ids; white that is no class's colour becomes `ignore_index`.

        Raises DataError that lists the colours that belong to no class.
        """
        codes = rgb.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        found, inverse = np.unique(codes, return_inverse=True)
        known = {0xFFFFFF: self.ignore_index}
        known |= {(r << 16) | (g << 8) | b: i for i, (r, g, b) in enumerate(self.palette)}
        unknown = [f"#{code:06x}" for code in found.tolist() if code not in known]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(f"colours that belong to no class: {', '.join(unknown[:5])}{more}")
        ids = np.array([known[code] for code in found.tolist()], np.uint8)
        return ids[inverse].reshape(codes.shape)


def check_classes(model: str | Path, known: LabelSet, data: str | Path, given: LabelSet) -> None:
    """Raise ModelError if a model and a data set do not have the same class names in the same order."""
    if known.class_names != given.class_names:
        ours, theirs = ", ".join(known.class_names), ", ".join(given.class_names)
        raise ModelError(f"{model} has the classes {ours}; {data} has {theirs}", code="other-classes")

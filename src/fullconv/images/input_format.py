"""The pixels that a model or a data set works with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RGB", "InputFormat", "ValueRange"]

ValueRange = tuple[float, float]
"""The numbers in a file that become 0 and 255."""


@dataclass(frozen=True)
class InputFormat:
    """How files become arrays: H x W x `channels` uint8, three being RGB.

    `value_range` are the numbers in a file that become 0 and 255; None means the rules of the file's type.
    """

    channels: int = 3
    value_range: ValueRange | None = None


RGB = InputFormat()
"""Three channels of colour, as cameras store them."""

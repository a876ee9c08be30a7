"""The format of the images that a model or a data set works with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RGB", "InputFormat", "ValueRange"]

ValueRange = tuple[float, float]
"""The numbers in a file that become 0 and 255."""


@dataclass(frozen=True)
class InputFormat:
    """The conversion of files to arrays: H x W x `channels` uint8, where three channels are RGB.

    `value_range` holds the numbers in a file that become 0 and 255; with None, `read_image` has a rule for each type.
    """

    channels: int = 3
    value_range: ValueRange | None = None


RGB = InputFormat()
"""Three channels and no value range: ordinary photographs."""

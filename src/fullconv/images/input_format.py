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

    def __str__(self) -> str:
        """Return the images of this format in words, for messages."""
        names = {1: "1 band (grey)", 3: "3 bands (RGB)"}
        bands = names.get(self.channels, f"{self.channels} bands")
        if self.value_range is None:
            return bands
        low, high = self.value_range
        return f"{bands}, in which the values {low:.10g} to {high:.10g} become 0 to 255"


RGB = InputFormat()
"""Three channels and no value range: ordinary photographs."""

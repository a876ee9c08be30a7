"""The value range of the images that a model labels: another one than the model's, and images that do not fit it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fullconv.errors import FullconvError, UsageError
from fullconv.images.input_format import InputFormat, ValueRange
from fullconv.images.stored_values import clipped_share, robust_range, sample_values

__all__ = ["Misfit", "check_range", "find_common_misfit", "find_misfit", "input_with", "parse_range"]

NARROW = 0.25
"""An image that uses less than this share of the expected range is probably scaled wrongly."""

MANY_CLIPPED = 0.2
"""An image with more than this share of its values outside of the expected range is probably scaled wrongly."""


CHECKED = 20
"""Maximum number of labelled images whose numbers are compared with the range."""


def parse_range(text: str) -> ValueRange:
    """Return the range of a text like "0,4095". Raises UsageError for anything else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    return check_range((low, high), text)


def check_range(bounds: ValueRange, text: object = None) -> ValueRange:
    """Return a range; raise UsageError unless it is two numbers, the smaller one first."""
    try:
        low, high = bounds
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return float(low), float(high)
    except (TypeError, ValueError):
        pass
    shown = bounds if text is None else text
    message = f"range {shown!r}: name the numbers that become 0 and 255, as 0,4095 for images of a 12-bit camera"
    raise UsageError(message, code="invalid-range")


def input_with(input: InputFormat, value_range: ValueRange | None) -> InputFormat:
    """Return the format with another value range. Raises UsageError as `check_range`; None changes nothing."""
    return input if value_range is None else replace(input, value_range=check_range(value_range))


@dataclass(frozen=True)
class Misfit:
    """An image that uses a small part of the range that a model expects, or exceeds it, and the option that fits it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}, so labels may be wrong; if the images are too dark or too bright, {self.remedy}"


def find_misfit(path: Path, input: InputFormat) -> Misfit | None:
    """Return how an image misses the range that a model expects; None for images of 8 bits, and if it fits.

    Up to 16 windows of a large image are read. A file that cannot be read gives None, because reading it gives an
    error.
    """
    return _find(path, input)[1]


def find_common_misfit(paths: Sequence[Path], input: InputFormat) -> Misfit | None:
    """Return the first misfit if at least half of up to `CHECKED` evenly spread images of more than 8 bits misfit."""
    results = [_find(path, input) for path in paths[:: -(-len(paths) // CHECKED) or 1]]
    misfits = [misfit for _, misfit in results if misfit is not None]
    return misfits[0] if misfits and 2 * len(misfits) >= sum(is_deep for is_deep, _ in results) else None


def _find(path: Path, input: InputFormat) -> tuple[bool, Misfit | None]:
    """Return whether an image has more than 8 bits, and how it misses the range."""
    try:
        sample = sample_values(path, input.channels)
    except (FullconvError, OSError):
        return False, None
    used = None if sample is None else robust_range(sample.values)
    if sample is None or used is None:
        return sample is not None, None
    low, high = input.value_range or (0.0, float(sample.top))
    clipped = clipped_share([sample.values], (low, high))
    if clipped <= MANY_CLIPPED and used[1] - used[0] >= NARROW * (high - low):
        return True, None
    what = f"{100 * clipped:.0f} % of its values are outside of" if clipped > MANY_CLIPPED else "a small part of"
    problem = (
        f"{path}: nearly all values are {used[0]:.10g} to {used[1]:.10g}, {what} {low:.10g} to {high:.10g}, which the "
        "model expects"
    )
    return True, Misfit(problem, f"add --range {used[0]:.10g},{used[1]:.10g} (value_range in Python)")

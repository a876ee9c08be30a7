"""The names of splits."""

from __future__ import annotations

import re
from typing import get_args

from fullconv.choices import Split

__all__ = ["SPLITS", "UNDIVIDED", "split_of", "without_split"]

SPLITS: tuple[str, ...] = get_args(Split)
"""The splits of a data set, in the order in which they are listed."""

UNDIVIDED = ""
"""The key of `DataSet.splits` for samples that are in no split until `division.divide` divides them."""

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?!val)")


def split_of(name: str) -> str | None:
    """Return the split that a file or folder is named after; None if its name has no split.

    The split of `instances_val2017`, `valid` and `Validation` is `val`. VOC's `trainval` is not a split.
    """
    match = _SPLIT_WORD.search(name.lower())
    return match[1] if match else None


def without_split(name: str) -> str:
    """Return a name without the words that name a split, such as `val` and `training`."""
    return re.sub(r"(?<![a-z])(?:train|val|test)[a-z]*", "", name, flags=re.IGNORECASE)

"""Choose some of many items, evenly spread. Integer arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["spread"]

T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` items: those in the middle of as many equal parts."""
    count = min(most, len(items))
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]

"""Colours as files write them."""

from __future__ import annotations

import re
from typing import Any

from fullconv.labels import Color

__all__ = ["parse_color"]


def parse_color(value: Any) -> Color | None:
    """Return a colour: `#rrggbb`, `rgb(1, 2, 3)`, text or a list of three (or four) numbers, or a map of r, g and b."""
    if isinstance(value, str):
        short = re.fullmatch(r"\s*#([0-9a-fA-F])([0-9a-fA-F])([0-9a-fA-F])\s*", value)
        long = re.fullmatch(r"\s*(?:#|0x)([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?\s*", value)
        if short:
            return int(short[1] * 2, 16), int(short[2] * 2, 16), int(short[3] * 2, 16)
        if long:
            red, green, blue = bytes.fromhex(long[1])
            return red, green, blue
        value = (
            [int(number[:9]) for number in re.findall(r"\d+", value)]
            if re.fullmatch(r"[rgba\d\s,;()\[\]]+", value)
            else None
        )
    elif isinstance(value, dict):
        lower = {str(key).lower(): part for key, part in value.items()}
        keys = ("r", "g", "b") if "r" in lower else ("red", "green", "blue")
        value = [lower.get(key) for key in keys]
    if isinstance(value, list | tuple) and len(value) in (3, 4) and all(type(part) is int for part in value[:3]):
        red, green, blue = value[:3]
        if all(0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    return None

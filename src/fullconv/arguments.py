"""What all commands share: a check before the heavy imports, messages, sizes."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec

from fullconv.errors import MissingExtra, UsageError

__all__ = ["need_torch", "parse_size", "say"]


def need_torch() -> None:
    """MissingExtra where what trains and runs networks is not installed."""
    for package in ("torch", "torchvision", "lightning"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")


def say(text: str) -> None:
    """A message, on stderr."""
    print(text, file=sys.stderr, flush=True)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from HxW; UsageError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip().lower())
    if match is None:
        raise UsageError(f"--size {text}: write height x width in pixels, such as 480x640")
    return int(match[1]), int(match[2])

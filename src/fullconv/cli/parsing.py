"""What commands share: messages, and the meaning of words on the command line."""

from __future__ import annotations

import re
import sys

from fullconv.errors import UsageError

__all__ = ["parse_numbers", "parse_size", "parse_values", "say"]


def say(text: str) -> None:
    """A message, on stderr."""
    print(text, file=sys.stderr, flush=True)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from HxW; UsageError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip().lower())
    if match is None:
        raise UsageError(f"--size {text}: write height x width in pixels, such as 480x640", code="bad-size")
    return int(match[1]), int(match[2])


def parse_numbers(text: str | None) -> list[int] | None:
    """10,6,6,10 to numbers; UsageError for anything else."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--epochs-each {text}: write whole numbers with commas, as 10,6,6,10", code="bad-epochs-each"
        ) from error


def parse_values(entries: list[str] | None) -> dict[str, str]:
    """The values of the recipe that --set gives; UsageError for an entry that is not NAME=VALUE."""
    values = {}
    for entry in entries or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--set {entry}: write it as NAME=VALUE", code="bad-set")
        values[name.strip().replace("-", "_")] = value
    return values

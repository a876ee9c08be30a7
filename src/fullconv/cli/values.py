"""The values of options: parse them, and refuse outputs that would replace data."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from pathlib import Path
from typing import Literal

from fullconv.errors import UsageError

__all__ = ["parse_devices", "parse_size", "parse_values", "refuse_data_file"]


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width of HxW. Raises UsageError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip().lower())
    if match is None:
        raise UsageError(f"--size {text}: write height x width in pixels, such as 480x640", code="invalid-size")
    return int(match[1]), int(match[2])


def parse_devices(text: str) -> int | Literal["auto"]:
    """Return the number of devices, or "auto". Raises UsageError for anything else."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise UsageError(f"--devices {text}: write a number, or auto", code="invalid-devices")
    return int(text)


def parse_values(entries: list[str] | None) -> dict[str, str]:
    """Return the recipe's values of --set by name. Raises UsageError for an entry that is not NAME=VALUE."""
    values = {}
    for entry in entries or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--set {entry}: write it as NAME=VALUE", code="invalid-set")
        values[name.strip().replace("-", "_")] = value
    return values


def refuse_data_file(file: Path | None, data: Path, others: Container[Path] = ()) -> None:
    """Raise UsageError if the output `file` would replace a file in the folder `data`, or one of `others`.

    An earlier page or result of fullconv may be replaced. None and `-` are no files. The paths of `others` are those of
    `os.path.realpath`.
    """
    if file is None or str(file) == "-" or not os.path.lexists(file):
        return
    entry = Path(os.path.realpath(file.parent), file.name)  # a link is replaced, and its target stays
    inside = Path(os.path.realpath(data)) in entry.parents and not _is_output(file)
    if inside or Path(os.path.realpath(file)) in others:
        message = f"{file}: is a file of the data, which is never changed; name another file"
        raise UsageError(message, code="overwrites-data")


def _is_output(file: Path) -> bool:
    """Return whether a file is an HTML page, or a JSON file as `write_results` writes it."""
    if not file.is_file() or file.suffix.lower() in (".html", ".htm"):
        return file.is_file()
    with file.open("rb") as opened:
        return opened.read(40).startswith((b'{\n "data": "', b'{\n "pixel_accuracy": '))

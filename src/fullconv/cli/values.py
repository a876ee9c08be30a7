"""The values of options: parse them, and refuse outputs that would replace data."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from fullconv.errors import UsageError

__all__ = ["parse_devices", "parse_size", "parse_values", "refuse_overwriting"]


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


def refuse_overwriting(
    *outputs: Path | None, data: Path | None = None, inputs: Sequence[Path] = (), files: Collection[Path] = ()
) -> None:
    """Raise UsageError if an output would replace what the command reads, or another output.

    That is `data` and the files in it, each of `inputs`, and `files`, whose paths are those of `os.path.realpath`; the
    files of a run folder are never replaced. An earlier page or result of fullconv may be replaced. None and `-` are no
    files; pipes and devices are not replaced.
    """
    named = [file for file in outputs if file is not None and str(file) != "-"]
    targets = [_resolve(file) for file in named]
    for file, target in zip(named, targets, strict=True):
        if not os.path.isfile(file) and os.path.exists(file):
            continue
        if targets.count(target) > 1:
            raise UsageError(f"{file}: is named for two results; name another file for one", code="output-named-twice")
        if not os.path.lexists(file):
            continue
        inside = data is not None and _is_inside(file, data) and not _is_output(file)
        if inside or target in files or (data is not None and target == _resolve(data)):
            message = f"{file}: is a file of the data, which is never changed; name another file"
            raise UsageError(message, code="overwrites-data")
        if target in map(_resolve, inputs) or _is_of_run(file):
            message = f"{file}: is a model or part of a run, and the result would replace it; name another file"
            raise UsageError(message, code="overwrites-input")


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for a loop of links


def _is_inside(file: Path, folder: Path) -> bool:
    entry = _resolve(file.parent) / file.name  # a link is replaced, and its target stays
    return _resolve(folder) in entry.parents


def _is_of_run(file: Path) -> bool:
    """Return whether a file belongs to a run folder and is not an earlier result."""
    result = file.name != "scores.json" and (file.suffix.lower() == ".json" or _is_output(file))
    return not result and (file.parent / "recipe.yaml").is_file()


def _is_output(file: Path) -> bool:
    """Return whether a file is a page, as `pages.render` writes it, or a JSON file, as `write_results` writes it."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(400)
    page = head.lower().startswith(b"<!doctype html>") and b'"Content-Security-Policy" content="default-src' in head
    return page or head.startswith((b'{\n "data": "', b'{\n "pixel_accuracy": '))

"""JSON files that follow a schema, as a whole or but for a few entries, which are left out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fullconv.faults import Fault, unreadable
from fullconv.files import read_file

__all__ = ["BadEntry", "are_few", "parse", "parse_each", "parse_entries", "skipped_entry"]

SHOWN = 5

FEW = 20
"""One of so many entries may be left out, and a single one always."""

T = TypeVar("T")

Details = Sequence[Any]


@dataclass(frozen=True)
class BadEntry:
    """An entry of a list that does not follow the schema: the name of the list, its value, and what is wrong."""

    name: str
    value: Any
    problem: str


def are_few(broken: int, total: int) -> bool:
    """Return whether so many broken entries of all may be left out with a warning; never all of them."""
    return broken < total and broken <= max(1, (total - broken) // FEW)


def parse(path: Path, schema: TypeAdapter[T], faults: list[Fault]) -> T | None:
    """Read a JSON file that follows `schema`. If it does not, add a fault for each wrong value and return None."""
    parsed = parse_entries(path, schema, (), faults)
    return None if parsed is None else parsed[0]


def parse_entries(
    path: Path, schema: TypeAdapter[T], lists: Collection[str], faults: list[Fault]
) -> tuple[T, list[BadEntry]] | None:
    """Read a JSON file as `parse` does, without the entries of some lists that do not follow the schema, if few.

    `lists` are keys of the file; "" is the file itself, if it is a list. Return the content and the bad entries, for
    which the caller adds faults.
    """
    content = _read(path, faults)
    if content is None:
        return None
    try:
        return schema.validate_json(content), []
    except ValidationError as error:
        details = _details(error)
    problems: dict[tuple[str, int], str] = {}
    for detail in details:
        entry = _entry_of(detail["loc"], lists)
        if entry is None:
            break
        problems.setdefault(entry, _describe(detail))
    else:
        without = _drop(content, problems)
        if without is not None:
            text, bad = without
            try:
                return schema.validate_json(text), bad
            except ValidationError:  # the faults of the whole file are reported
                pass
    faults += _faults(path, details)
    return None


def parse_each(
    paths: Sequence[Path], schema: TypeAdapter[T], lists: Collection[str], split: str | None, faults: list[Fault]
) -> Iterator[tuple[Path, T]]:
    """Yield the files of single images with their content, without those with bad entries in `lists`, if few.

    After the last file, faults are added for the files that are left out.
    """
    broken: list[tuple[Path, Details]] = []
    for path in paths:
        content = _read(path, faults)
        if content is None:
            continue
        try:
            yield path, schema.validate_json(content)
        except ValidationError as error:
            details = _details(error)
            if all(_entry_of(detail["loc"], lists) for detail in details):
                broken.append((path, details))
            else:
                faults += _faults(path, details)
    for path, details in broken:
        if are_few(len(broken), len(paths)):
            faults.append(skipped_entry(path, BadEntry("", None, _describe(details[0])), path.stem, split))
        else:
            faults += _faults(path, details)


def skipped_entry(path: Path, bad: BadEntry, sample: str | None, split: str | None) -> Fault:
    """Return the warning for an entry that is left out with its image."""
    remedy = "correct it; its image is left out until then"
    return Fault("skipped-shape", path, bad.problem, remedy, sample, split)


def _read(path: Path, faults: list[Fault]) -> bytes | None:
    try:
        return read_file(path).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        faults.append(unreadable(path, error))
        return None


def _details(error: ValidationError) -> Details:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _entry_of(location: Sequence[str | int], lists: Collection[str]) -> tuple[str, int] | None:
    if "" in lists and location and isinstance(location[0], int):
        return "", location[0]
    if len(location) > 1 and location[0] in lists and isinstance(location[1], int):
        return str(location[0]), location[1]
    return None


def _drop(content: bytes, problems: dict[tuple[str, int], str]) -> tuple[str, list[BadEntry]] | None:
    """Return the file without the entries, and these; None if they are many."""
    values = json.loads(content)
    bad = []
    for name in dict.fromkeys(name for name, _ in problems):
        entries = values if name == "" else values[name]
        indices = sorted(index for other, index in problems if other == name)
        if not are_few(len(indices), len(entries)):
            return None
        bad += [BadEntry(name, entries[index], problems[name, index]) for index in indices]
        for index in reversed(indices):
            del entries[index]
    return json.dumps(values), bad


def _describe(detail: Any) -> str:
    location = ".".join(map(str, detail["loc"]))
    message = str(detail["msg"])
    return (f"at {location}: " if location else "") + message[0].lower() + message[1:]


def _faults(path: Path, details: Details) -> list[Fault]:
    problems = [_describe(detail) for detail in details[:SHOWN]]
    if len(details) > SHOWN:
        problems.append(f"{len(details) - SHOWN} more values are invalid")
    return [Fault("invalid-annotations", path, problem, "export the annotations again") for problem in problems]

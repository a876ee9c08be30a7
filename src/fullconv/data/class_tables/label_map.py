"""CVAT's and Datumaro's `labelmap.txt`: lines of the form `name:r,g,b:parts:actions`."""

from __future__ import annotations

from pathlib import Path

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.labels import Color, LabelSet

__all__ = ["parse_label_map_line", "read_label_map_file"]


def read_label_map_file(path: Path) -> LabelSet:
    """Return the classes of a file with lines of the form `name:r,g,b:parts:actions`."""
    names: list[str] = []
    colors: list[Color] = []
    faults: list[Fault] = []
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("class-names", path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8")
        raise DataError.of(fault) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, color = parse_label_map_line(line)
        if color is None:
            remedy = "write name:r,g,b:: with numbers from 0 to 255"
            faults.append(Fault("class-names", path, f"line {number} cannot be read: {line.strip()!r}", remedy))
            continue
        if color in colors:
            problem = f"line {number} has the colour of {names[colors.index(color)]!r}"
            faults.append(Fault("class-names", path, problem, "give each class another colour"))
        names.append(name)
        colors.append(color)
    if not (faults or names):
        faults.append(Fault("class-names", path, "names no class", "write one line name:r,g,b:: for each class"))
    if faults:
        raise DataError(f"{path}: cannot be used", faults, code="class-names")
    try:
        return LabelSet.named(names, colors)
    except DataError as error:
        raise DataError.of(Fault("class-names", path, str(error), "correct the names of the classes")) from None


def parse_label_map_line(line: str) -> tuple[str, Color | None]:
    """Return name and colour. The name may contain colons: the three fields after it cannot."""
    name, *fields = line.strip().rsplit(":", 3)
    parts = fields[0].split(",") if len(fields) == 3 else []
    if (
        name
        and len(parts) == 3
        and all(part.strip().isdecimal() and len(part) < 10 and int(part) < 256 for part in parts)
    ):
        return name, (int(parts[0]), int(parts[1]), int(parts[2]))
    return name, None

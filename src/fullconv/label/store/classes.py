"""The classes of a session. Keys are stable and never used again; merged and deleted classes stay known by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.classes import IGNORED_VALUE
from fullconv.errors import DataError, FullconvError, UsageError
from fullconv.labels import IGNORE_INDEX, Color, LabelSet, default_palette, fold_name

__all__ = ["ClassTable", "LabelClass", "parse_color", "show_color"]

MOST_CLASSES = 255
"""Keys are 0 to 254, so that one byte holds a key or 255."""

LONGEST_NAME = 100

_WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class LabelClass:
    """A class: its stable key, its name and its colour."""

    key: int
    name: str
    color: Color


class ClassTable:
    """The classes in their order, and where merged and deleted ones went. `version` counts the changes."""

    def __init__(self) -> None:
        self.classes: list[LabelClass] = []
        self.version = 0
        self._gone: dict[int, int] = {}
        self._next = 0
        self._had: set[str] = set()
        self._of_data: dict[str, int] = {}

    @property
    def labels(self) -> LabelSet:
        """The classes as a label set, whose ids are the positions of the classes."""
        return LabelSet.named([one.name for one in self.classes], [one.color for one in self.classes])

    @property
    def resolve(self) -> UInt8:
        """A table of 256 entries: the key of the class that a raw key means today; 255 for none."""
        table = np.full(256, IGNORE_INDEX, np.uint8)
        for one in self.classes:
            table[one.key] = one.key
        for key in range(self._next):
            target = key
            while target in self._gone:
                target = self._gone[target]
            table[key] = target
        return table

    @property
    def ids(self) -> UInt8:
        """A table of 256 entries: the class id that a raw key has in masks; 255 for none."""
        table = np.full(256, IGNORE_INDEX, np.uint8)
        for index, one in enumerate(self.classes):
            table[one.key] = index
        resolved: UInt8 = table[self.resolve]
        return resolved

    def find(self, key: int) -> LabelClass:
        """Return a class by its key. Raises UsageError if there is none."""
        found = next((one for one in self.classes if one.key == key), None)
        if found is None:
            raise UsageError(f"there is no class with the key {key}", code="unknown-class-key")
        return found

    def had(self, name: str) -> bool:
        """Return whether a class has or had this name, also if it was deleted, merged or renamed since."""
        return fold_name(name) in self._had

    def key_of(self, name: str) -> int | None:
        """Return the key of the data set's class of this name, or of the class that has the name now, or None.

        A class of the data set keeps its key when it is renamed on the page.
        """
        folded = fold_name(name)
        now = {fold_name(one.name): one.key for one in self.classes}
        return self._of_data.get(folded, now.get(folded))

    def plan(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Check a change, and return the line of the journal that describes it.

        Raises UsageError for a change that is not understood, and FullconvError for one that is impossible now.
        """
        op = action.get("action")
        if op == "add":
            return self._plan_add(action.get("name"), action.get("color"))
        if op not in ("rename", "recolour", "merge", "delete"):
            raise UsageError(f"{op!r} is not a change of classes", code="unknown-class-action")
        one = self.find(_key(action.get("key")))
        if op == "rename":
            return {"op": op, "key": one.key, "name": self._free_name(action.get("name"), one)}
        if op == "recolour":
            return {"op": op, "key": one.key, "color": show_color(self._free_color(action.get("color"), one))}
        if len(self.classes) == 1:
            raise FullconvError(f"{one.name} is the last class; add another one first", code="last-class")
        if op == "delete":
            return {"op": op, "key": one.key}
        into = self.find(_key(action.get("into")))
        if into.key == one.key:
            message = f"{one.name} cannot be merged into itself; choose another class"
            raise FullconvError(message, code="merged-into-itself")
        return {"op": op, "key": one.key, "into": into.key}

    def apply(self, line: Mapping[str, Any]) -> None:
        """Apply a line that `plan` returned. Raises DataError for any other line."""
        try:
            self._apply(line)
        except (KeyError, TypeError, ValueError, FullconvError) as error:
            message = f"the class change {dict(line)!r} cannot be applied ({error}); restore the file from a copy"
            raise DataError(message, code="damaged-journal") from error
        self.version += 1

    def add_all(
        self, names: Sequence[str], colors: Sequence[Color] = (), of_data: bool = False
    ) -> list[dict[str, Any]]:
        """Add classes in order, and return the lines of the journal. Colours that cannot be used are replaced.

        `of_data` says that they are the classes of the data set.
        """
        lines = []
        for index, name in enumerate(names):
            color = colors[index] if index < len(colors) else None
            used = {one.color for one in self.classes} | {_WHITE}
            line = self._plan_add(name, None if color is None or color in used else show_color(color))
            line |= {"of_data": True} if of_data else {}
            self.apply(line)
            lines.append(line)
        return lines

    def _apply(self, line: Mapping[str, Any]) -> None:
        key, op = int(line["key"]), line["op"]
        if op == "add":
            if key != self._next or key >= MOST_CLASSES:
                raise ValueError("its key is used already")
            self.classes.append(LabelClass(key, str(line["name"]), parse_color(line["color"])))
            self._had.add(fold_name(str(line["name"])))
            if line.get("of_data"):
                self._of_data.setdefault(fold_name(str(line["name"])), key)
            self._next += 1
            return
        index = self.classes.index(self.find(key))
        one = self.classes[index]
        if op == "rename":
            self.classes[index] = LabelClass(key, str(line["name"]), one.color)
            self._had.add(fold_name(str(line["name"])))
        elif op == "recolour":
            self.classes[index] = LabelClass(key, one.name, parse_color(line["color"]))
        elif op in ("merge", "delete"):
            self._gone[key] = self.find(int(line["into"])).key if op == "merge" else IGNORE_INDEX
            del self.classes[index]
        else:
            raise ValueError("it is unknown")

    def _plan_add(self, name: object, color: object) -> dict[str, Any]:
        if self._next >= MOST_CLASSES:
            message = f"there were {MOST_CLASSES} classes already, and keys are not used again; start another folder"
            raise FullconvError(message, code="too-many-classes")
        checked = self._free_name(name, None)
        if color is None:
            used = {one.color for one in self.classes}
            chosen = next(free for free in default_palette(MOST_CLASSES) if free not in used)
        else:
            chosen = self._free_color(color, None)
        return {"op": "add", "key": self._next, "name": checked, "color": show_color(chosen)}

    def _free_name(self, name: object, of: LabelClass | None) -> str:
        text = " ".join(name.split()) if isinstance(name, str) else ""
        if not text or len(text) > LONGEST_NAME or not text.isprintable():
            message = f"a class name has 1 to {LONGEST_NAME} visible characters"
            raise UsageError(message, code="class-name")
        if text == IGNORED_VALUE:
            message = f"{text} is the name of unlabelled pixels in dataset.yaml; choose another name"
            raise UsageError(message, code="class-name-reserved")
        other = next((one for one in self.classes if one != of and fold_name(one.name) == fold_name(text)), None)
        if other is not None:
            message = f"there is a class {other.name} already; choose another name"
            raise FullconvError(message, code="class-name-taken")
        return text

    def _free_color(self, color: object, of: LabelClass | None) -> Color:
        chosen = parse_color(color)
        other = next((one for one in self.classes if one != of and one.color == chosen), None)
        if other is not None:
            message = f"{other.name} has this colour already; choose another one"
            raise FullconvError(message, code="class-color-taken")
        if chosen == _WHITE:
            raise FullconvError("white marks pixels without a class; choose another colour", code="class-color-white")
        return chosen


def parse_color(color: object) -> Color:
    """Return the colour that "#rrggbb" means. Raises UsageError for anything else."""
    if not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise UsageError('a colour is written as "#rrggbb"', code="class-color")
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def show_color(color: Color) -> str:
    """Return a colour as "#rrggbb"."""
    return "#" + bytes(color).hex()


def _key(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError("a class is named by its key, a whole number", code="unknown-class-key")
    return value

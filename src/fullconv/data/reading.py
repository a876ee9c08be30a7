"""Options for what files leave open: which files are images and masks, what unlabelled pixels are, and the splits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from fullconv.errors import UsageError

__all__ = ["BY_FILES", "MaskNodata", "Reading", "ReadingOptions", "find_problems"]

MaskNodata = Literal["ignore", "background"]
"""What the pixels are that a mask file declares as nodata."""


class Reading(TypedDict, total=False):
    """The fields of `ReadingOptions` as keyword arguments."""

    images: str | Sequence[str]
    masks: str | Sequence[str]
    mask_nodata: MaskNodata
    unlabelled: str
    val_share: float
    val_by: str
    strict: bool
    outside: bool


@dataclass(frozen=True)
class ReadingOptions:
    """How to read a data set where its files leave something open. None: what the files say, or an inference.

    Attributes:
        images: Pattern of the image files below the data set's folder, such as `photos/*.jpg`, or several; `**/` is any
            folder.
        masks: Pattern or patterns of the mask files. If the wildcards of an image and a mask stand for the same text,
            they are a pair.
        mask_nodata: What pixels are that a mask declares as nodata.
        unlabelled: What no shape covers, in layouts of shapes: a class, or "ignore".
        val_share: Share of the images that are held out for validation, above 0 and below 1.
        val_by: Regular expression that is searched in each image's path below the folder. Images with the same match
            (of its first group, if it has one) are all held out, or none of them.
        strict: Whether everything that would be inferred is a fault.
        outside: Whether annotations and links may add files from outside of the data set's folder.
    """

    images: str | Sequence[str] | None = None
    masks: str | Sequence[str] | None = None
    mask_nodata: MaskNodata | None = None
    unlabelled: str | None = None
    val_share: float | None = None
    val_by: str | None = None
    strict: bool = False
    outside: bool = False

    def __post_init__(self) -> None:
        """Make single patterns and lists of them equal."""
        for name in ("images", "masks"):
            value = getattr(self, name)
            if isinstance(value, (str, list)):
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> ReadingOptions:
        """Return the options of keyword arguments. Raises UsageError for a name that is not in `Reading`."""
        unknown = sorted(reading.keys() - Reading.__annotations__.keys())
        if unknown:
            message = (
                f"there is no argument {', '.join(unknown)}; on reading, there are {', '.join(Reading.__annotations__)}"
            )
            raise UsageError(message, code="unknown-reading-option")
        return cls(**reading)

    def check(self) -> None:
        """Raise UsageError for values that are not allowed."""
        for name, problem in find_problems(asdict(self)):
            raise UsageError(f"--{name.replace('_', '-')} {problem}", code="invalid-reading-option")

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are set."""
        values = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_arguments(self) -> str:
        """Return the options that are set as a shell takes them, each after a space."""
        text = ""
        for name, value in self.to_dict().items():
            option = f" --{name.replace('_', '-')}"
            values = value if isinstance(value, list) else [value]
            text += option if value is True else "".join(option + _argument(str(each)) for each in values)
        return text

    def check_command(self, data: Path) -> str:
        """Return the command that checks `data`, read with these options."""
        return f"fullconv check {shlex.quote(str(data))}{self.to_arguments()}"


BY_FILES = ReadingOptions()
"""Options that leave everything to the files."""


def _argument(value: str) -> str:
    return ("=" if value.startswith("-") else " ") + shlex.quote(value)


def find_problems(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names of options with values that are not allowed, and what is wrong with each."""
    found = [
        (name, problem) for name, value in values.items() if value is not None and (problem := _CHECKS[name](value))
    ]
    if "strict" in values and not found and (values.get("images") is None) != (values.get("masks") is None):
        alone = "masks" if values.get("images") is None else "images"
        found.append((alone, "is given alone; give --images and --masks together"))
    return found


def _pattern_problem(value: Any) -> str:
    for pattern in value if isinstance(value, (list, tuple)) and value else (value,):
        if not isinstance(pattern, str) or not pattern.strip():
            return f"{pattern!r}: write a pattern such as photos/*.jpg"
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            return f"{pattern}: write a pattern below the data set's folder"
    return ""


def _share_problem(value: Any) -> str:
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
    return "" if right else f"{value}: write a number above 0 and below 1, such as 0.2"


def _expression_problem(value: Any) -> str:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        return f"{value}: is not a regular expression ({error})"
    return ""


def _nodata_problem(value: Any) -> str:
    return "" if value in get_args(MaskNodata) else f"{value}: write {' or '.join(get_args(MaskNodata))}"


def _text_problem(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else f"{value!r}: write the name of a class, or ignore"


_CHECKS: Mapping[str, Callable[[Any], str]] = {
    "images": _pattern_problem,
    "masks": _pattern_problem,
    "mask_nodata": _nodata_problem,
    "unlabelled": _text_problem,
    "val_share": _share_problem,
    "val_by": _expression_problem,
    "strict": lambda value: "",
    "outside": lambda value: "",
}

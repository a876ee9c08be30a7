"""The reading options of a data set: those that are given, and those in its dataset.yaml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullconv.data.classes import DESCRIPTION, READING_KEYS, read_description
from fullconv.data.reading import ReadingOptions, find_problems
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import is_given

__all__ = ["find_options"]


def find_options(root: Path, given: ReadingOptions, faults: list[Fault]) -> ReadingOptions:
    """Return the given options, completed by those of dataset.yaml; its wrong values are added to `faults`."""
    given.check()
    path = root / DESCRIPTION
    try:
        values = read_description(path) if is_given(path) else {}
    except DataError:  # check_description reports it
        return given
    declared = {name: values[name] for name in READING_KEYS if name in values}
    wrong = dict(find_problems(declared))
    for name, problem in wrong.items():
        faults.append(Fault("class-names", path, f"{name}: {problem}", "correct it"))
    open_options = {name for name in declared if getattr(given, name) is None} - wrong.keys()
    completed = replace(given, **{name: declared[name] for name in open_options})
    if (completed.images is None) != (completed.masks is None) and not wrong:
        faults.append(Fault("class-names", path, "names images or masks only", "name both"))
        return replace(completed, images=None, masks=None)
    return completed

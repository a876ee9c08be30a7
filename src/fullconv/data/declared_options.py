"""The reading options of a data set: those that are given, those in its dataset.yaml, and those without effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullconv.data.annotations.assembly import Drawing
from fullconv.data.classes import DESCRIPTION, READING_KEYS, find_class_keys, is_of_yolo, read_description
from fullconv.data.dataset import DataSet
from fullconv.data.reading import ReadingOptions, find_problems
from fullconv.errors import DataError, UsageError
from fullconv.faults import Fault
from fullconv.files import is_given

__all__ = ["find_options", "find_unused"]


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


def find_unused(root: Path, dataset: DataSet, name: str, given: ReadingOptions) -> list[Fault]:
    """Return a fault for each key of dataset.yaml about classes and masks that the reader of the layout does not use.

    Raises UsageError if `given` has `mask_nodata`, and the reader does not use it.
    """
    what = f"does not count in the {name} layout, where the format decides the classes"
    if given.mask_nodata is not None and "mask_nodata" not in dataset.class_keys:
        raise UsageError(f"--mask-nodata {what}; leave it out", code="mask-nodata-unused")
    path = dataset.root / DESCRIPTION
    used = {*dataset.class_keys, *(("names",) if is_of_yolo(path) else ())}
    is_drawn = any(isinstance(sample.reader, Drawing) for samples in dataset.splits.values() for sample in samples)
    files = "add `images` and `masks`, the patterns of the files, so that it counts"
    remedy = f"remove it, or {'change the classes in the annotations' if is_drawn else files}"
    unused = [key for key in find_class_keys(dataset.root) if key not in used]
    faults = [Fault("class-names", path, f"{key!r} {what}", remedy) for key in unused]
    for key in find_class_keys(root) if root != dataset.root else ():
        problem = f"{key!r} does not count here, because the data set is in {dataset.root}"
        faults.append(Fault("class-names", root / DESCRIPTION, problem, "move it there, or remove it"))
    return faults

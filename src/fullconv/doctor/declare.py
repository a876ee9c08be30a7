"""Write what was inferred about a data set into its dataset.yaml, so that it is read in the same way for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fullconv.data.classes import DESCRIPTION, read_description, write_description
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import survey
from fullconv.data.reading import BY_FILES
from fullconv.doctor.examine import Examination
from fullconv.errors import DataError
from fullconv.files import atomic_write

__all__ = ["declare"]


def declare(examination: Examination) -> tuple[Path, list[str]]:
    """Write the keys that dataset.yaml lacks; return its path and the keys.

    The data are then read again. If the file changes a pair, a split or a class, it is restored. Raises DataError then,
    and for data sets with errors.
    """
    dataset = examination.dataset
    if dataset is None or examination.errors:
        message = f"{examination.root}: has errors, so {DESCRIPTION} is not written; correct them first"
        raise DataError(message, code="not-declared")
    path = dataset.root / DESCRIPTION
    before = path.read_bytes() if path.is_file() else None
    present = read_description(path) if before is not None else {}
    added = {key: value for key, value in _keys(dataset).items() if key not in present}
    if (dataset.root / "classes.txt").is_file():
        added.pop("names", None)
        added.pop("palette", None)
    if not added:
        return path, []
    write_description(dataset.root, {**present, **added})
    again = survey(dataset.root, BY_FILES).dataset
    if again is None or _identity(again) != _identity(dataset):
        _restore(path, before)
        message = f"{examination.root}: cannot be described by {DESCRIPTION} without changing how it is read"
        raise DataError(f"{message}; nothing was written", code="not-declarable")
    return path, list(added)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
        return
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _keys(dataset: DataSet) -> dict[str, Any]:
    keys = {**dataset.declares, **dataset.options.to_dict()}
    for name in ("strict", "outside"):
        keys.pop(name, None)
    facts = dataset.range_facts
    if dataset.channels != 3:
        keys["channels"] = dataset.channels
    if facts is not None and facts.source == "training images":
        keys["range"] = [facts.low, facts.high]
    return keys


def _identity(dataset: DataSet) -> tuple[object, ...]:
    """Return what must be the same: the classes, and the image, mask and shown classes of every sample by split."""
    splits = {
        name: sorted((str(sample.image), str(sample.target), sorted(sample.shows or ())) for sample in samples)
        for name, samples in dataset.splits.items()
    }
    return dataset.labels.class_names, splits

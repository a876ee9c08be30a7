"""Write what was inferred about a data set into its dataset.yaml, so that it is read in the same way for good."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.data.classes import DESCRIPTION, describe_keys, read_description
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import survey
from fullconv.data.reading import BY_FILES
from fullconv.doctor.examine import Examination
from fullconv.documents import parse_yaml
from fullconv.errors import DataError
from fullconv.files import atomic_write

__all__ = ["declare"]

logger = logging.getLogger(__name__)


def declare(examination: Examination) -> tuple[Path, list[str]]:
    """Write the keys that dataset.yaml lacks; return its path and the keys.

    They are added at the end of the file, so its text stays. A file that cannot be continued, as in flow style, is
    written anew, and its text is in `dataset.yaml.bak`. The data are then read again. If the file changes a pair, a
    split or a class, or if reading is interrupted, it is restored. Raises DataError if it changes one of these, and for
    data sets with errors.
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
    text = None if before is None else _continue(path, before, present, added)
    copy = path.with_name(f"{path.name}.bak") if before is not None and text is None else None
    older = copy.read_bytes() if copy is not None and copy.is_file() else None
    try:
        if copy is not None and before is not None:
            _write(copy, before)
        _write(path, text or describe_keys({**present, **added}).encode())
        if not _is_read_as(dataset):
            message = f"{examination.root}: cannot be described by {DESCRIPTION} without changing how it is read"
            raise DataError(f"{message}; nothing was written", code="not-declarable")
    except BaseException:  # Ctrl-C, too
        _restore(path, before)
        if copy is not None:
            _restore(copy, older)
        raise
    if copy is not None:
        logger.info("%s: is written anew, without its comments; the old file is %s", path, copy)
    return path, list(added)


def _is_read_as(dataset: DataSet) -> bool:
    try:
        again = survey(dataset.root, BY_FILES).dataset
    except DataError:
        return False
    return again is not None and _identity(again) == _identity(dataset)


def _continue(path: Path, before: bytes, present: Mapping[Any, Any], added: Mapping[str, Any]) -> bytes | None:
    """Return the text of dataset.yaml with more keys at its end; None if this is no YAML with these keys."""
    end = b"\r\n" if b"\r\n" in before else b"\n"
    text = before if before.endswith((b"\n", b"\r")) else before + end
    text += describe_keys(added).encode().replace(b"\n", end)
    try:
        is_complete = parse_yaml(text.decode("utf-8-sig")) == {**present, **parse_yaml(describe_keys(added))}
    except ValueError:
        return None
    return text if is_complete else None


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    _write(path, content)


def _write(path: Path, content: bytes) -> None:
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

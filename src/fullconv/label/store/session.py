"""Begin a session on a folder of photos, or go on with an earlier one."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullconv.data.channels import detect_channels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.value_range import measure_range
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import InputFormat
from fullconv.label.store.classes import ClassTable
from fullconv.label.store.folder import STATE, choose_folders, link_images, write_dataset, write_splits
from fullconv.label.store.journal import Journal, read_journal
from fullconv.label.store.photos import Source, find_photos
from fullconv.label.store.store import Store
from fullconv.labels import LabelSet
from fullconv.locks import hold_lock

__all__ = ["FIRST_CLASSES", "open_session"]

FIRST_CLASSES = ("background", "object")
"""The classes of a session that names none."""

MEASURED = 20
"""Maximum number of images whose values decide the display range."""

VERSION = 1

logger = logging.getLogger(__name__)


@contextmanager
def open_session(
    photos: Path, out: Path | None = None, names: Sequence[str] = (), given: tuple[LabelSet, InputFormat] | None = None
) -> Iterator[Store]:
    """Open a session, and write everything at its end.

    `photos` is a folder of images, a data set, or the DATA of an earlier session; `out` is DATA. `names` are further
    classes. `given` are the classes and the image format of the model that a new session starts from.

    Raises UsageError for folders that cannot be used, and FullconvError if another process has the session open.
    """
    root, data = choose_folders(photos, out)
    with hold_lock(data / STATE / "lock", str(data)):
        path = data / STATE / "project.jsonl"
        lines, length = read_journal(path)
        source = find_photos(root, bool(lines[0].get("labelled")) if lines else None)
        link_images(root, data)
        project = Journal(path, length)
        if lines:
            classes, input = _resume(path, lines)
        else:
            classes, input, lines = _begin(project, source, names, given)
        for line in classes.add_all(_find_new_classes(source, classes), of_data=True):
            project.append(line)
        for line in classes.add_all([name for name in names if not classes.had(name)]):
            project.append(line)
        write_dataset(data, classes, input)
        write_splits(data, {photo.name: photo.split for photo in source.photos if photo.split})
        store = Store(source, data, classes, input, project, _session_id(lines[0], data))
        store.start()
        try:
            yield store
        finally:
            store.close()


def _begin(
    project: Journal, source: Source, names: Sequence[str], given: tuple[LabelSet, InputFormat] | None
) -> tuple[ClassTable, InputFormat, list[dict[str, Any]]]:
    """Decide classes and image format of a new session, and put them into its journal, whose lines are returned."""
    classes = ClassTable()
    if source.dataset is not None:
        labels, input = source.dataset.labels, _measure(source, source.dataset)
        lines = classes.add_all(labels.class_names, labels.palette, of_data=True)
    elif given is not None:
        labels, input = given
        lines = classes.add_all(labels.class_names, labels.palette)
    else:
        input = _measure(source, None)
        lines = classes.add_all(names or FIRST_CLASSES)
    head = {"op": "session", "version": VERSION, "id": secrets.token_hex(8), "labelled": source.dataset is not None}
    head |= {"channels": input.channels, "range": input.value_range, "classes": lines}
    project.append(head)
    return classes, input, [head]


def _resume(path: Path, lines: Sequence[dict[str, Any]]) -> tuple[ClassTable, InputFormat]:
    """Return classes and image format as a journal has them. Raises DataError if it is damaged."""
    classes, head = ClassTable(), lines[0]
    try:
        if head["version"] != VERSION:
            message = f"{path}: was written by a newer fullconv; install that version"
            raise DataError(message, code="newer-label-folder")
        bounds = head["range"]
        input = InputFormat(int(head["channels"]), None if bounds is None else (float(bounds[0]), float(bounds[1])))
        begun = [{**line, "of_data": bool(head["labelled"])} for line in head["classes"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        message = f"{path}: line 1 is damaged ({error}); restore the file from a copy, or remove it"
        raise DataError(message, code="damaged-journal") from error
    for line in [*begun, *lines[1:]]:
        classes.apply(line)
    return classes, input


def _find_new_classes(source: Source, classes: ClassTable) -> list[str]:
    """Return the classes that a data set has now and had not when its labelling began.

    Raises DataError if all of its names are others now: then nothing says which class is which.
    """
    names = source.dataset.labels.class_names if source.dataset is not None else ()
    new = [name for name in names if classes.key_of(name) is None]
    if new and len(new) == len(names):
        message = (
            f"{source.root}: none of its classes is one with which this labelling began ({', '.join(new[:12])}); "
            "put the names back, or begin another labelling with --out"
        )
        raise DataError(message, code="labels-renamed")
    if new:
        logger.warning(f"{source.root}: has new classes, which are added to those of this labelling: {', '.join(new)}")
    return new


def _session_id(head: dict[str, Any], data: Path) -> str:
    """Return the id of a session; folders of earlier versions have none, so theirs follows from their place."""
    place = os.path.realpath(data).encode("utf-8", "surrogateescape")
    return str(head.get("id") or hashlib.sha256(place).hexdigest()[:16])


def _measure(source: Source, dataset: DataSet | None) -> InputFormat:
    """Return the format of the images: their channels, and the range of their values if they have more than 8 bits."""
    chosen = source.photos[:: -(-len(source.photos) // MEASURED)]
    samples = tuple(Sample(photo.name, photo.path, photo.path) for photo in chosen)
    faults: list[Fault] = []
    if dataset is None:
        photos = DataSet("photos", source.root, LabelSet.named(["object"]), {"train": samples})
        dataset = detect_channels(photos, faults)
    else:
        dataset = DataSet(dataset.layout, dataset.root, dataset.labels, {"train": samples}, channels=dataset.channels,
                          value_range=dataset.value_range)  # fmt: skip
    measured = measure_range(dataset, faults)
    for fault in faults:
        logger.warning(f"{fault}")
    return measured.input

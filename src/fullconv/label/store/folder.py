"""DATA, the folder that a session writes: a link to the photos, masks, dataset.yaml, and the hidden state."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.data.classes import IGNORED_VALUE, PARTLY_KEY, write_description
from fullconv.data.formats.partly import SPLIT_FILE, is_partly_labelled
from fullconv.errors import FullconvError, UsageError
from fullconv.files import read_file, write_json
from fullconv.images import InputFormat
from fullconv.label.store.classes import ClassTable, show_color
from fullconv.labels import IGNORE_INDEX

__all__ = [
    "LIVE_MODEL",
    "STATE",
    "MaskRecord",
    "choose_folders",
    "is_label_folder",
    "link_images",
    "recall_start",
    "remember_start",
    "write_dataset",
    "write_splits",
]

STATE = ".label"
"""The hidden folder of DATA that holds journals and caches."""

LIVE_MODEL = "live.onnx"

logger = logging.getLogger(__name__)


def choose_folders(photos: Path, out: Path | None) -> tuple[Path, Path]:
    """Return the folder of the photos and the folder to write, DATA.

    A DATA of an earlier session may be given as the photos or as `out`. Raises UsageError if a folder is missing, is
    something else, or is inside of the photos.
    """
    if is_label_folder(photos):
        if out is not None and not _is_same(out, photos):
            message = f"{photos}: holds a labelling already; leave --out out, or name its photos"
            raise UsageError(message, code="label-folder-twice")
        return _linked_photos(photos), photos
    if not photos.is_dir():
        raise UsageError(f"{photos}: is not a folder; name a folder of images", code="not-a-photo-folder")
    real = Path(os.path.realpath(photos))
    data = real.parent / f"{real.name}-labels" if out is None else out
    if is_label_folder(data):
        linked = _linked_photos(data)
        if not _is_same(linked, photos):
            message = f"{data}: holds the labels of {linked}; name another folder with --out"
            raise UsageError(message, code="label-folder-of-others")
        return linked, data
    if data.exists() and not _is_fresh(data):
        message = f"{data}: is not empty, and is not a folder of fullconv label; name another folder with --out"
        raise UsageError(message, code="label-folder-taken")
    inside = Path(os.path.realpath(data))
    if real == inside or real in inside.parents or inside in real.parents:
        message = f"{data}: must be outside of the photos, which are never changed; name another folder with --out"
        raise UsageError(message, code="label-folder-inside")
    return photos, data


def _is_fresh(data: Path) -> bool:
    """Return whether a folder holds nothing, or only what a session that was ended at its very start has left."""
    if not data.is_dir():
        return False
    return all(path.name == STATE or (path.name == "images" and path.is_symlink()) for path in data.iterdir())


def is_label_folder(folder: Path) -> bool:
    """Return whether a session wrote this folder."""
    return (folder / STATE / "project.jsonl").is_file() or ((folder / STATE).is_dir() and is_partly_labelled(folder))


def link_images(photos: Path, data: Path) -> None:
    """Make DATA/images a link to the photos: a symbolic link, or a junction on Windows."""
    link = data / "images"
    if os.path.lexists(link):
        if not _is_same(link, photos):
            message = f"{link}: does not lead to {photos}; name another folder with --out"
            raise UsageError(message, code="label-folder-of-others")
        return
    target = os.path.realpath(photos)
    try:
        data.mkdir(parents=True, exist_ok=True)
        if os.name == "nt":
            command = ["cmd", "/c", "mklink", "/J", str(link), target]
            subprocess.run(command, check=True, capture_output=True)
        else:
            link.symlink_to(target, target_is_directory=True)
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"{link}: cannot be made a link to {photos} ({error}); name a folder on another disk with --out"
        raise FullconvError(message, code="no-link") from error


def write_dataset(data: Path, classes: ClassTable, input: InputFormat) -> None:
    """Write dataset.yaml: names and colours, what each value in masks is, and the format of the images."""
    names = [one.name for one in classes.classes]
    values: dict[str, Any] = {
        "names": names,
        "palette": [show_color(one.color) for one in classes.classes],
        "values": {**dict(enumerate(names)), IGNORE_INDEX: IGNORED_VALUE},
        PARTLY_KEY: True,
    }
    if input.channels != 3:
        values["channels"] = input.channels
    if input.value_range is not None:
        values["range"] = list(input.value_range)
    write_description(data, values)


def write_splits(data: Path, splits: Mapping[str, str]) -> None:
    """Write which split each image belongs to, unless none is known."""
    if splits:
        write_json(data / SPLIT_FILE, splits)


def remember_start(data: Path, model: Path) -> None:
    """Note the model that later sessions start from; one inside of DATA by its place there, as DATA may be moved."""
    path, folder = Path(os.path.abspath(model)), os.path.abspath(data)
    noted = path.relative_to(folder) if path.is_relative_to(folder) else path
    write_json(data / STATE / "start.json", {"model": noted.as_posix()})


def recall_start(data: Path) -> Path | None:
    """Return the model that an earlier session started from or trained; None, with a warning, if it is gone."""
    try:
        path = data / str(json.loads(read_file(data / STATE / "start.json"))["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if path.is_file():
        return path
    logger.warning(f"{path}: the model from which this labelling started is gone; put it back, or name it with --model")
    return None


class MaskRecord:
    """What the mask on the disk was made of: kept next to the journals, one small file for each image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, id: str) -> dict[str, Any]:
        """Return what `write` wrote, with counts by key; nothing if there is no complete record."""
        try:
            values = json.loads(read_file(self.folder / f"{id}.json"))
            counts = {int(key): int(count) for key, count in values["counts"].items() if 0 <= int(key) < IGNORE_INDEX}
            known = {"made_of": values["made_of"], "mask": str(values["mask"]), "pixels": max(1, int(values["pixels"]))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return {}
        return {**known, "counts": counts}

    def write(self, id: str, values: Mapping[str, Any]) -> None:
        """Write the record of a mask, after the mask."""
        write_json(self.folder / f"{id}.json", values)


def _linked_photos(data: Path) -> Path:
    link = data / "images"
    if not link.is_dir():
        message = f"{link}: leads to no folder; put the photos back, or make the link again"
        raise UsageError(message, code="photos-gone")
    return Path(os.path.realpath(link))


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)

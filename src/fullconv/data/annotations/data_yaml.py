"""The description of a YOLO data set: `data.yaml` with class names and splits, or a file of names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.documents import parse_yaml
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file

__all__ = ["KEYS", "DataYaml", "describes_yolo", "find_data_yaml", "read_names_file"]

KEYS = frozenset(
    {
        *("path", "train", "val", "valid", "test", "minival", "nc", "names", "names_zh", "channels", "download"),
        *("kpt_shape", "kpt_names", "flip_idx", "skeleton", "roboflow", "yaml_file", "masks_dir", "task"),
    }
)
"""The keys of `data.yaml` that tools write."""

SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
"""Files with one class name in each line."""


@dataclass(frozen=True)
class DataYaml:
    """What `data.yaml` says.

    Attributes:
        path: The file.
        names: The class names in the order of their ids; empty if the file has none.
        splits: The paths of each split as they are written: folders of images, or lists.
        base: The value of `path`, the folder to which the paths are relative; may be empty or foreign.
        has_keypoints: Whether the rows are boxes with keypoints.
    """

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    base: str
    has_keypoints: bool


def find_data_yaml(root: Path) -> DataYaml | None:
    """Return the YAML file in `root` with class names and the paths of splits, or None.

    The file may have any name; of several, `data.yaml` is read. Raises DataError for names that cannot be used, and for
    several files where none is called `data.yaml`.
    """
    described = {}
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        values = _load(path)
        if describes_yolo(values) or (path.stem == "data" and values.get("names")):
            described[path] = values
    if not described:
        return None
    named = [path for path in described if path.stem == "data"] or list(described)
    if len(named) > 1:
        listed = ", ".join(path.name for path in named)
        problem = f"may be the description of the data set, as {len(named) - 1} other file(s) may ({listed})"
        raise DataError.of(Fault("class-names", named[0], problem, "rename the right one to data.yaml"))
    return _read(named[0], described[named[0]])


def read_names_file(folder: Path) -> tuple[str, ...]:
    """Return the class names of a text file in `folder` with one in each line; nothing if there is no such file.

    Raises DataError if the file is not text.
    """
    path = next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    path = path or next(iter(sorted(folder.glob("*.names"))), None)
    if path is None:
        return ()
    try:
        lines = read_file(path).decode("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.of(
            Fault("class-names", path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8")
        ) from None
    return tuple(line.strip() for line in lines)


def _load(path: Path) -> dict[Any, Any]:
    """Return the keys of a YAML file; none if it is no map. Raises DataError if data.yaml is not YAML."""
    try:
        values = parse_yaml(read_file(path).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        if path.stem != "data":  # other files are reported where they are used
            return {}
        problem = f"cannot be read as YAML ({' '.join(str(error).split())})"
        raise DataError.of(Fault("class-names", path, problem, "write `names:` and a list of class names")) from None
    return values if isinstance(values, dict) else {}


def describes_yolo(values: Mapping[Any, Any]) -> bool:
    """Return whether these are the keys of a YOLO description: names or their number, and keys that only it has."""
    keys = {key for key in values if isinstance(key, str)}
    return bool(keys & {"names", "nc"}) and (bool(keys & {"nc", "path"}) or {"train", "val"} <= keys)


def _read(path: Path, values: Mapping[Any, Any]) -> DataYaml:
    splits: dict[str, tuple[str, ...]] = {}
    for key, split in SPLIT_KEYS.items():
        value = values.get(key)
        entries = value if isinstance(value, list) else [value]
        if value and split not in splits:
            splits[split] = tuple(str(entry) for entry in entries if isinstance(entry, str) and entry.strip())
    base = values.get("path")
    names = _names(path, values)
    return DataYaml(path, names, splits, base if isinstance(base, str) else "", "kpt_shape" in values)


def _names(path: Path, values: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names, a list or a map by id; without names, `class_0` and so on, as ultralytics calls them."""
    names, count = values.get("names"), values.get("nc")
    if names is None and type(count) is int and 0 < count < 255:
        return tuple(f"class_{index}" for index in range(count))
    if isinstance(names, dict) and names:
        by_id = {int(key): value for key, value in names.items() if str(key).isdecimal()}
        if sorted(by_id) != list(range(len(names))):
            problem = f"the ids of 'names' are {', '.join(map(str, list(names)[:8]))}"
            raise DataError.of(Fault("class-names", path, problem, f"they must be 0 to {len(names) - 1}"))
        names = [by_id[index] for index in range(len(by_id))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int | float) for name in names):
        problem = f"'names' is {names!r}"
        raise DataError.of(Fault("class-names", path, problem, "it must be a list of names, or a map with ids as keys"))
    if type(count) is int and count != len(names):
        problem = f"'nc' is {count}, but 'names' has {len(names)} names"
        raise DataError.of(Fault("class-names", path, problem, "correct one of them"))
    return tuple(str(name).strip() for name in names)

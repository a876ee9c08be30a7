"""Class names: those that belong to a layout, and those that a user writes into the data set's folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fullconv.data.annotations.data_yaml import KEYS as YOLO_KEYS
from fullconv.data.annotations.data_yaml import describes_yolo, find_data_yaml
from fullconv.documents import parse_yaml
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import is_given, read_file, write_text
from fullconv.labels import LabelSet, voc_palette

__all__ = [
    "CAMVID_LABELS",
    "DESCRIPTION",
    "IGNORED_VALUE",
    "MASK_KEYS",
    "PARTLY_KEY",
    "READING_KEYS",
    "VOC_LABELS",
    "DeclaredValues",
    "are_placeholders",
    "check_description",
    "describe_keys",
    "describe_line",
    "find_class_keys",
    "find_labels",
    "is_of_yolo",
    "name_published",
    "read_description",
    "read_labels",
    "read_values",
    "write_description",
]

DESCRIPTION = "dataset.yaml"

PIXEL_KEYS = ("channels", "range")
"""The keys of dataset.yaml about the images; `channels.detect_channels` reads them."""

READING_KEYS = ("images", "masks", "mask_nodata", "unlabelled", "val_share", "val_by")
"""The keys of dataset.yaml about files and splits; `reading.find_options` reads them."""

CLASS_KEYS = ("names", "palette")

VALUE_KEYS = ("values", "nearest")
"""The keys of dataset.yaml about what mask files store; `read_values` reads them."""

MASK_KEYS = (*CLASS_KEYS, *VALUE_KEYS, "mask_nodata")
"""The keys of dataset.yaml about classes and masks; `DataSet.class_keys` are those that a reader uses."""

PARTLY_KEY = "partly_labelled"
"""The key of dataset.yaml that says that images without masks are not labelled yet; see `formats/partly.py`."""

IGNORED_VALUE = "ignore"
"""The word in `values` for pixels without a class."""

KEYS = (*CLASS_KEYS, *VALUE_KEYS, *PIXEL_KEYS, *READING_KEYS, PARTLY_KEY)

_CAMVID_COLORS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

CAMVID_LABELS = LabelSet(tuple(_CAMVID_COLORS), tuple(_CAMVID_COLORS.values()))
"""The eleven classes of SegNet's CamVid, in its order and colours."""

VOC_LABELS = LabelSet.named(
    [
        *(
            "background",
            "aeroplane",
            "bicycle",
            "bird",
            "boat",
            "bottle",
            "bus",
            "car",
            "cat",
            "chair",
            "cow",
        ),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
        "tvmonitor",
    ],
    voc_palette(21),
)
"""The background and the twenty classes of PASCAL VOC."""


def find_labels(root: Path) -> tuple[LabelSet, bool] | None:
    """Read the labels from `classes.txt`, `dataset.yaml` or `data.yaml`, and whether the file gives colours.

    `classes.txt` holds one name per line, in the order of the ids. `dataset.yaml` holds `names`, a list or a map from
    id to name, and optionally `palette`, in the same form, with entries `[r, g, b]` or `"#rrggbb"`. `data.yaml` is
    ultralytics' description and counts only without the other two. Returns None if there is no such file, or if
    `dataset.yaml` has no key about classes. Raises DataError with all faults of the
    file.
    """
    text, description = root / "classes.txt", root / DESCRIPTION
    keys = set(read_description(description)) if is_given(description) else set()
    if not is_given(text):
        return _read_yaml(description) if keys - {*KEYS} | keys & {*CLASS_KEYS} else _read_data_yaml(root)
    if keys & set(CLASS_KEYS):
        raise _error(root, "has both classes.txt and dataset.yaml", "keep one of them")
    return _label_set(text, _text_names(text), None), False


def _read_data_yaml(root: Path) -> tuple[LabelSet, bool] | None:
    described = find_data_yaml(root)
    return None if described is None else (_label_set(described.path, list(described.names), None), False)


def are_placeholders(names: Sequence[str]) -> bool:
    """Return whether class names are those of classes that no file names: `class_` and the value in the masks."""
    return all(re.fullmatch(r"class_-?\d+", name) for name in names)


@dataclass(frozen=True)
class DeclaredValues:
    """The class name, or `IGNORED_VALUE`, of each number, "#rrggbb" and "transparent" in masks.

    With `nearest`, other values have the class of the nearest one.
    """

    entries: dict[int | str, str]
    nearest: bool


def read_values(root: Path) -> DeclaredValues | None:
    """Read `values` and `nearest` of dataset.yaml; None if it has no `values`. Raises DataError for wrong entries."""
    path = root / DESCRIPTION
    described = read_description(path) if is_given(path) else {}
    values, nearest = described.get("values"), described.get("nearest", False)
    if values is None and "nearest" in described:
        raise _error(path, "has 'nearest', but no 'values'", "add values, or remove nearest")
    if values is None:
        return None
    named = find_labels(root)
    known = None if named is None else {*named[0].class_names, IGNORED_VALUE}
    if not isinstance(values, dict) or not values or not isinstance(nearest, bool):
        problem = f"'values' is {values!r}" if nearest in (True, False) else f"'nearest' is {nearest!r}"
        raise _error(path, problem, "write values as a map such as {0: background, 255: cell}, and nearest as true")
    for key, name in values.items():
        is_color = isinstance(key, str) and (key == "transparent" or re.fullmatch(r"#[0-9a-f]{6}", key.lower()))
        if not is_color and (not isinstance(key, int) or isinstance(key, bool)):
            raise _error(path, f"'values' has the key {key!r}", 'write a number, "#rrggbb" in quotes, or transparent')
        if not isinstance(name, str) or (known is not None and name not in known):
            raise _error(path, f"'values' gives {key!r} the class {name!r}", "write one of `names`, or ignore")
    entries = {key.lower() if isinstance(key, str) else key: name for key, name in values.items()}
    return DeclaredValues(entries, nearest)


def find_class_keys(root: Path) -> list[str]:
    """Return the keys of dataset.yaml about classes and masks; none if it is damaged."""
    path = root / DESCRIPTION
    try:
        described = read_description(path) if is_given(path) else {}
    except DataError:  # check_description reports it
        return []
    return [key for key in MASK_KEYS if key in described]


def name_published(root: Path, published: LabelSet) -> LabelSet | None:
    """Return the classes of a published data set, with the names of a file of `root` that gives as many.

    Returns None if a file gives another number of classes, states what the masks hold, or is damaged: then `root` holds
    other data in the same folders.
    """
    path = root / DESCRIPTION
    try:
        keys = set(read_description(path)) if is_given(path) else set()
        if keys & {*VALUE_KEYS, "palette"}:
            return None
        named = "names" in keys or is_given(root / "classes.txt")
        labels = find_labels(root) if named else _read_data_yaml(root)
    except DataError:
        return None
    if labels is None:
        return published
    names = labels[0].class_names
    return replace(published, class_names=names) if len(names) == published.num_classes else None


def check_description(root: Path) -> Sequence[Fault]:
    """Return the faults of dataset.yaml that every layout has: unknown keys, a damaged file, the name dataset.yml."""
    path, other = root / DESCRIPTION, root / "dataset.yml"
    if not is_given(path):
        fault = Fault("class-names", other, "is not read under this name", f"rename it to {DESCRIPTION}")
        return [fault] if other.is_file() and not is_of_yolo(other) else []
    try:
        return _unknown_keys(path, read_description(path))
    except DataError as error:
        return error.faults_at(path)


def read_labels(num_classes: int, path: Path | None = None) -> LabelSet:
    """Read `num_classes` labels from a file in the form of `classes.txt` or `dataset.yaml`; without a path, VOC's.

    Raises DataError if the file has another number of classes, and for all faults of the file.
    """
    if path is None:
        labels, source = VOC_LABELS, "PASCAL VOC has"
    elif path.suffix in (".yaml", ".yml"):
        labels, source = _read_yaml(path)[0], f"{path} names"
    else:
        labels, source = _label_set(path, _text_names(path), None), f"{path} names"
    if labels.num_classes != num_classes:
        raise DataError(
            f"the weights have {num_classes} classes, but {source} {labels.num_classes}; "
            "give a file with one name per line, in the order of the ids, with --classes FILE",
            code="class-count-differs",
        )
    return labels


def _text_names(path: Path) -> list[str]:
    lines = [line.strip() for line in _text(path).rstrip().splitlines()]
    if not lines:
        raise _error(path, "is empty", "write one class name per line")
    blank = [str(number) for number, line in enumerate(lines, 1) if not line]
    if blank:
        raise _error(path, f"blank lines ({', '.join(blank)}) would shift the class ids", "remove them")
    return lines


def read_description(path: Path) -> dict[Any, Any]:
    """Read the keys of dataset.yaml and their values, unchecked. Raises DataError unless the file is a YAML map."""
    try:
        values = parse_yaml(_text(path))
    except ValueError as error:
        raise _error(path, f"is not YAML ({error})", "write `names:` and a list of class names") from None
    if not isinstance(values, dict) or not values:
        raise _error(path, "has no keys", "write `names:` and a list of class names")
    return values


def write_description(folder: Path, values: Mapping[str, Any]) -> None:
    """Write dataset.yaml with these keys into a folder."""
    write_text(folder / DESCRIPTION, describe_keys(values))


def describe_keys(values: Mapping[str, Any]) -> str:
    """Return the text of dataset.yaml with these keys."""
    return yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False, default_flow_style=None)


def describe_line(key: str, value: Any) -> str:
    """Return a key of dataset.yaml and its value as one line in backticks, ready to be copied."""
    text = yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20)
    return f"`{text.strip()[1:-1]}`"


def _read_yaml(path: Path) -> tuple[LabelSet, bool]:
    values = read_description(path)
    faults = _unknown_keys(path, values)
    names = _entries(path, values, "names", faults)
    palette = _entries(path, values, "palette", faults) if "palette" in values else None
    for name in names:
        if not isinstance(name, str) or not name.strip():
            faults.append(_fault(path, f"the class name {name!r} is not text", "write it in quotes"))
    colors = [_color(path, value, faults) for value in palette or ()]
    repeated = sorted({color for color in colors if colors.count(color) > 1})
    if repeated and not faults:
        faults.append(_fault(path, f"classes share the colour {list(repeated[0])}", "give each class another colour"))
    if faults:
        raise DataError(f"{path}: cannot be used", faults)
    return _label_set(path, names, None if palette is None else colors), palette is not None


def _unknown_keys(path: Path, values: dict[Any, Any]) -> list[Fault]:
    known = {*KEYS, *(YOLO_KEYS if describes_yolo(values) else ())}
    return [_unknown_key(path, key) for key in values if key not in known]


def is_of_yolo(path: Path) -> bool:
    """Return whether a file is ultralytics' description of a data set."""
    try:
        return describes_yolo(read_description(path))
    except DataError:
        return False


def _unknown_key(path: Path, key: Any) -> Fault:
    similar = difflib.get_close_matches(str(key).lower(), KEYS, n=1, cutoff=0.7)
    hint = f"did you mean {similar[0]!r}?" if similar else f"the keys are {', '.join(KEYS[:-1])} and {KEYS[-1]}"
    return _fault(path, f"unknown key {key!r}", hint)


def _entries(path: Path, values: dict[Any, Any], key: str, faults: list[Fault]) -> list[Any]:
    """Return the value of a key, a list or a map from 0..n-1, as a list; add a fault for any other value."""
    entries = values.get(key)
    if isinstance(entries, dict) and entries:
        ids = [i for i in entries if isinstance(i, int)]
        if sorted(ids) == list(range(len(entries))):
            return [entries[i] for i in range(len(entries))]
        problem = f"the ids of {key!r} are {list(entries)}"
        faults.append(_fault(path, problem, f"they must be 0 to {len(entries) - 1}"))
    elif isinstance(entries, list) and entries:
        return entries
    else:
        faults.append(_fault(path, f"{key!r} is {entries!r}", "it must be a list, or a map with ids as keys"))
    return []


def _color(path: Path, value: Any, faults: list[Fault]) -> tuple[int, int, int]:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        value = list(bytes.fromhex(value[1:]))
    if isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
        return value[0], value[1], value[2]
    remedy = 'write [r, g, b] of 0 to 255, or "#rrggbb" in quotes'
    faults.append(_fault(path, f"{value!r} is not a colour", remedy))
    return 0, 0, 0


def _label_set(path: Path, names: list[str], palette: list[tuple[int, int, int]] | None) -> LabelSet:
    try:
        return LabelSet.named([name.strip() for name in names], palette)
    except DataError as error:
        raise _error(path, str(error), "correct the names") from None


def _text(path: Path) -> str:
    try:
        return read_file(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, f"cannot be read as UTF-8 text ({error})", "save it as UTF-8") from None


def _fault(path: Path, problem: str, remedy: str) -> Fault:
    return Fault("class-names", path, problem, remedy)


def _error(path: Path, problem: str, remedy: str) -> DataError:
    return DataError.of(_fault(path, problem, remedy))

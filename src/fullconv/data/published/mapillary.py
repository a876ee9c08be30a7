"""Read Mapillary Vistas, whose `config.json` names the classes. Of several versions of the labels, the newest."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.class_tables.json_tables import read_json_table
from fullconv.data.class_tables.table import ClassTable, table_error
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import pair_files
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.labels import IGNORE_INDEX, LabelSet, default_palette

__all__ = ["is_mapillary", "read_mapillary"]

FOLDERS = {"train": "training", "val": "validation"}


def is_mapillary(root: Path) -> bool:
    """Return whether `root` has Mapillary's folders and a `config.json` for their labels."""
    return (root / "training" / "images").is_dir() and bool(_versions(root))


def read_mapillary(root: Path, faults: list[Fault]) -> DataSet | None:
    """Read `training` and `validation`: `images`, and `labels` or `vX.Y/labels`, 8 bits.

    The number of a class is its place in the config. Classes with `"evaluate": false` are ignored.
    """
    versions = _versions(root)
    version = max(versions, key=lambda name: [int(part) for part in name[1:].split(".") if part.isdecimal()])
    try:
        table = _read_config(versions[version])
    except DataError as error:
        faults += error.faults_at(versions[version])
        return None
    splits: dict[str, tuple[Sample, ...]] = {}
    for split, folder in FOLDERS.items():
        if split == "train" or (root / folder / "images").is_dir():
            splits[split] = pair_files(root / folder / "images", root / folder / version / "labels", faults, split)
    kept = [(place, entry) for place, entry in enumerate(table.entries) if not entry.ignored]
    ids = {place: index for index, (place, _) in enumerate(kept)}
    remap = tuple((place, ids.get(place, IGNORE_INDEX)) for place in range(len(table.entries)))
    colors = [entry.color for _, entry in kept]
    palette = [color or fallback for color, fallback in zip(colors, default_palette(len(kept)), strict=True)]
    about = f"{len(kept)} classes from {versions[version].name}, without those that it does not evaluate"
    newest = f"of the labels {', '.join(sorted(versions))}, the newest are read: {version}"
    labels = LabelSet.named([entry.name for _, entry in kept], palette)
    inferences = (newest,) if len(versions) > 1 else ()
    return DataSet("mapillary", root, labels, splits, remap=remap, about=about, inferences=inferences)


def _versions(root: Path) -> dict[str, Path]:
    """Return the config of each version of the labels; "" is the one without a folder."""
    training = root / "training"
    names = ["", *sorted(path.name for path in training.glob("v[0-9]*"))]
    configs = {name: root / (f"config_{name}.json" if name else "config.json") for name in names}
    return {
        name: config for name, config in configs.items() if (training / name / "labels").is_dir() and _is_config(config)
    }


def _is_config(path: Path) -> bool:
    """Return whether a file has the words of Mapillary's config, and not those of a program's settings."""
    try:
        content = read_file(path)
    except OSError:
        return False
    return b'"labels"' in content and b'"evaluate"' in content and b'"readable"' in content


def _read_config(path: Path) -> ClassTable:
    try:
        table = read_json_table(path, read_file(path).decode("utf-8-sig"), named=False)
    except (OSError, UnicodeDecodeError) as error:
        raise table_error(path, f"cannot be read as UTF-8 text ({error})") from None
    if table is None or not table.stated:
        raise table_error(path, "has no list of labels with `readable` or `evaluate`")
    return table

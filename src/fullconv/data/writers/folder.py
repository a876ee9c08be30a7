"""The folder layout: images/SPLIT, masks/SPLIT and dataset.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fullconv.arrays import UInt8
from fullconv.data.writers.layout_writer import Item, LayoutWriter, Records, image_in_split_folder
from fullconv.images import write_label_map
from fullconv.labels import LabelSet

__all__ = ["FOLDER"]


def _write_target(folder: Path, item: Item, target: UInt8, labels: LabelSet) -> None:
    write_label_map(folder / "masks" / item.split / f"{item.name}.png", target, labels)


def _finish(folder: Path, labels: LabelSet, records: Records) -> dict[str, Any]:
    return {"names": list(labels.class_names), "palette": [list(color) for color in labels.palette]}


FOLDER = LayoutWriter(image_in_split_folder, _write_target, _finish)

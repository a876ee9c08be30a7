"""VOC's layout with labelmap.txt, which CVAT imports as "segmentation mask 1.1"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fullconv.arrays import UInt8
from fullconv.data.formats.cvat import IMAGES, LABEL_MAP, LISTS, MASKS
from fullconv.data.splits import SPLITS
from fullconv.data.writers.layout_writer import Item, LayoutWriter, Records
from fullconv.files import write_text
from fullconv.images import write_label_map
from fullconv.labels import LabelSet

__all__ = ["VOC"]


def _image_path(item: Item) -> Path:
    return Path(IMAGES, item.image_name)


def _write_target(folder: Path, item: Item, target: UInt8, labels: LabelSet) -> None:
    write_label_map(folder / MASKS / f"{item.name}.png", target, labels)


def _finish(folder: Path, labels: LabelSet, records: Records) -> dict[str, Any]:
    for split in SPLITS:
        names = [item.name for item, _ in records if item.split == split]
        if names:
            write_text(folder / LISTS / f"{split}.txt", "".join(f"{name}\n" for name in names))
    colors = (",".join(map(str, color)) for color in labels.palette)
    lines = [f"{name}:{color}::\n" for name, color in zip(labels.class_names, colors, strict=True)]
    write_text(folder / LABEL_MAP, "# label:color_rgb:parts:actions\n" + "".join(lines))
    return {}


VOC = LayoutWriter(_image_path, _write_target, _finish)

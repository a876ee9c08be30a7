"""The layout of labelme: a JSON file next to each image, and labels.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.annotations.assembly import IGNORED
from fullconv.data.annotations.shapes import fill_rings
from fullconv.data.formats.labelme import LABELS_FILE
from fullconv.data.writers.layout_writer import Item, LayoutWriter, Records, shape_labels
from fullconv.files import write_json, write_text
from fullconv.images.labelme_document import labelme_document
from fullconv.images.polygons import Region, find_regions
from fullconv.labels import LabelSet

__all__ = ["LABELME"]


def _image_path(item: Item) -> Path:
    return Path(item.split, item.image_name)


def _write_target(folder: Path, item: Item, target: UInt8, labels: LabelSet) -> None:
    """Write the outer rings from the largest to the smallest: labelme has no holes and draws later shapes on top."""
    names, uncovered = shape_labels(labels)
    polygons = [(names[region.label], region.rings[0]) for region in _regions_to_draw(target, uncovered)]
    document = labelme_document(polygons, (target.shape[0], target.shape[1]), item.image_name)
    write_json(folder / item.split / f"{item.name}.json", document)


def _regions_to_draw(target: UInt8, uncovered: int) -> list[Region]:
    """Return the regions whose outer rings give the label map, the largest first.

    An `uncovered` region must be drawn only if the outer ring of another region covers it.
    """
    size = (target.shape[0], target.shape[1])
    regions = sorted(find_regions(target), key=lambda region: region.filled_area, reverse=True)
    covered = np.zeros(size, bool)
    for region in regions:
        if region.label != uncovered and len(region.rings) > 1:
            patch = fill_rings(region.rings[:1], size)
            covered[patch.slices] |= patch.mask
    drawn = []
    for region in regions:
        x, y = region.rings[0][0]  # a ring begins with the upper side of one of its pixels
        if region.label != uncovered or covered[y, x]:
            drawn.append(region)
    return drawn


def _finish(folder: Path, labels: LabelSet, records: Records) -> dict[str, Any]:
    write_text(folder / LABELS_FILE, "".join(f"{name}\n" for name in (IGNORED, *labels.class_names)))
    return {}


LABELME = LayoutWriter(_image_path, _write_target, _finish)

"""COCO: one JSON file for each split, with polygons, and run lengths for regions with holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.annotations.rle import count_runs, pack_counts
from fullconv.data.annotations.shapes import fill_rings
from fullconv.data.formats.coco import UNCOVERED
from fullconv.data.splits import SPLITS
from fullconv.data.writers.layout_writer import Item, LayoutWriter, Records, image_in_split_folder, shape_labels
from fullconv.files import write_json
from fullconv.images import image_size
from fullconv.images.polygons import Region, find_regions
from fullconv.labels import LabelSet

__all__ = ["COCO"]


def _annotate(folder: Path, item: Item, target: UInt8, labels: LabelSet) -> list[dict[str, Any]]:
    """Return the annotations of one image, without their ids."""
    _, uncovered = shape_labels(labels)
    size = (target.shape[0], target.shape[1])
    return [_annotate_region(region, size) for region in find_regions(target) if region.label != uncovered]


def _annotate_region(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    outer = region.rings[0]
    (left, top), (right, bottom) = outer.min(0).tolist(), outer.max(0).tolist()
    segmentation: Any = [outer.ravel().tolist()]
    if len(region.rings) > 1:
        mask = np.zeros(size, bool)
        mask[top:bottom, left:right] = fill_rings(region.rings, size).mask
        segmentation = {"size": list(size), "counts": pack_counts(count_runs(mask))}
    return {
        "category_id": region.label + 1,
        "iscrowd": 0,
        "area": region.pixels,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": segmentation,
    }


def _finish(folder: Path, labels: LabelSet, records: Records) -> dict[str, Any]:
    names, uncovered = shape_labels(labels)
    categories = [{"id": label + 1, "name": name} for label, name in names.items()]
    info = {"description": "pixels without an annotation are " + names[uncovered], UNCOVERED: names[uncovered]}
    for split in SPLITS:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for item, regions in records:
            if item.split != split:
                continue
            height, width = image_size(item.sample.image)
            number = len(images) + 1
            images.append({"id": number, "file_name": item.image_name, "width": width, "height": height})
            first = len(annotations) + 1
            annotations += [{"id": first + i, "image_id": number} | region for i, region in enumerate(regions)]
        values = {"info": info, "images": images, "categories": categories, "annotations": annotations}
        if images:
            write_json(folder / "annotations" / f"{split}.json", values)
    return {}


COCO = LayoutWriter(image_in_split_folder, _annotate, _finish)

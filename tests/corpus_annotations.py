"""Faults of annotations in COCO's form, for corpus.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corpus_base import SIZE, image, save, scene

__all__ = ["coco", "coco_of_another_size", "coco_unknown_category", "coco_without_an_image", "write_coco"]

Content = dict[str, list[dict[str, Any]]]
BOXES = {1: [8, 8, 30, 8, 30, 24, 8, 24], 2: [36, 20, 60, 20, 60, 44, 36, 44]}


def coco(root: Path) -> dict[str, Content]:
    """A box of each of two classes in every image; what the two files hold, by their names."""
    contents = {}
    for split, count in (("train", 3), ("val", 2)):
        images, shapes = [], []
        for number in range(count):
            path = save(image(root, f"{split}{number}", split=split), scene(number + 10 * count))
            images.append({"id": number, "file_name": path.name, "width": SIZE[1], "height": SIZE[0]})
            for category, box in BOXES.items():
                shape = {"id": len(shapes), "image_id": number, "category_id": category, "segmentation": [box]}
                shapes.append(shape | {"iscrowd": 0, "area": 500})
        categories = [{"id": 1, "name": "roof"}, {"id": 2, "name": "tree"}]
        contents[f"instances_{split}.json"] = {"images": images, "annotations": shapes, "categories": categories}
    return contents


def write_coco(root: Path, contents: dict[str, Content]) -> Path:
    """Write the files; returns the one of the split train."""
    folder = root / "annotations"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / "instances_train.json"


def coco_unknown_category(root: Path) -> Path:
    contents = coco(root)
    contents["instances_train.json"]["annotations"][0]["category_id"] = 9
    return write_coco(root, contents)


def coco_without_an_image(root: Path) -> Path:
    contents = coco(root)
    image(root, "train1").unlink()
    return write_coco(root, contents)


def coco_of_another_size(root: Path) -> Path:
    contents = coco(root)
    contents["instances_train.json"]["images"][1]["width"] += 1
    return write_coco(root, contents)

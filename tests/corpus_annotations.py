"""Faults of annotations in the forms of COCO and labelme, for corpus.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corpus_base import SIZE, STEMS, image, save, scene

__all__ = [
    "coco",
    "coco_of_another_size",
    "coco_unknown_category",
    "coco_without_an_image",
    "empty_polygon",
    "write_coco",
]

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


def _labelme(root: Path) -> None:
    """The good base set, but for its ignored border, as labelme has it."""
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        path = save(root / split / f"{stem}.png", scene(number))
        boxes = {"roof": [(8, 6), (32, 6), (32, 24), (8, 24)], "tree": [(40, 24), (64, 24), (64, 44), (40, 44)]}
        shapes = [{"label": name, "points": points, "shape_type": "polygon"} for name, points in boxes.items()]
        values = {"shapes": shapes, "imagePath": path.name, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        path.with_suffix(".json").write_text(json.dumps(values), encoding="utf-8")


def empty_polygon(root: Path) -> Path:
    _labelme(root)
    path = root / "train" / "b.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["shapes"].append({"label": "roof", "points": [(50, 9), (52, 9)], "shape_type": "polygon"})
    path.write_text(json.dumps(values), encoding="utf-8")
    return path

"""Faults of annotations in COCO, labelme and Label Studio, for corpus.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corpus_base import SIZE, STEMS, image, save, scene

__all__ = [
    "coco",
    "coco_box_only",
    "coco_odd_polygon",
    "coco_odd_polygons",
    "coco_of_another_size",
    "coco_other_names",
    "coco_truncated",
    "coco_unknown_category",
    "coco_unknown_image",
    "coco_without_an_image",
    "empty_polygon",
    "label_studio_image_twice",
    "labelme_line",
    "labelme_loose_box",
    "labelme_next_to_splits",
    "labelme_outside",
    "labelme_twice",
    "labelme_unknown_type",
    "labelme_without_shapes",
    "write_coco",
]

Content = dict[str, list[dict[str, Any]]]
BOXES = {1: [8, 8, 30, 8, 30, 24, 8, 24], 2: [36, 20, 60, 20, 60, 44, 36, 44]}


def coco(root: Path) -> dict[str, Content]:
    """Save images. Return the content of the two JSON files, by name: two boxes of different classes in every image."""
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
    """Write the files, and return the path of the train file."""
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
    """Write the base set without faults in labelme's format, without its ignored border."""
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
    values["shapes"].append({"label": "roof", "points": [(50, 9), (52, 9), (54, 9)], "shape_type": "polygon"})
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def coco_other_names(root: Path) -> Path:
    contents = coco(root)
    contents["instances_val.json"]["categories"][0]["name"] = "house"
    write_coco(root, contents)
    return root / "annotations" / "instances_val.json"


def coco_unknown_image(root: Path) -> Path:
    contents = coco(root)
    contents["instances_train.json"]["annotations"][0]["image_id"] = 99
    return write_coco(root, contents)


def coco_odd_polygon(root: Path, count: int = 1) -> Path:
    contents = coco(root)
    for annotation in contents["instances_train.json"]["annotations"][:count]:
        annotation["segmentation"] = [[8, 8, 30, 8, 30]]
    return write_coco(root, contents)


def coco_odd_polygons(root: Path) -> Path:
    return coco_odd_polygon(root, 2)


def coco_box_only(root: Path) -> Path:
    contents = coco(root)
    del contents["instances_train.json"]["annotations"][0]["segmentation"]
    return write_coco(root, contents)


def coco_truncated(root: Path) -> Path:
    path = write_coco(root, coco(root))
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    return path


def labelme_next_to_splits(root: Path) -> Path:
    _labelme(root)
    for suffix in (".png", ".json"):
        (root / "train" / f"c{suffix}").rename(root / f"c{suffix}")
    return root


def labelme_twice(root: Path) -> Path:
    _labelme(root)
    path = root / "train" / "b.json"
    path.with_name("b2.json").write_bytes(path.read_bytes())
    return path.with_name("b2.json")


def labelme_outside(root: Path) -> Path:
    _labelme(root)
    path = root / "train" / "b.json"
    path.with_suffix(".png").rename(root.parent / "elsewhere.png")
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"imagePath": "../../elsewhere.png"}), encoding="utf-8")
    return path


def _add_to_labelme(root: Path, shape: dict[str, Any]) -> Path:
    _labelme(root)
    path = root / "train" / "b.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["shapes"].append(shape)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def labelme_line(root: Path) -> Path:
    return _add_to_labelme(root, {"label": "roof", "points": [(5, 9), (52, 9)], "shape_type": "line"})


def labelme_unknown_type(root: Path) -> Path:
    return _add_to_labelme(root, {"label": "roof", "points": [(5, 9), (52, 9)], "shape_type": "cube"})


def labelme_loose_box(root: Path) -> Path:
    """Add a box around the roof (24 x 18 pixels) of more than double its height."""
    return _add_to_labelme(root, {"label": "roof", "points": [(4, 4), (36, 46)], "shape_type": "rectangle"})


def labelme_without_shapes(root: Path) -> Path:
    _labelme(root)
    for path in root.rglob("*.json"):
        values = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(values | {"shapes": []}), encoding="utf-8")
    return root


def label_studio_image_twice(root: Path) -> Path:
    """Write two regions of different labels for every image; two files have the name of one image."""
    regions = [
        {"x": 10, "y": 10, "width": 40, "height": 40, "rectanglelabels": ["roof"]},
        {"x": 60, "y": 50, "width": 38, "height": 40, "rectanglelabels": ["tree"]},
    ]
    sides = {"original_width": SIZE[1], "original_height": SIZE[0]}
    result = [{"type": "rectanglelabels", "value": region} | sides for region in regions]
    number = 0
    for split, stems in STEMS.items():
        tasks = []
        for stem in stems:
            save(root / "images" / f"{stem}.png", scene(number))
            tasks.append({"id": number, "data": {"image": f"{stem}.png"}, "annotations": [{"result": result}]})
            number += 1
        (root / f"{split}.json").write_text(json.dumps(tasks), encoding="utf-8")
    save(root / "more" / "b.png", scene(30))
    return root / "train.json"

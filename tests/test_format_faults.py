"""Faults of annotations name the file, the image and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from data_sets import faults_of, put_grey, put_json
from fullconv.data.layouts import find_dataset, survey
from fullconv.doctor.examine import examine
from fullconv.faults import Fault

SIZE = (6, 8)
put_image = partial(put_grey, size=SIZE)
SQUARE = [(1, 1), (5, 1), (5, 5), (1, 5)]
Points = list[tuple[int, int]]

# Shapes without pixels: three equal corners, a line, outside of the image, between pixel centres.
EMPTY: list[Points] = [
    [(3, 3)] * 3, [(1, 1), (3, 2), (5, 3)], [(20, 1), (30, 1), (30, 5)],
    [(1, 1), (1, 2), (1, 4)],
]  # fmt: skip


def flat(points: Points) -> list[int]:
    return [value for point in points for value in point]


def labelme(root: Path, polygons: list[Points]) -> Path:
    shapes = [{"label": "cat", "points": points, "shape_type": "polygon"} for points in polygons]
    put_json(root / "train" / "a.json", {"shapes": shapes, "imagePath": "a.png"})
    put_image(root / "train" / "a.png")
    return root / "train" / "a.json"


def coco(root: Path, segmentations: list[Any]) -> Path:
    """Write two images; only the first one has annotations."""
    images = [{"id": i, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate("ab")]
    annotations = [{"image_id": 0, "category_id": 1, "segmentation": one} for one in segmentations]
    file = root / "annotations" / "train.json"
    put_json(file, {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    for name in "ab":
        put_image(root / "images" / f"{name}.png")
    return file


def coco_polygons(root: Path, polygons: list[Points]) -> Path:
    return coco(root, [[flat(points)] for points in polygons])


def datumaro(root: Path, polygons: list[Points]) -> Path:
    shapes = [{"type": "polygon", "label_id": 0, "points": flat(points)} for points in polygons]
    labels = {"label": {"labels": [{"name": "cat"}]}}
    put_json(root / "annotations" / "train.json", {"categories": labels, "items": [{"id": "a", "annotations": shapes}]})
    put_image(root / "images" / "train" / "a.png")
    return root / "annotations" / "train.json"


def label_studio(root: Path, polygons: list[Points]) -> Path:
    results = [
        {
            "type": "polygonlabels",
            "original_width": SIZE[1],
            "original_height": SIZE[0],
            "value": {"points": [(100 * x / SIZE[1], 100 * y / SIZE[0]) for x, y in points], "polygonlabels": ["cat"]},
        }
        for points in polygons
    ]
    put_json(root / "train.json", [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": results}]}])
    put_image(root / "a.png")
    return root / "train.json"


def findings(root: Path, kind: str) -> list[Fault]:
    groups = examine(survey(root)).groups
    return [fault for group in groups if group.kind == kind for fault in group.faults]


@pytest.mark.parametrize("make", [labelme, coco_polygons, datumaro, label_studio])
def test_shapes_that_cover_no_pixel_are_a_warning_with_file_image_and_label(
    tmp_path: Path, make: Callable[[Path, list[Points]], Path]
) -> None:
    file = make(tmp_path, [SQUARE, *EMPTY])
    assert find_dataset(tmp_path).read(find_dataset(tmp_path).split("train")[0])[1].sum() == 16
    (finding,) = findings(tmp_path, "empty-polygon")
    image = next(tmp_path.rglob("a.png"))
    assert (finding.path, finding.severity) == (file, "warning")
    assert (finding.sample, finding.split) == ("a", "train")
    assert f"{len(EMPTY)} shapes of 'cat' on {image}" in finding.problem
    make(tmp_path, [SQUARE])
    assert findings(tmp_path, "empty-polygon") == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("rectanglelabels", {"x": 3, "y": 3, "width": 0, "height": 9}),
        ("ellipselabels", {"x": 3, "y": 3, "radiusX": 0, "radiusY": 0}),
    ],
)
def test_empty_rectangles_and_ellipses_of_label_studio_are_warnings(
    tmp_path: Path, kind: str, value: dict[str, Any]
) -> None:
    file = label_studio(tmp_path, [SQUARE])
    tasks = json.loads(file.read_text())
    region = {"type": kind, "value": {**value, kind: ["dog"]}, "original_width": SIZE[1], "original_height": SIZE[0]}
    tasks[0]["annotations"][0]["result"].append(region)
    put_json(file, tasks)
    (finding,) = findings(tmp_path, "empty-polygon")
    assert (finding.path, finding.sample) == (file, "a")


def test_faults_in_one_annotation_file_for_all_name_the_image(tmp_path: Path) -> None:
    coco_polygons(tmp_path, [SQUARE])
    (finding,) = findings(tmp_path, "background-image")
    assert finding.path == tmp_path / "images" / "b.png"
    tasks = json.loads(label_studio(tmp_path / "ls", [SQUARE]).read_text())
    tasks[0]["annotations"][0]["result"][0] |= {"type": "brushlabels", "value": {"rle": [1, 2], "brushlabels": ["cat"]}}
    put_json(tmp_path / "ls" / "train.json", tasks)
    (finding,) = findings(tmp_path / "ls", "truncated-file")
    assert (finding.path, finding.sample) == (tmp_path / "ls" / "train.json", "a")


@pytest.mark.parametrize(
    "counts",
    [[2**70], [0, 10**400], [2**63 - 1, 2**63 - 1, 50], "oooooooN" * 3],
    ids=["64 bits exceeded", "400 digits", "sum overflows", "compressed"],
)
def test_runs_longer_than_the_image_are_a_fault_of_the_file(tmp_path: Path, counts: Any) -> None:
    file = coco(tmp_path, [{"size": SIZE, "counts": counts}])
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.sample) == ("damaged-shape", file, "a")
    assert fault.problem.startswith("annotation number 0: ")


@pytest.mark.parametrize("side", [0, -6, 2**70, 10**400], ids=["zero", "negative", "64 bits exceeded", "400 digits"])
def test_impossible_image_sizes_are_invalid_annotations(tmp_path: Path, side: int) -> None:
    file = label_studio(tmp_path, [SQUARE])
    file.write_text(file.read_text().replace('"original_width": 8', f'"original_width": {side}'))
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("invalid-annotations", file)
    assert "original_width" in fault.problem


@pytest.mark.parametrize("name", ["annotations/train.json", "dataset.yaml"])
def test_files_nested_too_deeply_are_a_fault(tmp_path: Path, name: str) -> None:
    file = coco_polygons(tmp_path, [SQUARE])
    deep = "[" * 100_000 + "]" * 100_000
    file.write_text(file.read_text()[:-1] + (f', "info": {deep}}}' if file == tmp_path / name else "}"))
    (tmp_path / "dataset.yaml").write_text("channels: 3" if file == tmp_path / name else f"range: {deep}")
    (fault,) = faults_of(tmp_path)
    assert fault.path == tmp_path / name
    assert fault.kind == ("class-names" if name == "dataset.yaml" else "invalid-annotations")


@pytest.mark.parametrize("make", [labelme, coco_polygons])
def test_an_image_turned_by_exif_under_unturned_shapes_is_a_fault(
    tmp_path: Path, make: Callable[[Path, list[Points]], Path]
) -> None:
    file = make(tmp_path, [SQUARE])
    values = json.loads(file.read_text())
    put_json(file, values | {"imageHeight": SIZE[0], "imageWidth": SIZE[1]})
    exif, image = Image.Exif(), next(tmp_path.rglob("a.png"))
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(image, exif=exif)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.sample, fault.sure) == ("exif-rotation", file, "a", False)
    Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(image)
    assert [fault.kind for fault in faults_of(tmp_path)] == ["size-mismatch"]


def test_an_array_of_transposed_size_is_a_size_mismatch(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder / "train").mkdir(parents=True)
    np.save(tmp_path / "images" / "train" / "a.npy", np.zeros((*SIZE[::-1], 3), np.uint8))
    put_image(tmp_path / "masks" / "train" / "a.png")
    (tmp_path / "classes.txt").write_text("ground\ncat\n")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("size-mismatch", tmp_path / "masks" / "train" / "a.png")

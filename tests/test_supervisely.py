"""Supervisely projects: the label maps are compared pixel by pixel."""

from __future__ import annotations

import base64
import io
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of, put_grey, put_json, targets
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.errors import DataError

SIZE = (12, 16)
put_image = partial(put_grey, size=SIZE)
CLASSES = [
    {"title": "roof", "shape": "polygon", "color": "#ff0000"},
    {"title": "car", "shape": "rectangle"},
    {"title": "tree", "shape": "bitmap"},
]


def polygon(label: str, *rings: list[list[int]]) -> dict[str, Any]:
    return {"classTitle": label, "geometryType": "polygon", "points": {"exterior": rings[0], "interior": [*rings[1:]]}}


def rectangle(x: int, y: int, right: int, bottom: int) -> list[list[int]]:
    return [[x, y], [right, y], [right, bottom], [x, bottom]]


def bitmap(label: str, mask: np.ndarray, origin: list[int], style: str = "palette") -> dict[str, Any]:
    image = Image.fromarray(mask.astype(np.uint8))
    stream = io.BytesIO()
    if style == "palette":
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(stream, "PNG", transparency=0)
    elif style == "alpha":
        Image.fromarray(np.dstack([mask * 0, mask * 0, mask * 0, mask * 255]).astype(np.uint8)).save(stream, "PNG")
    else:
        Image.fromarray((mask * 255).astype(np.uint8)).convert("1").save(stream, "PNG")
    data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
    return {"classTitle": label, "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}


def annotate(folder: Path, name: str, objects: list[dict[str, Any]], tags: list[Any] | None = None) -> Path:
    put_image(folder / "img" / f"{name}.jpg")
    content = {"description": "", "tags": tags or [], "size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
    return put_json(folder / "ann" / f"{name}.jpg.json", content)


RING = polygon("roof", rectangle(1, 2, 9, 10), rectangle(3, 4, 6, 8))
RING_MAP = np.zeros(SIZE, np.uint8)
RING_MAP[2:10, 1:9] = 1
RING_MAP[4:8, 3:6] = 0


def names_of(dataset: DataSet) -> dict[str, list[str]]:
    return {split: [sample.name for sample in samples] for split, samples in dataset.splits.items()}


@pytest.mark.parametrize("style", ["palette", "alpha", "bits"])
def test_polygons_with_holes_and_bitmaps_are_drawn_in_order(tmp_path: Path, style: str) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES, "tags": [], "projectType": "images"})
    mask = np.triu(np.ones((4, 5), bool))
    for split in ("train", "val"):
        annotate(tmp_path / split, f"{split}_1", [RING, bitmap("tree", mask, [2, 3], style)])
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("supervisely", ("background", "roof", "tree"))
    assert names_of(dataset) == {"train": ["train/train_1"], "val": ["val/val_1"]}
    expected = RING_MAP.copy()
    expected[3:7, 2:7][mask] = 2
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, expected)
    assert "classes of boxes, points and lines are left out: car" in dataset.about


@pytest.mark.parametrize("dataset_folder", [".", "ds0", "a/datasets/b"])
def test_tags_name_the_split_where_no_dataset_does(tmp_path: Path, dataset_folder: str) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    annotate(tmp_path / dataset_folder, "a", [RING], [{"name": "train", "value": None}])
    annotate(tmp_path / dataset_folder, "b", [RING], ["val", "good"])
    annotate(tmp_path / dataset_folder, "c", [RING], [{"name": "sunny"}, {"name": "Training"}])
    dataset = find_dataset(tmp_path)
    assert names_of(dataset) == {"train": ["a", "c"], "val": ["b"]}
    annotate(tmp_path / dataset_folder, "d", [RING])
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "ambiguous-split"


def test_several_datasets_without_split_are_one_set(tmp_path: Path) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    for folder in ("north", "south"):
        for number in range(3):
            annotate(tmp_path / folder, str(number), [RING])
    dataset = find_dataset(tmp_path)
    assert sorted(targets(dataset)) == [f"{folder}/{i}" for folder in ("north", "south") for i in range(3)]
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, RING_MAP)


def test_boxes_points_and_lines_have_no_area(tmp_path: Path) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    box = {"classTitle": "car", "geometryType": "rectangle", "points": {"exterior": [[0, 0], [5, 5]], "interior": []}}
    line = {"classTitle": "roof", "geometryType": "line", "points": {"exterior": [[0, 0], [5, 5]], "interior": []}}
    annotate(tmp_path / "train", "a", [box, RING, line])
    annotate(tmp_path / "train", "b", [box])
    annotate(tmp_path / "val", "c", [RING])
    assert names_of(find_dataset(tmp_path)) == {"train": ["train/a"], "val": ["val/c"]}
    (warning,) = survey(tmp_path).faults
    assert (warning.kind, warning.path) == ("no-area", tmp_path / "train/ann")
    assert "3 annotations without area (2 rectangle, 1 line) on 2 images" in warning.problem
    assert "1 image has no other shape and is left out, first train/b" in warning.problem


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (bitmap("tree", np.ones((2, 2), bool), [15, 0]), "damaged-shape"),
        (
            {"classTitle": "tree", "geometryType": "bitmap", "bitmap": {"data": "eJw=", "origin": [0, 0]}},
            "damaged-shape",
        ),
        ({"classTitle": "tree", "geometryType": "bitmap", "bitmap": {"data": "?", "origin": [0, 0]}}, "damaged-shape"),
        ({"classTitle": "tree", "geometryType": "polygon"}, "damaged-shape"),
        ({"classTitle": "tree", "geometryType": "volume"}, "unsupported-shape"),
        (polygon("lake", rectangle(0, 0, 4, 4)), "unknown-class"),
    ],
)
def test_objects_that_cannot_be_drawn_name_their_file(tmp_path: Path, damage: dict[str, Any], kind: str) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    path = annotate(tmp_path / "train", "a", [RING, damage, damage])
    annotate(tmp_path / "val", "c", [RING])
    with pytest.raises(DataError) as caught:
        targets(find_dataset(tmp_path))
    assert {(fault.kind, fault.path) for fault in caught.value.faults} == {(kind, path)}


def test_without_meta_json_all_labels_are_classes_and_missing_images_are_faults(tmp_path: Path) -> None:
    annotate(tmp_path, "a", [RING])
    annotate(tmp_path, "b", [polygon("lake", rectangle(0, 0, 4, 4))])
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "lake", "roof")
    (tmp_path / "img/a.jpg").unlink()
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.sample) == ("missing-image", tmp_path / "ann/a.jpg.json", "a")


def test_a_single_bitmap_that_is_not_a_png_leaves_its_image_out(tmp_path: Path) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    data = base64.b64encode(zlib.compress(b"no PNG")).decode()
    damaged = {"classTitle": "tree", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [0, 0]}}
    for number in range(4):
        annotate(tmp_path, str(number), [RING, *([] if number else [damaged])])
    assert targets(find_dataset(tmp_path)).keys() == {"1", "2", "3"}
    (warning,) = survey(tmp_path).faults
    assert (warning.kind, warning.sample) == ("skipped-shape", "0")
    assert "object 2 (tree) has a damaged mask" in warning.problem


def test_annotations_and_images_in_two_unicode_forms_belong_together(tmp_path: Path) -> None:
    put_json(tmp_path / "meta.json", {"classes": CLASSES})
    path = annotate(tmp_path / "set", "gro\u0308sse", [RING])
    path.rename(path.with_name("gr\u00f6sse.jpg.json"))
    annotate(tmp_path / "set", "b", [RING])
    assert not survey(tmp_path).faults
    assert sum(map(len, find_dataset(tmp_path).splits.values())) == 2

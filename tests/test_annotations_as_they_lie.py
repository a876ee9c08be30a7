"""Annotation files as people have them: the label maps are compared pixel by pixel."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from data_sets import faults_of, targets, warnings_of
from fullconv.arrays import UInt8
from fullconv.data.annotations.boxes import Boxes
from fullconv.data.annotations.shapes import Rasterizer, fill_rings
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_training_data

SIZE = (64, 96)
SQUARE = [[10, 10], [40, 10], [40, 40], [10, 40]]
TRIANGLE = [[10, 10], [40, 10], [10, 40]]
BOX = [[10, 10], [40, 40]]


def covered(rows: slice, columns: slice, label: int = 1, size: tuple[int, int] = SIZE) -> UInt8:
    target = np.zeros(size, np.uint8)
    target[rows, columns] = label
    return target


SQUARE_MAP = covered(slice(10, 40), slice(10, 40))
TRIANGLE_MAP = np.array([[x >= 10 and y >= 10 and x + y + 1 < 50 for x in range(96)] for y in range(64)]).astype(
    np.uint8
)


def picture(path: Path, size: tuple[int, int] = SIZE, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path, **more)


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


# labelme


def shape(label: str, points: list[list[int]], kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind}


def labelme(path: Path, shapes: list[dict[str, Any]], image: str | None = None, **more: Any) -> Path:
    values = {"shapes": shapes, "imagePath": image or f"{path.stem}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return write(path, values | {"imageData": None} | more)


def test_points_and_lines_of_labelme_are_one_warning_per_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = [shape("tip", [[3, 3]], "point"), shape("tip", [[3, 3]], "point"), shape("edge", BOX, "line")]
    for number in range(3):
        labelme(tmp_path / f"a{number}.json", [*extra[: number * 2], shape("roof", SQUARE)])
        picture(tmp_path / f"a{number}.png")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    first, second = warnings_of(tmp_path)
    assert (first.kind, first.path, first.sample) == ("no-area", tmp_path / "a1.json", "a1")
    assert "2 annotations without area (2 point)" in first.problem
    assert "first shape 1 (tip) on a1" in first.problem
    assert "3 annotations without area (2 point, 1 line)" in second.problem


def test_an_image_with_only_points_is_left_out_and_a_set_of_only_points_is_an_error(tmp_path: Path) -> None:
    for number in range(3):
        shapes = [shape("roof", SQUARE)] if number else [shape("roof", [[3, 3]], "point")]
        labelme(tmp_path / f"a{number}.json", shapes)
        picture(tmp_path / f"a{number}.png")
    assert targets(find_dataset(tmp_path)).keys() == {"a1", "a2"}
    (warning,) = warnings_of(tmp_path)
    assert "1 image has no other shape and is left out, first a0" in warning.problem
    for number in (1, 2):
        labelme(tmp_path / f"a{number}.json", [shape("roof", [[3, 3]], "point")])
    assert {fault.kind for fault in faults_of(tmp_path)} == {"no-shapes"}


@pytest.mark.parametrize(
    ("files", "images"),
    [("images", "images"), ("json", "images"), ("annotations", "photos"), ("images/train", "images/train"),
     ("json/train", "images/train")],
)  # fmt: skip
def test_labelme_files_may_be_in_images_or_in_a_folder_of_their_own(tmp_path: Path, files: str, images: str) -> None:
    for number in range(3):
        labelme(tmp_path / files / f"a{number}.json", [shape("roof", SQUARE)])
        picture(tmp_path / images / f"a{number}.png")
    dataset = find_dataset(tmp_path)
    assert dataset.layout == "labelme"
    assert dataset.splits.keys() == {"train", "val"}
    for name, target in targets(dataset).items():
        assert name in ("a0", "a1", "a2")
        np.testing.assert_array_equal(target, SQUARE_MAP)


def test_folders_of_splits_decide_between_labelme_images_of_the_same_name(tmp_path: Path) -> None:
    for split, points in (("train", SQUARE), ("val", TRIANGLE)):
        labelme(tmp_path / "json" / split / "a.json", [shape("roof", points)], r"C:\me\a.png")
        picture(tmp_path / "images" / split / "a.png")
    dataset = find_dataset(tmp_path)
    for split, target in (("train", SQUARE_MAP), ("val", TRIANGLE_MAP)):
        (sample,) = dataset.split(split)
        assert sample.image == tmp_path / "images" / split / "a.png"
        np.testing.assert_array_equal(dataset.read(sample)[1], target)


def test_the_image_in_a_labelme_file_is_used_if_there_is_no_image_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    for number in range(2):
        data = base64.b64encode(buffer.getvalue()).decode()
        labelme(tmp_path / f"a{number}.json", [shape("roof", SQUARE)], imageData=data)
    before = sorted(tmp_path.rglob("*"))
    dataset = find_dataset(tmp_path)
    (sample,) = dataset.split("train")
    image, target = dataset.read(sample)
    np.testing.assert_array_equal(image, pixels)
    np.testing.assert_array_equal(target, SQUARE_MAP)
    assert sorted(tmp_path.rglob("*")) == before
    labelme(tmp_path / "a0.json", [shape("roof", SQUARE)], imageData="bm8gaW1hZ2U=")
    assert [(fault.kind, fault.sample) for fault in faults_of(tmp_path)] == [("not-an-image", "a0")]


# COCO


def coco(root: Path, annotations: list[dict[str, Any]], names: list[str], size: tuple[int, int] = SIZE) -> Path:
    sides = {"height": size[0], "width": size[1]}
    images = [{"id": number, "file_name": name, **sides} for number, name in enumerate(names)]
    values = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "roof"}]}
    return write(root / "annotations" / "instances.json", values)


def annotation(number: int, image: int, segmentation: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "segmentation": segmentation, "bbox": [10, 10, 30, 30]}


def polygon(points: list[list[int]]) -> list[list[int]]:
    return [[value for point in points for value in point]]


def test_empty_segmentations_of_coco_are_one_warning_and_the_image_is_used(tmp_path: Path) -> None:
    names = [f"a{number}.png" for number in range(3)]
    for name in names:
        picture(tmp_path / "images" / name)
    annotations = [annotation(number, number, polygon(SQUARE)) for number in range(3)]
    file = coco(tmp_path, [*annotations, annotation(9, 0, []), annotation(10, 1, None)], names)
    found = targets(find_dataset(tmp_path))
    assert found.keys() == {"a0", "a1", "a2"}
    for target in found.values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path) == ("no-area", file)
    assert "2 annotations" in warning.problem
    assert "first annotation 9 on a0" in warning.problem


def test_a_single_broken_annotation_is_named_and_its_image_left_out(tmp_path: Path) -> None:
    names = [f"a{number}.png" for number in range(3)]
    for name in names:
        picture(tmp_path / "images" / name)
    annotations = [annotation(number, number, polygon(SQUARE)) for number in range(3)]
    file = coco(tmp_path, [*annotations, annotation(9, 1, [[1, 2, 3, 4, 5]])], names)
    assert targets(find_dataset(tmp_path)).keys() == {"a0", "a2"}
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path, warning.sample) == ("skipped-shape", file, "a1")
    assert warning.problem.startswith("annotation 9")
    coco(tmp_path, [*annotations, *[annotation(number, 1, [[1, 2, 3, 4, 5]]) for number in (9, 10)]], names)
    assert {fault.kind for fault in faults_of(tmp_path)} == {"damaged-shape"}


def test_foreign_paths_of_coco_are_found_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["/home/u/proj/a0.png", "..\\ResizeImage\\a1.png", "C:\\me\\a2.png"]
    for number in range(3):
        picture(tmp_path / "images" / f"a{number}.png")
    coco(tmp_path, [annotation(number, number, polygon(SQUARE)) for number in range(3)], names)
    with caplog.at_level(logging.INFO, "fullconv"):
        found = targets(find_dataset(tmp_path))
    assert found.keys() == {"a0", "a1", "a2"}
    assert ["3 image(s) found by the name" in record.getMessage() for record in caplog.records] == [True]
    picture(tmp_path / "more" / "a1.png")
    assert [(fault.kind, fault.sample) for fault in faults_of(tmp_path)] == [("ambiguous-image", "a1")]
    picture(tmp_path / "more" / "ResizeImage" / "a1.png")
    assert targets(find_dataset(tmp_path)).keys() == {"a0", "a1", "a2"}


# EXIF


def turned(root: Path, points: list[list[list[int]]], orientation: int, stated: tuple[int, int] = SIZE) -> None:
    """Write photos of 96 x 64 stored pixels with an EXIF orientation, and a polygon on each."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    names = [f"p{number}.jpg" for number in range(len(points))]
    for name in names:
        picture(root / "images" / name, exif=exif)
    coco(root, [annotation(number, number, polygon(one)) for number, one in enumerate(points)], names, stated)


LOW = [[10, 60], [40, 60], [40, 90], [10, 90]]
RIGHT = [[60, 10], [90, 10], [90, 40], [60, 40]]


def test_shapes_that_fit_only_the_upright_photo_are_drawn_on_it(tmp_path: Path) -> None:
    turned(tmp_path, [LOW, SQUARE], 6)
    dataset = find_dataset(tmp_path)
    np.testing.assert_array_equal(targets(dataset)["p0"], covered(slice(60, 90), slice(10, 40), size=(96, 64)))
    np.testing.assert_array_equal(targets(dataset)["p1"], covered(slice(10, 40), slice(10, 40), size=(96, 64)))
    assert "2 image(s) with an EXIF orientation fit the upright pixels" in dataset.about


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_shapes_that_fit_only_the_stored_photo_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    turned(tmp_path, [RIGHT, SQUARE], orientation)
    dataset = find_dataset(tmp_path)
    stored = Image.fromarray(covered(slice(10, 40), slice(60, 90)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    steps = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE}
    expected = np.asarray(stored.transpose(steps.get(orientation, Image.Transpose.ROTATE_90)))
    np.testing.assert_array_equal(targets(dataset)["p0"], expected)
    assert "2 image(s) with an EXIF orientation fit the stored pixels" in dataset.about


def test_shapes_that_fit_both_readings_are_a_question(tmp_path: Path) -> None:
    turned(tmp_path, [SQUARE], 6)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.sample, fault.sure) == ("exif-rotation", "p0", False)
    assert "swap width and height" in fault.remedy
    assert "exiftool -Orientation=" in fault.remedy
    turned(tmp_path, [SQUARE], 6, (96, 64))
    np.testing.assert_array_equal(
        targets(find_dataset(tmp_path))["p0"], covered(slice(10, 40), slice(10, 40), size=(96, 64))
    )


def test_shapes_that_fit_only_the_transposed_image_are_a_fault(tmp_path: Path) -> None:
    turned(tmp_path, [LOW, SQUARE], 1)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.sample, fault.sure) == ("exif-rotation", "p0", False)


# Label Studio


def region(label: str, points: list[list[int]], to: str = "image", kind: str = "polygonlabels") -> dict[str, Any]:
    value = {"points": [[x / 0.96, y / 0.64] for x, y in points], kind: [label]}
    return {"type": kind, "to_name": to, "original_width": 96, "original_height": 64, "value": value}


def rectangle(x: int, y: int, width: int, height: int, label: str = "roof") -> dict[str, Any]:
    value = {"x": x / 0.96, "y": y / 0.64, "width": width / 0.96, "height": height / 0.64, "rectanglelabels": [label]}
    sides = {"original_width": 96, "original_height": 64}
    return {"type": "rectanglelabels", "to_name": "image", "value": value} | sides


def label_studio(root: Path, results: list[dict[str, Any]], count: int = 3) -> Path:
    for number in range(count):
        picture(root / f"0123abcd-a{number}.png")
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/0123abcd-a{number}.png"},
            "annotations": [{"result": results}],
        }
        for number in range(count)
    ]
    return write(root / "export.json", tasks)


def test_key_points_of_label_studio_are_one_warning_for_the_file(tmp_path: Path) -> None:
    value = {"x": 20, "y": 20, "width": 0.5, "keypointlabels": ["tip"]}
    point = {"type": "keypointlabels", "original_width": 96, "original_height": 64, "value": value}
    file = label_studio(tmp_path, [point, region("roof", SQUARE)])
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof")
    assert len(targets(dataset)) == 3
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path) == ("no-area", file)
    assert "3 annotations without area (3 keypoint) on 3 images" in warning.problem
    assert "first task 0: region 1 on 0123abcd-a0" in warning.problem


def test_a_box_around_a_polygon_of_its_label_is_not_filled(tmp_path: Path) -> None:
    label_studio(tmp_path, [rectangle(10, 10, 30, 30), region("roof", TRIANGLE), rectangle(60, 20, 20, 10)])
    dataset = find_dataset(tmp_path)
    expected = TRIANGLE_MAP.copy()
    expected[20:30, 60:80] = 1  # a box alone is a shape
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, expected)
    assert "3 box(es) around a mask or polygon of their label are not filled" in dataset.about


def test_many_boxes_take_seconds(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    shapes: list[tuple[str, Rasterizer]] = [("roof", partial(fill_rings, (np.array(BOX, np.float64),)))] * 2000
    started = time.process_time()
    assert len(Boxes().drop(shapes, [*range(2000)], SIZE, tmp_path / "a.json", tmp_path / "a.png")) == 2000
    assert time.process_time() - started < 5


def test_boxes_of_other_labels_and_loose_boxes_are_filled(tmp_path: Path) -> None:
    label_studio(tmp_path, [rectangle(10, 10, 30, 30, "yard"), region("roof", TRIANGLE)])
    expected = SQUARE_MAP * 2
    expected[TRIANGLE_MAP == 1] = 1
    np.testing.assert_array_equal(next(iter(targets(find_dataset(tmp_path)).values())), expected)
    label_studio(tmp_path, [rectangle(0, 0, 90, 60), region("roof", TRIANGLE)])
    assert {fault.kind for fault in warnings_of(tmp_path)} == {"box-over-shape"}
    np.testing.assert_array_equal(
        next(iter(targets(find_dataset(tmp_path)).values())), covered(slice(0, 60), slice(0, 90))
    )


def two_images(root: Path, keys: tuple[str, str], tags: tuple[str, str]) -> Path:
    tasks = []
    for number in (0, 2):
        names = [f"a{number + step}.png" for step in (0, 1)]
        for name in names:
            picture(root / name)
        results = [region("roof", SQUARE, tags[0]), region("tree", TRIANGLE, tags[1])]
        data = {key: f"/data/upload/1/{name}" for key, name in zip(keys, names, strict=True)}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results}]})
    return write(root / "export.json", tasks)


@pytest.mark.parametrize(
    ("keys", "tags"),
    [(("image1", "image2"), ("img1", "img2")), (("left", "right"), ("left", "right")), (("b_2", "a_1"), ("x2", "x1"))],
)
def test_each_image_of_a_task_gets_its_own_regions(
    tmp_path: Path, keys: tuple[str, str], tags: tuple[str, str]
) -> None:
    two_images(tmp_path, keys, tags)
    found = targets(find_dataset(tmp_path))
    assert found.keys() == {"a0", "a1", "a2", "a3"}
    for number in (0, 2):
        np.testing.assert_array_equal(found[f"a{number}"], SQUARE_MAP)
        np.testing.assert_array_equal(found[f"a{number + 1}"], TRIANGLE_MAP * 2)


def test_regions_that_may_belong_to_several_images_are_a_question(tmp_path: Path) -> None:
    file = two_images(tmp_path, ("before", "after"), ("x", "y"))
    fault = faults_of(tmp_path)[0]
    assert (fault.kind, fault.path) == ("ambiguous-image", file)
    assert "sed -i" in fault.remedy
    text = file.read_text(encoding="utf-8")
    for tag, key in (("x", "before"), ("y", "after")):  # what the command does
        text = text.replace(f'"to_name": "{tag}"', f'"to_name": "{key}"')
    file.write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(targets(find_dataset(tmp_path))["a1"], TRIANGLE_MAP * 2)


def test_a_list_of_images_in_a_task_is_numbered_by_item_index(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    results = [region("roof", SQUARE) | {"item_index": 0}, region("tree", TRIANGLE) | {"item_index": 1}]
    write(
        tmp_path / "export.json",
        [{"id": 1, "data": {"pages": ["a.png", "b.png"]}, "annotations": [{"result": results}]}],
    )
    found = targets(find_dataset(tmp_path))
    np.testing.assert_array_equal(found["a"], SQUARE_MAP)
    np.testing.assert_array_equal(found["b"], TRIANGLE_MAP * 2)


# CVAT for images


def cvat(root: Path, shapes: str, head: str = "", meta: str = "") -> Path:
    for number in range(3):
        picture(root / "images" / f"{number}.png")
    images = "".join(f'<image id="{n}" name="{n}.png" width="96" height="64">{shapes}</image>' for n in range(3))
    text = f'<?xml version="1.0"?>{head}<annotations><version>1.1</version>{meta}{images}</annotations>'
    (root / "annotations.xml").write_text(text, encoding="utf-8")
    return root / "annotations.xml"


def test_cvat_for_images_is_read_by_z_order_and_file_order(tmp_path: Path) -> None:
    labels = "".join(f"<label><name>{name}</name><color>#ff0000</color></label>" for name in ("tree", "roof"))
    cvat(
        tmp_path,
        '<polygon label="roof" points="10,10;40,10;10,40" z_order="1"/>'
        '<box label="tree" xtl="10" ytl="10" xbr="40" ybr="40"/>'
        '<mask label="roof" rle="2,2,2" left="80" top="50" width="3" height="2"/><points label="tree" points="1,1"/>'
        '<ellipse label="tree" cx="70" cy="20" rx="4" ry="2" rotation="90"/>',
        meta=f"<meta><task><labels>{labels}</labels></task></meta>",
    )
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "tree", "roof")
    expected = SQUARE_MAP.copy()
    expected[TRIANGLE_MAP == 1] = 2
    expected[50, 82] = expected[51, 80] = 2
    for row, half in zip(range(16, 24), (1, 2, 2, 2, 2, 2, 2, 1), strict=True):
        expected[row, 70 - half : 70 + half] = 1
    found = targets(dataset)
    assert found.keys() == {"0", "1", "2"}
    for target in found.values():
        np.testing.assert_array_equal(target, expected)
    assert [fault.kind for fault in warnings_of(tmp_path)] == ["no-area"]


def test_cvat_files_with_entities_or_damage_are_faults(tmp_path: Path) -> None:
    polygons = '<polygon label="roof" points="10,10;40,10;10,40"/>'
    file = cvat(tmp_path, polygons, '<!DOCTYPE annotations [<!ENTITY a "aaaa">]>')
    assert next((fault.kind, fault.path) for fault in faults_of(tmp_path)) == ("invalid-annotations", file)
    cvat(tmp_path, '<polygon label="roof" points="10,10;nan,10;10"/>' + polygons)
    assert {fault.kind for fault in faults_of(tmp_path)} == {"damaged-shape"}
    cvat(tmp_path, polygons)
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert faults_of(tmp_path)[0].kind == "invalid-annotations"
    cvat(tmp_path, polygons)
    for target in targets(find_dataset(tmp_path)).values():
        np.testing.assert_array_equal(target, TRIANGLE_MAP)


def test_warnings_do_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        labelme(tmp_path / f"a{number}.json", [shape("roof", SQUARE), shape("tip", [[3, 3]], "point")])
        picture(tmp_path / f"a{number}.png")
    dataset, statistics = read_training_data(tmp_path)
    assert statistics.class_names == dataset.labels.class_names == ("background", "roof")
    assert "no-area" in caplog.text


# Entries that do not follow the schema


def coco_file(root: Path, images: int = 3) -> dict[str, Any]:
    polygon = [float(value) for point in SQUARE for value in point]
    for number in range(images):
        picture(root / f"a{number}.png")
    return {
        "images": [{"id": n, "file_name": f"a{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(images)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": [polygon]} for n in range(images)],
        "categories": [{"id": 1, "name": "roof"}],
    }


@pytest.mark.parametrize(
    ("name", "entry", "words"),
    [
        ("annotations", {"id": 9, "image_id": 0, "segmentation": []}, "at annotations.3.category_id: field required"),
        ("annotations", {"image_id": 0, "category_id": 1, "segmentation": [["x"]]}, "at annotations.3.segmentation"),
        ("images", {"id": 0, "file_name": "x.png"}, "at images.3.height: field required"),
    ],
)
def test_a_single_bad_entry_of_coco_leaves_its_image_out(
    tmp_path: Path, name: str, entry: dict[str, Any], words: str
) -> None:
    content = coco_file(tmp_path)
    content[name].append(entry)
    write(tmp_path / "a.json", content)
    read = targets(find_dataset(tmp_path))
    assert read.keys() == {"a1", "a2"}
    for target in read.values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path, warning.sample) == ("skipped-shape", tmp_path / "a.json", "a0")
    assert words in warning.problem
    content[name].append(entry)
    write(tmp_path / "a.json", content)
    assert {fault.kind for fault in faults_of(tmp_path)} == {"invalid-annotations"}


def test_an_image_entry_without_size_is_left_out_with_its_annotations(tmp_path: Path) -> None:
    content = coco_file(tmp_path)
    del content["images"][0]["height"]
    write(tmp_path / "a.json", content)
    assert targets(find_dataset(tmp_path)).keys() == {"a1", "a2"}
    assert [fault.kind for fault in warnings_of(tmp_path)] == ["skipped-shape"]


def test_a_bad_annotation_of_an_unknown_image_is_an_error(tmp_path: Path) -> None:
    content = coco_file(tmp_path)
    content["annotations"].append({"id": 9, "segmentation": []})
    write(tmp_path / "a.json", content)
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "invalid-annotations"
    assert "at annotations.3.image_id: field required" in fault.problem


def test_a_single_labelme_file_with_a_bad_shape_is_left_out(tmp_path: Path) -> None:
    for number in range(4):
        labelme(tmp_path / f"a{number}.json", [shape("roof", SQUARE), *([{"label": "roof"}] if number < 1 else [])])
        picture(tmp_path / f"a{number}.png")
    assert targets(find_dataset(tmp_path)).keys() == {"a1", "a2", "a3"}
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path, warning.sample) == ("skipped-shape", tmp_path / "a0.json", "a0")
    assert "at shapes.1.points: field required" in warning.problem
    labelme(tmp_path / "a1.json", [{"label": "roof"}])
    assert [fault.path.name for fault in faults_of(tmp_path)] == ["a0.json", "a1.json"]


def test_a_single_bad_item_of_datumaro_and_a_bad_task_of_label_studio_are_left_out(tmp_path: Path) -> None:
    points = [value for point in SQUARE for value in point]
    shapes = [{"type": "polygon", "label_id": 0, "points": points}]
    items: list[dict[str, Any]] = [{"id": f"a{number}", "annotations": shapes} for number in range(3)]
    items[0] = {"id": "a0", "annotations": [{"type": "polygon", "points": ["x"]}]}
    labels = {"label": {"labels": [{"name": "roof"}]}}
    write(tmp_path / "d/annotations/train.json", {"categories": labels, "items": items})
    percent = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in SQUARE]
    value = {"points": percent, "polygonlabels": ["roof"]}
    result = {"type": "polygonlabels", "original_width": SIZE[1], "original_height": SIZE[0], "value": value}
    tasks: list[dict[str, Any]] = [
        {"data": {"image": f"a{n}.png"}, "annotations": [{"result": [result]}]} for n in range(3)
    ]
    tasks[0] = {"data": {"image": "a0.png"}, "annotations": [{"result": [{"type": "polygonlabels", "value": 1}]}]}
    write(tmp_path / "l/train.json", tasks)
    for number in range(3):
        picture(tmp_path / f"d/images/train/a{number}.png")
        picture(tmp_path / f"l/a{number}.png")
    for root, words in ((tmp_path / "d", "at items.0.annotations.0.points.0"), (tmp_path / "l", "at 0.annotations.0.")):
        read = targets(find_dataset(root))
        assert read.keys() == {"a1", "a2"}
        for target in read.values():
            np.testing.assert_array_equal(target, SQUARE_MAP)
        (warning,) = warnings_of(root)
        assert (warning.kind, warning.split) == ("skipped-shape", "train")
        assert words in warning.problem

"""COCO panoptic and COCO-Stuff: the label maps are compared pixel by pixel."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of, put_grey, targets
from fullconv.data.annotations.rle import count_runs
from fullconv.data.formats.coco_stuff import coco_stuff_labels
from fullconv.data.layouts import find_dataset
from fullconv.errors import DataError

SIZE = (6, 8)
put_image = partial(put_grey, size=SIZE)
IDS = {"void": 0, "roof": 3_226_956, "tree": 70_000, "crowd": 65_536 * 200 + 7}
CATEGORIES = [{"id": 1, "name": "roof", "isthing": 1}, {"id": 184, "name": "tree-merged", "isthing": 0}]
EXPECTED = np.array([[0] * 4 + [1] * 4] * 3 + [[255] * 4 + [255] * 4] * 3, np.uint8)


def segment_map(path: Path, **more: int) -> None:
    ids = np.zeros(SIZE, np.int64)
    ids[:3, :4], ids[:3, 4:], ids[3:, 4:] = IDS["roof"], IDS["tree"], IDS["crowd"]
    for index, value in more.items():
        ids[0, int(index[1:])] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)


def write(root: Path, maps: str = "annotations/panoptic_{}2017", images: str = "{}2017") -> dict[str, dict[str, Any]]:
    """Write images, maps and one JSON file for each split; return the contents of the files by name."""
    contents = {}
    for split, names in (("train", "ab"), ("val", "c")):
        segments = [
            {"id": IDS["roof"], "category_id": 1, "iscrowd": 0, "area": 12},
            {"id": IDS["tree"], "category_id": 184, "iscrowd": 0},
            {"id": IDS["crowd"], "category_id": 1, "iscrowd": 1},
        ]
        for name in names:
            put_image(root / images.format(split) / f"{name}.jpg")
            segment_map(root / maps.format(split) / f"{name}.png")
        contents[f"panoptic_{split}2017.json"] = {
            "images": [{"id": i, "file_name": f"{n}.jpg", "height": 6, "width": 8} for i, n in enumerate(names)],
            "annotations": [
                {"image_id": i, "file_name": f"{n}.png", "segments_info": segments} for i, n in enumerate(names)
            ],
            "categories": CATEGORIES,
        }
    save(root, contents)
    return contents


def save(root: Path, contents: dict[str, dict[str, Any]]) -> None:
    for name, content in contents.items():
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / name).write_text(json.dumps(content))


@pytest.mark.parametrize("maps", ["annotations/panoptic_{}2017", "panoptic_{}2017", "panoptic/{}/maps"])
@pytest.mark.parametrize("images", ["{}2017", "images/{}2017", "images/{}"])
def test_segments_become_classes_and_crowds_and_void_are_ignored(tmp_path: Path, maps: str, images: str) -> None:
    write(tmp_path, maps, images)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("coco_panoptic", ("roof", "tree-merged"))
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 2, "val": 1}
    read = targets(dataset)
    assert read.keys() == {"a", "b", "c"}
    for target in read.values():
        np.testing.assert_array_equal(target, EXPECTED)


def test_a_segment_that_no_file_lists_is_a_fault_of_the_map(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "annotations/panoptic_train2017/a.png"
    segment_map(path, x2=99)
    dataset = find_dataset(tmp_path)
    with pytest.raises(DataError) as caught:
        targets(dataset)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("unknown-label", path)
    assert "holds the segment 99" in fault.problem


def test_missing_files_unknown_images_and_unknown_categories_are_faults(tmp_path: Path) -> None:
    contents = write(tmp_path)
    (tmp_path / "annotations/panoptic_train2017/a.png").unlink()
    (tmp_path / "val2017/c.jpg").unlink()
    train = contents["panoptic_train2017.json"]["annotations"]
    train[1]["segments_info"] = [{"id": 1, "category_id": 9}]
    train.append({"image_id": 77, "file_name": "x.png", "segments_info": []})
    save(tmp_path, contents)
    faults = faults_of(tmp_path)
    assert [(fault.kind, fault.sample) for fault in faults] == [
        ("missing-mask", "a"),
        ("unknown-class", "b"),
        ("unknown-image", None),
        ("missing-image", "c"),
    ]


def test_a_map_of_another_size_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "annotations/panoptic_val2017/c.png")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.sample, fault.split) == ("size-mismatch", "c", "val")


def test_instances_next_to_panoptic_files_are_read(tmp_path: Path) -> None:
    contents = write(tmp_path)
    box = {"image_id": 0, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]}
    for name in list(contents):
        contents[name.replace("panoptic", "instances")] = contents[name] | {"annotations": [box]}
    save(tmp_path, contents)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("coco", ("background", "roof", "tree-merged"))


# COCO-Stuff


@pytest.mark.parametrize("maps", ["stuffthingmaps", "stuffthingmaps_trainval2017"])
@pytest.mark.parametrize("images", ["images/{}2017", "{}2017"])
def test_stuff_maps_have_the_171_classes(tmp_path: Path, maps: str, images: str) -> None:
    values = np.array([[0, 90, 91, 181], [10, 11, 12, 255]], np.uint8)
    for split in ("train", "val"):
        for name in ("a", "b"):
            path = tmp_path / maps / f"{split}2017" / f"{split}{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
            put_image(tmp_path / images.format(split) / f"{split}{name}.jpg")
            Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(tmp_path / images.format(split) / f"{split}{name}.jpg")
    dataset = find_dataset(tmp_path)
    names = coco_stuff_labels().class_names
    assert (dataset.layout, len(names)) == ("coco_stuff", 171)
    target = targets(dataset)["vala"]
    shown = [["" if index == 255 else names[index] for index in row] for row in target]
    assert shown == [["person", "", "banner", "wood"], ["fire hydrant", "", "stop sign", ""]]
    assert (names[79], names[80]) == ("toothbrush", "banner")


def test_pixels_that_coco_stuff_does_not_label_are_ignored(tmp_path: Path) -> None:
    put_image(tmp_path / "train2017/a.jpg")
    mask = np.zeros(SIZE, bool)
    mask[:2] = True
    annotations = [
        {"image_id": 1, "category_id": key, "segmentation": {"counts": count_runs(part).tolist(), "size": [6, 8]}}
        for key, part in ((149, mask), (183, mask[::-1]))
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 149, "name": "road"}, {"id": 183, "name": "other"}],
    }
    save(tmp_path, {"stuff_train2017.json": content})
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("road", "other")
    assert "pixels that no shape covers are ignored" in dataset.about
    expected = np.repeat([0, 255, 1], 2)[:, None] * np.ones((1, 8), int)
    np.testing.assert_array_equal(targets(dataset)["a"], expected)

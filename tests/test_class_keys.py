"""Keys of dataset.yaml about classes and masks count, or they are faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import corpus_annotations
from data_sets import faults_of, targets
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import ReadingOptions
from refusals import refuses

SIZE = (12, 16)
CELL = np.zeros(SIZE, np.uint8)
CELL[2:8, 3:9] = 1
VALUES = "values: {0: background, 255: cell}\n"


def put(path: Path, pixels: UInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def put_voc(root: Path, listed: bool = True) -> None:
    """Write VOC's folders with masks of 0 and 255, and a photo that no list names."""
    for number, name in enumerate("abcde"):
        put(root / "JPEGImages" / f"{name}.jpg", np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8))
        if name != "e":
            put(root / "SegmentationClass" / f"{name}.png", CELL * 255)
    lists = root / "ImageSets" / "Segmentation"
    if listed:
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("a\nb\n")
        (lists / "val.txt").write_text("c\nd\n")


def put_coco(root: Path) -> None:
    corpus_annotations.write_coco(root, corpus_annotations.coco(root))


def put_cityscapes(root: Path) -> None:
    for split in ("train", "val"):
        image = root / "leftImg8bit" / split / "ulm" / f"{split}_leftImg8bit.png"
        put(image, np.full((*SIZE, 3), 90, np.uint8))
        put(root / "gtFine" / split / "ulm" / f"{split}_gtFine_labelIds.png", CELL * 7)


def put_cvat(root: Path) -> None:
    put_voc(root)
    (root / "labelmap.txt").write_text("background:0,0,0::\ncell:255,255,255::\n")


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("names", ["", "names: [background, cell]\n"])
def test_values_count_in_vocs_folders(tmp_path: Path, listed: bool, names: str) -> None:
    put_voc(tmp_path, listed)
    (tmp_path / "dataset.yaml").write_text(names + VALUES)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("voc", ("background", "cell"))
    found = targets(dataset)
    assert sorted(found) == [*"abcd"]
    assert all(np.array_equal(target, CELL) for target in found.values())
    (tmp_path / "dataset.yaml").write_text("values: {0: background, 128: cell}\n")
    assert {fault.kind for fault in faults_of(tmp_path)} == {"unknown-label"}
    (tmp_path / "dataset.yaml").write_text("values: {0: background, 128: cell}\nnearest: true\n")
    assert all(np.array_equal(target, CELL) for target in targets(find_dataset(tmp_path)).values())


def test_a_description_of_the_split_alone_leaves_voc_its_classes(tmp_path: Path) -> None:
    put_voc(tmp_path)
    (tmp_path / "dataset.yaml").write_text("val_share: 0.5\n")
    assert find_dataset(tmp_path).labels.num_classes == 21


@pytest.mark.parametrize("text", ["names: [a, b]\n", VALUES, "nearest: true\n", "mask_nodata: ignore\n"])
@pytest.mark.parametrize(
    ("make", "name", "remedy"),
    [(put_coco, "COCO", "annotations"), (put_cityscapes, "Cityscapes", "`images` and `masks`"),
     (put_cvat, "CVAT segmentation mask", "`images` and `masks`")],
)  # fmt: skip
def test_keys_that_the_format_does_not_use_are_faults(tmp_path: Path, make, name: str, remedy: str, text: str) -> None:
    make(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("class-names", tmp_path / "dataset.yaml")
    assert fault.problem.startswith(f"{text.partition(':')[0]!r} does not count in the {name} layout")
    assert remedy in fault.remedy


def test_the_option_for_nodata_is_refused_where_it_is_not_used(tmp_path: Path) -> None:
    put_coco(tmp_path)
    with refuses("mask-nodata-unused", "COCO"):
        find_dataset(tmp_path, ReadingOptions(mask_nodata="ignore"))


def test_the_description_of_another_format_is_left_alone(tmp_path: Path) -> None:
    put_coco(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [a, b]\nnc: 2\ntrain: images/train\nval: images/val\n")
    assert find_dataset(tmp_path).labels.class_names == ("background", "roof", "tree")


def test_a_description_next_to_the_folder_of_the_data_set_is_a_fault(tmp_path: Path) -> None:
    put_voc(tmp_path / "VOC2012")
    (tmp_path / "dataset.yaml").write_text("val_share: 0.5\nnames: [background, cell]\n" + VALUES)
    faults = faults_of(tmp_path)
    assert {(fault.kind, fault.path) for fault in faults} == {("class-names", tmp_path / "dataset.yaml")}
    assert [fault.problem.partition(" ")[0] for fault in faults] == ["'names'", "'values'"]
    assert str(tmp_path / "VOC2012") in faults[0].problem


def test_nearest_needs_values(tmp_path: Path) -> None:
    put_voc(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [background, cell]\nnearest: true\n")
    with refuses("class-names", "dataset.yaml", "'nearest'", "values"):
        find_dataset(tmp_path)

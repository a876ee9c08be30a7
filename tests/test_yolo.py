"""YOLO segmentation as tools write it: the label maps are compared pixel by pixel."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of, targets, warnings_of
from fullconv.data.dataset import DataSet
from fullconv.data.formats.yolo import is_yolo
from fullconv.data.layouts import find_dataset

SIZE = (64, 96)
SQUARE = "0 .125 .25 .5 .25 .5 .75 .125 .75\n"
TRIANGLE = "1 0 0 .5 0 0 .5\n"
BOX = "0 .3 .3 .2 .2\n"
NAMES = "names: [roof, tree]\n"

SQUARE_MAP = np.zeros(SIZE, np.uint8)
SQUARE_MAP[16:48, 12:48] = 1
TRIANGLE_MAP = np.array([[2 * ((x + 0.5) / 96 + (y + 0.5) / 64 < 0.5) for x in range(96)] for y in range(64)], np.uint8)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)).save(path)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def write(root: Path, images: str, labels: str, names: dict[str, str] | None = None) -> None:
    """Write images and label files; `images` and `labels` are folders."""
    for name, rows in (names or {"a": SQUARE, "b": TRIANGLE, "c": SQUARE + TRIANGLE}).items():
        image(root / images / f"{name}.jpg")
        text(root / labels / f"{name}.txt", rows)


def names_of(dataset: DataSet) -> dict[str, list[str]]:
    return {split: sorted(sample.name for sample in samples) for split, samples in dataset.splits.items()}


OUTER = ("images/train", "labels/train", "images/val", "labels/val")
INNER = ("train/images", "train/labels", "valid/images", "valid/labels")


@pytest.mark.parametrize("folders", [OUTER, INNER])
@pytest.mark.parametrize(
    "paths",
    [
        "train: {0}\nval: {1}\n",
        "train: ../{0}\nval: ../{1}\n",
        "path: ../datasets/roofs\ntrain: {0}\nval: {1}\n",
        "path: .\ntrain: [{0}]\nval: [{1}]\n",
        "train: /content/roofs-1/{0}\nval: /content/roofs-1/{1}\n",
        "train: 'C:\\me\\roofs/{0}'\nval: 'C:\\me\\roofs/{1}'\n",
        "train: {0}/\nval: {1}/\ntest: test/images\n",
        "nc: 2\n",
    ],
)
def test_images_and_label_files_of_each_split_are_found(tmp_path: Path, folders: tuple[str, ...], paths: str) -> None:
    write(tmp_path, *folders[:2])
    write(tmp_path, *folders[2:], {"v": SQUARE})
    text(tmp_path / "data.yaml", NAMES + paths.format(folders[0], folders[2]))
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("yolo", ("background", "roof", "tree"))
    assert names_of(dataset) == {"train": ["a", "b", "c"], "val": ["v"]}
    read = targets(dataset)
    np.testing.assert_array_equal(read["a"], SQUARE_MAP)
    np.testing.assert_array_equal(read["v"], SQUARE_MAP)
    np.testing.assert_array_equal(read["b"], TRIANGLE_MAP)
    smaller_on_top = np.where(TRIANGLE_MAP == 2, 2, SQUARE_MAP)
    np.testing.assert_array_equal(read["c"], smaller_on_top)


@pytest.mark.parametrize("line", ["./images/{}.jpg", "images/{}.jpg", "/home/u/set/images/{}.jpg", "C:\\set\\{}.jpg"])
@pytest.mark.parametrize("lists", ["", "lists/"])
def test_lists_of_images_give_the_splits(tmp_path: Path, line: str, lists: str) -> None:
    write(tmp_path, "images", "labels")
    for split, chosen in (("train", "ac"), ("val", "b")):
        text(tmp_path / lists / f"{split}.txt", "".join(line.format(name) + "\n" for name in chosen))
    text(tmp_path / "coco.yaml", f"{NAMES}train: {lists}train.txt\nval: {lists}val.txt\n")
    dataset = find_dataset(tmp_path)
    assert names_of(dataset) == {"train": ["a", "c"], "val": ["b"]}
    np.testing.assert_array_equal(targets(dataset)["b"], TRIANGLE_MAP)


def test_a_list_that_names_an_absent_image_is_a_fault_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "images", "labels")
    text(tmp_path / "train.txt", "images/a.jpg\nimages/absent.jpg\n")
    text(tmp_path / "val.txt", "images/b.jpg\n")
    text(tmp_path / "data.yaml", NAMES + "train: train.txt\nval: val.txt\n")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.split) == ("listed-absent", tmp_path / "train.txt", "train")
    assert "line 2 names 'images/absent.jpg'" in fault.problem


@pytest.mark.parametrize(("names", "file"), [("obj.names", "obj_train_data"), ("classes.txt", "."), ("w.names", "x/y")])
def test_label_files_next_to_the_images_with_a_file_of_names(tmp_path: Path, names: str, file: str) -> None:
    many = {f"{letter}{number}": SQUARE for letter in "abc" for number in range(3)}
    write(tmp_path, file, file, many)
    text(tmp_path / names, "roof\ntree\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof", "tree")
    assert {name for named in names_of(dataset).values() for name in named} == set(many)
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)


def test_images_and_labels_without_splits_and_with_names_among_the_labels(tmp_path: Path) -> None:
    write(tmp_path, "images", "labels")
    text(tmp_path / "labels" / "classes.txt", "roof\ntree\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof", "tree")
    assert targets(dataset).keys() == {"a", "b", "c"}


def test_label_files_without_names_are_a_question(tmp_path: Path) -> None:
    write(tmp_path, "images", "labels")
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "class-names"
    assert "names: [roof, tree]" in fault.remedy
    text(tmp_path / "data.yaml", NAMES + "nc: 2\n")
    assert find_dataset(tmp_path).labels.class_names == ("background", "roof", "tree")


def test_images_without_label_file_or_with_an_empty_one_are_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "images/train", "labels/train", {"a": SQUARE, "b": "", "c": "\n"})
    image(tmp_path / "images/train/d.jpg")
    write(tmp_path, "images/val", "labels/val", {"v": SQUARE})
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    dataset = find_dataset(tmp_path)
    read = targets(dataset)
    assert [name for name, target in read.items() if target.any()] == ["a", "v"]
    assert read.keys() == {"a", "b", "c", "d", "v"}
    assert "3 of 5 images have no label file or an empty one, and are background, first b" in dataset.about
    assert "3 of 5 images" in caplog.text


def test_boxes_have_no_area_and_an_image_of_boxes_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "labels/train", {"a": SQUARE + BOX, "b": BOX + BOX, "c": TRIANGLE})
    write(tmp_path, "images/val", "labels/val", {"v": SQUARE})
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    dataset = find_dataset(tmp_path)
    assert names_of(dataset) == {"train": ["a", "c"], "val": ["v"]}
    np.testing.assert_array_equal(targets(dataset)["a"], SQUARE_MAP)
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.split) == ("no-area", "train")
    assert "3 annotations without area (3 box) on 2 images are not used, first line 2 on a" in warning.problem
    assert "1 image has no other shape and is left out, first b" in warning.problem


def test_keypoints_and_detection_labels_alone_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "labels/train", {"a": BOX, "b": BOX})
    write(tmp_path, "images/val", "labels/val", {"v": BOX})
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    assert {fault.kind for fault in faults_of(tmp_path)} == {"no-shapes"}
    for path in tmp_path.glob("labels/*/*.txt"):
        path.write_text("0 .3 .3 .2 .2 .1 .1 .2 .2\n")
    text(tmp_path / "data.yaml", NAMES + "kpt_shape: [2, 2]\ntrain: images/train\nval: images/val\n")
    assert {fault.kind for fault in faults_of(tmp_path)} == {"no-shapes"}


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        ("0 .1 .1 .5 .1 .5 .5 .1\n", "damaged-shape", "line 2 has 7 coordinates"),
        ("0 .1 .1\n", "damaged-shape", "line 2 has 2 coordinates"),
        ("0 10 10 50 10 50 50\n", "damaged-shape", "line 2 has the coordinate 50, which is not a share"),
        ("0 nan .1 .5 .1 .5 .5\n", "damaged-shape", "line 2 is not a class and coordinates"),
        ("0.5 .1 .1 .5 .1 .5 .5\n", "damaged-shape", "line 2 is not a class and coordinates"),
        ("7 .1 .1 .5 .1 .5 .5\n", "unknown-class", "line 2 has class 7, but the classes are 0 to 1"),
    ],
)
def test_rows_that_cannot_be_read_are_named_with_file_and_line(tmp_path: Path, row: str, kind: str, words: str) -> None:
    write(tmp_path, "images/train", "labels/train", {"a": SQUARE + row, "b": SQUARE, "c": row.replace("0", "0")})
    text(tmp_path / "labels/train/c.txt", SQUARE + row)
    write(tmp_path, "images/val", "labels/val", {"v": SQUARE})
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    faults = faults_of(tmp_path)
    assert [(fault.kind, fault.path.name, fault.sample) for fault in faults] == [
        (kind, "a.txt", "a"),
        (kind, "c.txt", "c"),
    ]
    assert words in faults[0].problem


def test_a_single_damaged_row_is_skipped_with_its_image(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "labels/train", {"a": SQUARE + "0 .1 .1\n", "b": SQUARE, "c": SQUARE})
    write(tmp_path, "images/val", "labels/val", {"v": SQUARE})
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    assert names_of(find_dataset(tmp_path)) == {"train": ["b", "c"], "val": ["v"]}
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.sample) == ("skipped-shape", "a")


def test_the_same_folder_for_train_and_val_is_a_set_without_splits(tmp_path: Path) -> None:
    write(tmp_path, "images", "labels", {f"{letter}{i}": SQUARE for letter in "abc" for i in range(4)})
    text(tmp_path / "data.yaml", NAMES + "train: images\nval: images\n")
    dataset = find_dataset(tmp_path)
    named = names_of(dataset)
    assert not set(named["train"]) & set(named["val"])
    assert len(named["train"]) + len(named["val"]) == 12
    assert "are the same images" in dataset.about
    text(tmp_path / "val.txt", "images/a0.jpg\n")
    text(tmp_path / "data.yaml", NAMES + "train: images\nval: val.txt\n")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.split) == ("ambiguous-split", "val")


def test_label_files_without_images_are_noted_if_few_and_a_fault_if_many(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "labels/train", {f"a{i}": SQUARE for i in range(9)})
    write(tmp_path, "images/val", "labels/val", {"v": SQUARE})
    text(tmp_path / "labels/train/lonely.txt", SQUARE)
    text(tmp_path / "data.yaml", NAMES + "train: images/train\nval: images/val\n")
    assert "1 label file(s) have no image and are not used" in find_dataset(tmp_path).about
    text(tmp_path / "labels/train/lonely2.txt", SQUARE)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("orphan-mask", tmp_path / "labels/train")


@pytest.mark.parametrize("labels", ["labels", "images"])
@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_two_unicode_forms_are_one_name(tmp_path: Path, labels: str, forms: tuple[str, str]) -> None:
    for name in ("über", "ä"):
        image(tmp_path / "images" / f"{unicodedata.normalize(forms[0], name)}.jpg")
        text(tmp_path / labels / f"{unicodedata.normalize(forms[1], name)}.txt", SQUARE)
    text(tmp_path / "data.yaml", NAMES)
    found = targets(find_dataset(tmp_path))
    assert len(found) == 2
    assert all(np.array_equal(target, SQUARE_MAP) for target in found.values())


@pytest.mark.parametrize(("photo", "label"), [("IMG_7", "img_7"), ("roof 7", "roof_7"), ("größe", "größe ")])
@pytest.mark.parametrize("labels", ["labels", "images"])
def test_a_label_file_of_nearly_the_name_of_an_image_is_a_fault(
    tmp_path: Path, photo: str, label: str, labels: str
) -> None:
    write(tmp_path, "images", labels)
    text(tmp_path / "data.yaml", NAMES)
    image(tmp_path / "images" / f"{photo}.jpg")
    path = text(tmp_path / labels / f"{label}.txt", SQUARE)
    assert [(fault.kind, fault.path) for fault in faults_of(tmp_path)] == [("orphan-mask", path)]
    path.rename(path.with_stem(photo))
    np.testing.assert_array_equal(targets(find_dataset(tmp_path))[photo], SQUARE_MAP)


def test_other_numbers_are_no_similar_names(tmp_path: Path) -> None:
    write(tmp_path, "images", "labels")
    text(tmp_path / "data.yaml", NAMES)
    image(tmp_path / "images" / "v1_23.jpg")
    text(tmp_path / "labels" / "v12_3.txt", SQUARE)
    assert "v1_23" in targets(find_dataset(tmp_path))


def test_a_linked_folder_of_images_is_read(tmp_path: Path) -> None:
    write(tmp_path / "data", "store/a", "labels/train")
    (tmp_path / "data" / "images").mkdir()
    (tmp_path / "data" / "images" / "train").symlink_to(tmp_path / "data" / "store" / "a", target_is_directory=True)
    text(tmp_path / "data" / "data.yaml", NAMES + "train: images/train\n")
    np.testing.assert_array_equal(targets(find_dataset(tmp_path / "data"))["a"], SQUARE_MAP)


def test_a_test_split_without_labels_is_not_used_and_a_val_split_without_labels_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, *INNER[:2])
    write(tmp_path, *INNER[2:], {"v": SQUARE})
    image(tmp_path / "test/images/t.jpg")
    text(tmp_path / "data.yaml", NAMES + "train: train/images\nval: valid/images\ntest: test/images\n")
    dataset = find_dataset(tmp_path)
    assert dataset.splits.keys() == {"train", "val"}
    assert "test is not used" in dataset.about
    (tmp_path / "valid/labels/v.txt").unlink()
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.split) == ("missing-mask", "val")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("names: [roof\n", "cannot be read as YAML"),
        ("names: {0: roof, 2: tree}\n", "ids"),
        ("names: roof\n", "'names' is 'roof'"),
        ("nc: 3\nnames: [a, b]\n", "nc"),
    ],
)
def test_names_that_cannot_be_used_are_faults(tmp_path: Path, names: str, words: str) -> None:
    write(tmp_path, *OUTER[:2])
    text(tmp_path / "data.yaml", names + "train: images/train\n")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("class-names", tmp_path / "data.yaml")
    assert words in fault.problem


def test_the_description_may_be_called_dataset_yaml(tmp_path: Path) -> None:
    write(tmp_path, *OUTER[:2])
    write(tmp_path, *OUTER[2:], {"v": SQUARE})
    for name in ("dataset.yaml", "dataset.yml"):
        path = text(tmp_path / name, NAMES + "path: /x\ntrain: images/train\nval: images/val\nnc: 2\n")
        assert names_of(find_dataset(tmp_path)) == {"train": ["a", "b", "c"], "val": ["v"]}
        path.unlink()


def test_a_data_set_in_a_folder_of_data_is_read_there(tmp_path: Path) -> None:
    write(tmp_path / "roofs", *OUTER[:2])
    write(tmp_path / "roofs", *OUTER[2:], {"v": SQUARE})
    text(tmp_path / "roofs/data.yaml", NAMES + "train: images/train\nval: images/val\n")
    dataset = find_dataset(tmp_path)
    assert dataset.root == tmp_path / "roofs"
    assert names_of(dataset) == {"train": ["a", "b", "c"], "val": ["v"]}


@pytest.mark.parametrize("masks", ["masks", "labels"])
def test_semantic_masks_of_ultralytics_have_the_names_of_data_yaml(tmp_path: Path, masks: str) -> None:
    for split in ("train", "val"):
        for number in range(3):
            image(tmp_path / "images" / split / f"{split}{number}.jpg")
            path = tmp_path / masks / split / f"{split}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(TRIANGLE_MAP, 255, SQUARE_MAP).astype(np.uint8)).save(path)
    text(
        tmp_path / "data.yaml", "path: x\ntrain: images/train\nval: images/val\nnames: {0: ground, 1: roof, 2: tree}\n"
    )
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("ground", "roof", "tree")
    assert names_of(dataset) == {split: [f"{split}{i}" for i in range(3)] for split in ("train", "val")}
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, np.where(TRIANGLE_MAP, 255, SQUARE_MAP))


def test_rows_of_long_numbers_are_refused_without_backtracking(tmp_path: Path) -> None:
    """With a pattern that backtracks, this takes longer than the universe has lasted."""
    row = "0 " + " ".join(["9" * 500] * 12)
    assert not is_yolo_text(tmp_path / "bad", f"{row} x\n")
    assert is_yolo_text(tmp_path / "good", f"{row}\n")


def is_yolo_text(root: Path, content: str) -> bool:
    text(root / "labels" / "a.txt", content)
    return is_yolo(root)

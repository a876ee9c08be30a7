"""Lists such as train.txt divide the samples of a data set whose folders name no split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset

NAMES = "abcdef"
FOLDERS = [("images", "masks"), ("img", "label")]


def write(root: Path, images: str, masks: str) -> None:
    for number, name in enumerate(NAMES):
        for folder, values in ((images, np.random.default_rng(number).integers(0, 255, (8, 8, 3))), (masks, np.eye(8))):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)


def lists(root: Path, folder: str = ".", **content: str) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, lines in content.items():
        (root / folder / f"{stem}.txt").write_text(lines)


def names_of(dataset: DataSet) -> dict[str, str]:
    return {split: "".join(sorted(sample.name for sample in samples)) for split, samples in dataset.splits.items()}


@pytest.mark.parametrize("folders", FOLDERS)
@pytest.mark.parametrize(
    "line", ["{}", "{}.png", "images/{}.png", "/home/u/{}.png", "images/{}.png masks/{}.png", "{} 1"]
)
@pytest.mark.parametrize("where", [".", "splits", "ImageSets/Segmentation"])
def test_lists_give_the_splits(tmp_path: Path, folders: tuple[str, str], line: str, where: str) -> None:
    write(tmp_path, *folders)
    chosen = {"train": "abe", "val": "c", "test": "df"}
    lists(
        tmp_path, where, **{split: "".join(line.format(n, n) + "\n" for n in names) for split, names in chosen.items()}
    )
    dataset = find_dataset(tmp_path)
    assert names_of(dataset) == chosen
    assert any("splits are those of " in inference for inference in dataset.inferences)
    np.testing.assert_array_equal(dataset.read(dataset.split("val")[0])[1], np.eye(8))


@pytest.mark.parametrize("folders", FOLDERS)
def test_data_yaml_gives_names_and_lists(tmp_path: Path, folders: tuple[str, str]) -> None:
    write(tmp_path, *folders)
    lists(tmp_path, "x", one="a\nb\nc\n", two="d\ne\nf\n")
    (tmp_path / "data.yaml").write_text("names:\n  0: ground\n  1: line\ntrain: x/one.txt\nval: x/two.txt\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("ground", "line")
    assert names_of(dataset) == {"train": "abc", "val": "def"}


@pytest.mark.parametrize("folders", FOLDERS)
def test_data_yaml_may_name_the_images_themselves(tmp_path: Path, folders: tuple[str, str]) -> None:
    write(tmp_path, *folders)
    paths = {"train": [f"./{folders[0]}/{name}.png" for name in "abc"], "val": [f"/x/{name}.png" for name in "def"]}
    (tmp_path / "data.yaml").write_text(json.dumps({"names": ["ground", "line"], "path": "/x", **paths}))
    assert names_of(find_dataset(tmp_path)) == {"train": "abc", "val": "def"}
    paths["val"].append("y.png")
    (tmp_path / "data.yaml").write_text(json.dumps({"names": ["ground", "line"], **paths}))
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.split) == ("listed-absent", tmp_path / "data.yaml", "val")


def test_data_yaml_may_name_folders_of_images_whose_names_say_nothing(tmp_path: Path) -> None:
    for folder in ("north", "south"):
        write(tmp_path, f"img/{folder}", f"label/{folder}")
    (tmp_path / "data.yaml").write_text("names: [ground, line]\ntrain: img/south\nval: img/north\n")
    dataset = find_dataset(tmp_path)
    assert {split: {sample.image.parent.name for sample in dataset.split(split)} for split in ("train", "val")} == {
        "train": {"south"},
        "val": {"north"},
    }


def test_folders_of_data_yaml_that_do_not_exist_leave_the_lists(tmp_path: Path) -> None:
    write(tmp_path, "images", "masks")
    (tmp_path / "data.yaml").write_text("names: [ground, line]\ntrain: images/train\nval: images/val\n")
    lists(tmp_path, train="a\nb\nc\n", val="d\ne\nf\n")
    assert names_of(find_dataset(tmp_path)) == {"train": "abc", "val": "def"}


@pytest.mark.parametrize("folders", FOLDERS)
def test_what_no_list_names_is_train_only_without_a_list_of_train(
    tmp_path: Path, folders: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, *folders)
    lists(tmp_path, validation_set="b\n")
    assert names_of(find_dataset(tmp_path)) == {"train": "acdef", "val": "b"}
    lists(tmp_path, train_list="a\nc\n")
    assert names_of(find_dataset(tmp_path)) == {"train": "ac", "val": "b"}
    assert "3 image(s) that no list names are not used, first d" in caplog.text


@pytest.mark.parametrize("folders", FOLDERS)
def test_lines_without_an_image_and_images_of_two_lists_are_faults(tmp_path: Path, folders: tuple[str, str]) -> None:
    write(tmp_path, *folders)
    lists(tmp_path, train="a\nb\nx\n", val="b\nc\n")
    absent, twice = faults_of(tmp_path)
    assert (absent.kind, absent.path, absent.split) == ("listed-absent", tmp_path / "train.txt", "train")
    assert "line 3 names 'x'" in absent.problem
    assert (twice.kind, twice.path, twice.sample) == ("listed-twice", tmp_path / "val.txt", "b")


@pytest.mark.parametrize("folders", FOLDERS)
def test_a_text_that_names_no_image_is_not_a_list(
    tmp_path: Path, folders: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, *folders)
    lists(tmp_path, train="epoch 1\nepoch 2\n")
    dataset = find_dataset(tmp_path)
    assert sorted("".join(names_of(dataset).values())) == list(NAMES)
    assert "train.txt name(s) no image" in caplog.text


def test_shapes_without_splits_are_divided_by_lists_too(tmp_path: Path) -> None:
    write(tmp_path, "images", "x")
    shape = {"label": "roof", "points": [[0, 0], [4, 0], [4, 4], [0, 4]], "shape_type": "polygon"}
    for name in NAMES:
        content = {"shapes": [shape], "imagePath": f"{name}.png", "imageHeight": 8, "imageWidth": 8}
        (tmp_path / "images" / f"{name}.json").write_text(json.dumps(content))
    lists(tmp_path, train="a\nb\nc\n", val="d\ne\nf\n")
    assert names_of(find_dataset(tmp_path)) == {"train": "abc", "val": "def"}


@pytest.mark.parametrize("file", ["labelmap.txt", "classes.txt", None])
def test_an_image_in_two_lists_of_voc_is_a_fault(tmp_path: Path, file: str | None) -> None:
    write(tmp_path, "JPEGImages", "SegmentationClass")
    if file is not None:
        (tmp_path / file).write_text("ground:0,0,0::\nline:9,9,9::\n" if file == "labelmap.txt" else "ground\nline\n")
    lists(tmp_path, "ImageSets/Segmentation", train="a\nb\nc\n", val="c\nd\n")
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path, fault.split) == ("listed-twice", tmp_path, "val")
    assert fault.problem == "1 image(s) are in train and in val, first c"
    lists(tmp_path, "ImageSets/Segmentation", train="a\nb\n")
    assert names_of(find_dataset(tmp_path)) == {"train": "ab", "val": "cd"}

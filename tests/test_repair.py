"""A repaired copy keeps all that is sound, in its split and with its pixels, and is whole or not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import corpus
import corpus_base
from command_line import check
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.writers.write import convert
from fullconv.doctor.examine import examine
from fullconv.doctor.repair import Repair, repair


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a data set, beside the one that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def repaired(root: Path, name: str = "fixed") -> tuple[Repair, DataSet]:
    made = repair(examine(survey(root, decode=False)), root.with_name(name))
    return made, find_dataset(made.folder)


def names(dataset: DataSet) -> dict[str, str]:
    return {split: "".join(sample.name for sample in found) for split, found in dataset.splits.items()}


def test_images_of_one_camera_keep_their_split(data: Path) -> None:
    corpus.base(data)
    scene = corpus.scene(0).astype(np.int16)
    for number, path in enumerate(sorted((data / "images").rglob("*.png"))):
        noise = np.random.default_rng(number).integers(-3, 4, scene.shape)
        corpus.save(path, (scene + noise).clip(0, 255).astype(np.uint8))
    assert "in-two-splits" in {group.kind for group in examine(survey(data, decode=False)).groups}
    made, dataset = repaired(data)
    assert (made.left_out, names(dataset)) == ((), {"train": "abc", "val": "de"})


def test_of_files_in_two_splits_the_first_stays_and_no_split_is_emptied(data: Path) -> None:
    corpus.copied_to_val(data)
    made, dataset = repaired(data)
    assert names(dataset) == {"train": "abc", "val": "d"}
    (fault,) = made.left_out
    assert (fault.kind, fault.path) == ("in-two-splits", corpus.image(data, "e", split="val"))
    shutil.copyfile(corpus.image(data, "c"), corpus.image(data, "d", split="val"))
    made, dataset = repaired(data, "again")
    assert (names(dataset), len(made.left_out)) == ({"train": "abc", "val": "d"}, 1)
    corpus.image(data, "c").write_bytes(b"")  # and what is itself left out takes no twin with it
    assert names(repaired(data, "third")[1]) == {"train": "ab", "val": "d"}


def test_a_pair_at_fault_keeps_the_split_that_its_list_says(data: Path) -> None:
    corpus.base(data)
    convert(find_dataset(data), data.with_name("voc"), "voc")
    voc = data.with_name("voc")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (voc / "JPEGImages" / "d.png").unlink()
    corpus.save(voc / "JPEGImages" / "d.jpg", corpus.scene(3), exif=exif)
    (voc / "labelmap.txt").rename(voc / "classes.txt").write_text("ground\nroof\ntree\n")
    made, dataset = repaired(voc)
    assert names(dataset) == {"train": "abc", "val": "de"}
    assert made.done == (f"{voc / 'SegmentationClass' / 'd.png'}: mask turned upright",)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_and_range_are_kept(data: Path, channels: int) -> None:
    corpus.base(data)
    for number, path in enumerate(sorted((data / "images").rglob("*.png"))):
        image = corpus.scene(number)[..., [0, 1, 2, 0]]
        path.unlink()
        corpus.save(path.with_suffix(".tif"), image if channels == 4 else image[..., 0].astype(np.uint16) * 7)
    told = data / "dataset.yaml"
    told.write_text(f"{told.read_text()}channels: {channels}\nrange: [3, 1700]\n")
    before, after = find_dataset(data), repaired(data)[1]
    assert (after.channels, after.value_range) == (channels, (3, 1700))
    for one, other in zip(before.split("val"), after.split("val"), strict=True):
        np.testing.assert_array_equal(before.read_picture(one).pixels, after.read_picture(other).pixels)


def test_one_bad_annotation_leaves_out_its_image_alone(data: Path) -> None:
    corpus.base(data)
    coco = data.with_name("coco")
    convert(find_dataset(data), coco, "coco")
    file = coco / "annotations" / "train.json"
    values = json.loads(file.read_text())
    values["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5]]
    file.write_text(json.dumps(values))
    made, dataset = repaired(coco)
    assert (names(dataset), len(made.left_out)) == ({"train": "bc", "val": "de"}, 1)
    assert (made.left_out[0].kind, made.left_out[0].sample) == ("damaged-shape", "a")
    for one, other in zip(find_dataset(data).split("val"), dataset.split("val"), strict=True):
        np.testing.assert_array_equal(find_dataset(data).read_target(one), dataset.read_target(other))


def test_a_mask_in_colours_of_no_class_is_left_out_once(data: Path) -> None:
    corpus.base(data)
    voc = data.with_name("voc")
    convert(find_dataset(data), voc, "voc")
    path = corpus.save(voc / "SegmentationClass" / "b.png", np.full((*corpus_base.SIZE, 3), 9, np.uint8))
    made, dataset = repaired(voc)
    assert [(fault.kind, fault.path) for fault in made.left_out] == [("unknown-colour", path)]
    assert names(dataset) == {"train": "ac", "val": "de"}


def test_a_shape_that_cannot_be_drawn_leaves_its_image_out_once(data: Path) -> None:
    corpus.base(data)
    root = data.with_name("labelme")
    convert(find_dataset(data), root, "labelme")
    file = root / "train" / "b.json"
    values = json.loads(file.read_text())
    values["shapes"].append({"label": "roof", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "AAAA"})
    file.write_text(json.dumps(values))
    made, dataset = repaired(root)
    assert [(fault.kind, fault.path) for fault in made.left_out] == [("damaged-shape", file)]
    assert names(dataset) == {"train": "ac", "val": "de"}


@pytest.mark.parametrize("to", ["labelme", "coco"])
def test_one_image_that_cannot_be_read_is_left_out_alone(data: Path, to: str) -> None:
    corpus.base(data)
    root = data.with_name(to)
    convert(find_dataset(data), root, to)
    path = next(root.rglob("b.png"))
    path.write_bytes(path.read_bytes()[:-1500])
    made, dataset = repaired(root)
    assert (names(dataset), len(made.left_out)) == ({"train": "ac", "val": "de"}, 1)
    assert (made.left_out[0].kind, made.left_out[0].path) == ("truncated-file", path)


def test_names_in_folders_of_their_own_are_read_again(data: Path) -> None:
    corpus.base(data)
    root = data.with_name("coco")
    convert(find_dataset(data), root, "coco")
    file = root / "annotations" / "train.json"
    file.write_text(file.read_text().replace('"a.png"', '"deep/a.png"'))
    (root / "images" / "train" / "deep").mkdir()
    (root / "images" / "train" / "a.png").rename(root / "images" / "train" / "deep" / "a.png")
    assert {sample.name for sample in repaired(root)[1].split("train")} == {"deep_a", "b", "c"}


def test_what_was_done_names_the_file_that_was_changed(data: Path) -> None:
    path = corpus.mixed_channels(data)
    made, dataset = repaired(data)
    assert made.done == (f"{path}: written as RGB",)
    sample = next(sample for sample in dataset.split("train") if sample.name == "b")
    assert sample.target.read_bytes() == corpus.mask(data, "b").read_bytes()


@pytest.mark.parametrize("fault", ["no_colour_table", "misspelt_key", "unknown_label"])
def test_a_repair_that_fails_ends_as_bad_data_with_the_verdict(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    corpus.FAULTS[fault][1](data)
    if fault == "unknown_label":
        for path in corpus_base.masks(data):
            corpus.save(path, np.full(corpus_base.SIZE, 7, np.uint8))
    assert check(monkeypatch, data, "--fix", data.with_name("fixed")) == 3
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].endswith("training would stop or go wrong")
    assert "nothing was repaired: " in told.err
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "work"]


def test_a_repair_that_is_stopped_leaves_nothing(data: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    corpus.base(data)
    found, folder = examine(survey(data, decode=False)), data.with_name("fixed")
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        repair(found, folder, stop)
    assert [*folder.iterdir()] == []
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "fixed", "work"]
    assert repair(found, folder).pairs == 5

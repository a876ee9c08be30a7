"""A repaired copy keeps all usable pairs, their splits and pixels, and is written atomically."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import corpus
import corpus_base
from command_line import check, run
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.writers.write import convert
from fullconv.doctor.examine import examine
from fullconv.doctor.repair import Repair, repair
from refusals import refuses


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for a data set, next to the folder that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def repair_folder(root: Path, name: str = "fixed") -> tuple[Repair, DataSet]:
    result = repair(examine(survey(root)), root.with_name(name))
    return result, find_dataset(result.folder)


def names(dataset: DataSet) -> dict[str, str]:
    return {split: "".join(sample.name for sample in samples) for split, samples in dataset.splits.items()}


def test_similar_images_in_two_splits_are_both_kept(data: Path) -> None:
    corpus.base(data)
    scene = corpus.scene(0).astype(np.int16)
    for number, path in enumerate(sorted((data / "images").rglob("*.png"))):
        noise = np.random.default_rng(number).integers(-3, 4, scene.shape)
        corpus.save(path, (scene + noise).clip(0, 255).astype(np.uint8))
    assert "in-two-splits" in {group.kind for group in examine(survey(data)).groups}
    result, dataset = repair_folder(data)
    assert (result.left_out, names(dataset)) == ((), {"train": "abc", "val": "de"})


def test_a_file_in_two_splits_stays_in_the_first_unless_the_other_would_be_empty(data: Path) -> None:
    corpus.copied_to_val(data)
    result, dataset = repair_folder(data)
    assert names(dataset) == {"train": "abc", "val": "d"}
    (fault,) = result.left_out
    assert (fault.kind, fault.path) == ("in-two-splits", corpus.image(data, "e", split="val"))
    shutil.copyfile(corpus.image(data, "c"), corpus.image(data, "d", split="val"))
    result, dataset = repair_folder(data, "again")
    assert (names(dataset), len(result.left_out)) == ({"train": "abc", "val": "d"}, 1)
    corpus.image(data, "c").write_bytes(b"")  # a file that is left out does not remove its copy
    assert names(repair_folder(data, "third")[1]) == {"train": "ab", "val": "d"}


def test_a_repaired_pair_keeps_the_split_of_its_list(data: Path) -> None:
    corpus.base(data)
    convert(find_dataset(data), data.with_name("voc"), "voc")
    voc = data.with_name("voc")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (voc / "JPEGImages" / "d.png").unlink()
    corpus.save(voc / "JPEGImages" / "d.jpg", corpus.scene(3), exif=exif)
    (voc / "labelmap.txt").rename(voc / "classes.txt").write_text("ground\nroof\ntree\n")
    result, dataset = repair_folder(voc)
    assert names(dataset) == {"train": "abc", "val": "de"}
    assert result.done == (f"{voc / 'SegmentationClass' / 'd.png'}: mask turned upright",)


@pytest.mark.parametrize("channels", [1, 4])
def test_repair_keeps_channels_and_value_range(data: Path, channels: int) -> None:
    corpus.base(data)
    for number, path in enumerate(sorted((data / "images").rglob("*.png"))):
        image = corpus.scene(number)[..., [0, 1, 2, 0]]
        path.unlink()
        corpus.save(path.with_suffix(".tif"), image if channels == 4 else image[..., 0].astype(np.uint16) * 7)
    description = data / "dataset.yaml"
    description.write_text(f"{description.read_text()}channels: {channels}\nrange: [3, 1700]\n")
    before, after = find_dataset(data), repair_folder(data)[1]
    assert (after.channels, after.value_range) == (channels, (3, 1700))
    for one, other in zip(before.split("val"), after.split("val"), strict=True):
        np.testing.assert_array_equal(before.read_picture(one).pixels, after.read_picture(other).pixels)


def test_a_damaged_annotation_removes_only_its_image(data: Path) -> None:
    corpus.base(data)
    coco = data.with_name("coco")
    convert(find_dataset(data), coco, "coco")
    file = coco / "annotations" / "train.json"
    values = json.loads(file.read_text())
    of_a = [entry for entry in values["annotations"] if entry["image_id"] == values["annotations"][0]["image_id"]]
    for entry in of_a[:2]:
        entry["segmentation"] = [[1, 2, 3, 4, 5]]
    file.write_text(json.dumps(values))
    result, dataset = repair_folder(coco)
    assert (names(dataset), len(result.left_out)) == ({"train": "bc", "val": "de"}, 2)
    assert (result.left_out[0].kind, result.left_out[0].sample) == ("damaged-shape", "a")
    for one, other in zip(find_dataset(data).split("val"), dataset.split("val"), strict=True):
        np.testing.assert_array_equal(find_dataset(data).read_target(one), dataset.read_target(other))


def test_a_mask_with_unknown_colours_is_left_out_with_one_fault(data: Path) -> None:
    corpus.base(data)
    voc = data.with_name("voc")
    convert(find_dataset(data), voc, "voc")
    path = corpus.save(voc / "SegmentationClass" / "b.png", np.full((*corpus_base.SIZE, 3), 9, np.uint8))
    result, dataset = repair_folder(voc)
    assert [(fault.kind, fault.path) for fault in result.left_out] == [("unknown-colour", path)]
    assert names(dataset) == {"train": "ac", "val": "de"}


def test_an_image_with_a_damaged_shape_is_left_out_with_one_fault(data: Path) -> None:
    corpus.base(data)
    root = data.with_name("labelme")
    convert(find_dataset(data), root, "labelme")
    file = root / "train" / "b.json"
    values = json.loads(file.read_text())
    values["shapes"].append({"label": "roof", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "AAAA"})
    file.write_text(json.dumps(values))
    result, dataset = repair_folder(root)
    assert [(fault.kind, fault.path) for fault in result.left_out] == [("skipped-shape", file)]
    assert names(dataset) == {"train": "ac", "val": "de"}


@pytest.mark.parametrize("to", ["labelme", "coco"])
def test_an_unreadable_image_removes_only_its_pair(data: Path, to: str) -> None:
    corpus.base(data)
    root = data.with_name(to)
    convert(find_dataset(data), root, to)
    path = next(root.rglob("b.png"))
    path.write_bytes(path.read_bytes()[:-1500])
    result, dataset = repair_folder(root)
    assert (names(dataset), len(result.left_out)) == ({"train": "ac", "val": "de"}, 1)
    assert (result.left_out[0].kind, result.left_out[0].path) == ("truncated-file", path)


def test_images_in_subfolders_get_flat_names_in_the_copy(data: Path) -> None:
    corpus.base(data)
    root = data.with_name("coco")
    convert(find_dataset(data), root, "coco")
    file = root / "annotations" / "train.json"
    file.write_text(file.read_text().replace('"a.png"', '"deep/a.png"'))
    (root / "images" / "train" / "deep").mkdir()
    (root / "images" / "train" / "a.png").rename(root / "images" / "train" / "deep" / "a.png")
    assert {sample.name for sample in repair_folder(root)[1].split("train")} == {"deep_a", "b", "c"}


def test_the_list_of_repairs_names_the_changed_file(data: Path) -> None:
    path = corpus.mixed_channels(data)
    result, dataset = repair_folder(data)
    assert result.done == (f"{path}: written as RGB",)
    sample = next(sample for sample in dataset.split("train") if sample.name == "b")
    assert sample.target.read_bytes() == corpus.mask(data, "b").read_bytes()


@pytest.mark.parametrize("fault", ["misspelt_key", "grey_levels", "no_colour_table"])
def test_repair_refuses_data_whose_classes_are_not_certain(data: Path, fault: str) -> None:
    corpus.FAULTS[fault][1](data)
    with refuses("classes-not-certain", data):
        repair(examine(survey(data)), data.with_name("fixed"))


def test_repair_refuses_data_without_a_usable_pair(data: Path) -> None:
    corpus.base(data)
    voc = data.with_name("voc")
    convert(find_dataset(data), voc, "voc")
    (voc / "labelmap.txt").rename(voc / "classes.txt").write_text("ground\nroof\ntree\n")
    for path in (voc / "SegmentationClass").iterdir():
        corpus.save(path, np.full(corpus_base.SIZE, 7, np.uint8))
    with refuses("no-pair-left", voc, "contains the labels 7"):
        repair(examine(survey(voc)), data.with_name("fixed"))


@pytest.mark.parametrize("fault", ["no_colour_table", "misspelt_key", "unknown_label"])
def test_a_refused_repair_ends_with_exit_code_3_and_the_verdict(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    corpus.FAULTS[fault][1](data)
    if fault == "unknown_label":
        for path in corpus_base.masks(data):
            corpus.save(path, np.full(corpus_base.SIZE, 7, np.uint8))
    assert check(monkeypatch, data, "--fix", data.with_name("fixed")) == 3
    output = capsys.readouterr()
    assert output.out.splitlines()[-1].endswith("training would stop or go wrong")
    assert "nothing was repaired: " in output.err
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "work"]


def test_check_ends_with_the_verdict_of_the_copy_and_the_next_command(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.FAULTS["exif_rotation"][1](data)
    copy = data.with_name("a copy")
    assert check(monkeypatch, data, "--fix", copy) == 3
    *_, first, verdict, command = capsys.readouterr().out.splitlines()
    assert first == f"{data} (unchanged): 1 error, 0 warnings: training would stop or go wrong"
    assert verdict == f"{copy}: 5 pairs; 0 errors, 0 warnings: training can start"
    assert command == f"next: fullconv train '{copy}'"


def test_the_error_of_train_names_the_commands_that_show_and_repair(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.FAULTS["exif_rotation"][1](data)
    options = ("--mask-nodata", "ignore", "--outside")
    assert run(monkeypatch, "train", data, *options) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    command = shlex.join(["fullconv", "check", str(data), *options])
    assert last.startswith(f"{command} lists all faults, with pictures; {command} --fix DIR ")
    assert last.endswith("1 of these 1 are repaired")
    corpus.image(data, "c").unlink()
    shutil.rmtree(data / "masks" / "val")
    assert run(monkeypatch, "ladder", data) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"fullconv check {data} lists all faults, with pictures")
    assert run(monkeypatch, "train", data / "nowhere") == 3
    assert "fullconv check" not in capsys.readouterr().err


def test_an_interrupted_repair_leaves_nothing(data: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    corpus.base(data)
    examination, folder = examine(survey(data)), data.with_name("fixed")
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        repair(examination, folder, stop)
    assert [*folder.iterdir()] == []
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "fixed", "work"]
    assert repair(examination, folder).pairs == 5


@pytest.mark.parametrize("layout", ["folder", "images and masks"])
def test_masks_that_all_lack_the_rotation_of_their_images_are_all_turned(data: Path, layout: str) -> None:
    corpus.base(data)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = {path.stem: np.array(Image.open(path)) for path in (data / "masks").rglob("*.png")}
    for path in sorted((data / "images").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95)
        path.unlink()
    if layout != "folder":
        (data / "masks").rename(data / "labels")
    examination = examine(survey(data))
    assert examination.layout == layout
    (group,) = [group for group in examination.groups if group.severity == "error"]
    assert (group.kind, len(group.faults)) == ("exif-rotation", 5)
    assert all(map(examination.mends, group.faults))
    result, dataset = repair_folder(data)
    assert (result.left_out, names(dataset)) == ((), {"train": "abc", "val": "de"})
    for split in ("train", "val"):
        for sample in dataset.split(split):
            np.testing.assert_array_equal(dataset.read(sample)[1], np.rot90(upright[sample.name], -1))


@pytest.mark.parametrize("layout", ["values", "palette", "nodata"])
def test_masks_that_state_that_255_is_ignored_are_no_fault_and_keep_it(data: Path, layout: str) -> None:
    stated = {
        "values": "values: {0: ground, 1: roof, 255: ignore}\n",
        "palette": "names: [ground, roof]\npalette: [[0, 0, 0], [200, 0, 0]]\n",
        "nodata": "names: [ground, roof]\n",
    }
    corpus.some_of_0_255(data)
    (data / "dataset.yaml").write_text(stated[layout])
    colors = np.zeros((256, 3), np.uint8)
    colors[1], colors[255] = (200, 0, 0), 255
    for path in corpus_base.masks(data):
        labels = np.array(Image.open(path))
        if layout == "nodata":
            path.unlink()
            corpus.save(path.with_suffix(".tif"), labels, tiffinfo={42113: "255"})
        elif layout == "palette":
            corpus.save(path, colors[labels])
    assert "mask-0-255" not in {group.kind for group in examine(survey(data)).groups}
    before, (result, after) = find_dataset(data), repair_folder(data)
    assert (result.done, examine(survey(result.folder)).errors) == ((), 0)
    for one, other in zip(before.split("train"), after.split("train"), strict=True):
        np.testing.assert_array_equal(before.read_target(one), after.read_target(other))


def test_a_class_with_the_name_ignore_stays_a_class(data: Path) -> None:
    corpus.some_of_0_255(data)
    for path in corpus_base.masks(data):
        corpus.save(path, (np.array(Image.open(path)) > 0).astype(np.uint8))
    (data / "dataset.yaml").write_text("names: [ground, ignore]\n")
    before, (result, after) = find_dataset(data), repair_folder(data)
    assert examine(survey(result.folder)).errors == 0
    for one, other in zip(before.split("train"), after.split("train"), strict=True):
        np.testing.assert_array_equal(before.read_target(one), after.read_target(other))


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 255, 255)])
def test_255_in_masks_that_are_all_turned_is_a_class_only_if_no_mask_holds_1(
    data: Path, values: tuple[int, int, int]
) -> None:
    corpus.base(data)
    voc = data.with_name("voc")
    convert(find_dataset(data), voc, "voc")
    (voc / "labelmap.txt").rename(voc / "classes.txt").write_text("ground\nroof\n")
    for path in (voc / "SegmentationClass").iterdir():
        corpus.save(path, np.array(values, np.uint8)[np.array(Image.open(path)) % 253])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for path in sorted((voc / "JPEGImages").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95)
        path.unlink()
    result, dataset = repair_folder(voc)
    held = {label for sample in dataset.split("train") for label in np.unique(dataset.read_target(sample)).tolist()}
    assert (result.left_out, held) == ((), {0, 1, 255} if 1 in values else {0, 1})

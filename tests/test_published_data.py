"""Published data sets as their archives unpack: numbers become the documented classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import targets
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.published.cityscapes import CITYSCAPES_LABELS
from fullconv.data.published.synthia import SYNTHIA_LABELS
from fullconv.data.writers.names import name_file
from fullconv.doctor.examine import examine
from fullconv.doctor.repair import repair
from refusals import refuses

SIZE = (12, 16)


def fill(values: object) -> UInt8:
    """Return a picture whose pixels repeat the values, numbers or colours."""
    table = np.asarray(values)
    return table[np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % len(table)]


def put(path: Path, pixels: object | None = None, seed: int = 0) -> None:
    """Write a mask, or a noisy image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise if pixels is None else fill(pixels).astype(np.uint8)).save(path)


@pytest.mark.parametrize("home", ["", "data_semantics"])
def test_kitti_has_the_label_ids_of_cityscapes(home: str, tmp_path: Path) -> None:
    root = tmp_path / home / "training"
    for number in range(10):
        name = f"00000{number}_10.png"
        put(root / "image_2" / name)
        put(root / "semantic" / name, [7, 26, 4, 33, 0])
        put(root / "semantic_rgb" / name, [(128, 64, 128), (0, 0, 142)])
        put(root / "instance" / name, [1, 2])
        put(tmp_path / home / "testing" / "image_2" / name)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels) == ("kitti", CITYSCAPES_LABELS)
    found = targets(dataset)
    assert len(found) == 10
    assert all(np.array_equal(target, fill([0, 13, 255, 18, 255])) for target in found.values())
    assert len(dataset.split("val")) + len(dataset.split("train")) == 10


CONFIG = {
    "labels": [
        {"name": "animal--bird", "readable": "Bird", "color": [165, 42, 42], "evaluate": True},
        {"name": "void--car-mount", "readable": "Car Mount", "color": [32, 32, 32], "evaluate": False},
        {"name": "barrier--curb", "readable": "Curb", "color": [196, 196, 196], "evaluate": True},
        {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "evaluate": False},
    ]
}


def put_mapillary(root: Path, versions: tuple[str, ...]) -> None:
    for split, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            put(root / split / "images" / f"a{number}.jpg")
            for version in versions:
                for kind in ("instances", "labels", "panoptic"):
                    values = [0, 1, 2, 3] if version in ("", "v2.0") else [0, 1]
                    put(root / split / version / kind / f"a{number}.png", values)
    put(root / "testing" / "images" / "b.jpg")
    for version in versions:
        config = CONFIG if version in ("", "v2.0") else {"labels": CONFIG["labels"][2:]}
        (root / (f"config_{version}.json" if version else "config.json")).write_text(json.dumps(config))


@pytest.mark.parametrize("versions", [("",), ("v1.2", "v2.0")])
def test_mapillary_reads_its_newest_labels_and_ignores_what_is_not_evaluated(
    versions: tuple[str, ...], tmp_path: Path
) -> None:
    put_mapillary(tmp_path, versions)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("Bird", "Curb")
    assert dataset.labels.palette == ((165, 42, 42), (196, 196, 196))
    assert {split: len(found) for split, found in dataset.splits.items()} == {"train": 3, "val": 2}
    assert all(np.array_equal(target, fill([0, 255, 1, 255])) for target in targets(dataset).values())
    assert ("newest" in " ".join(dataset.notes)) == (len(versions) > 1)


def test_a_damaged_config_of_mapillary_is_a_fault(tmp_path: Path) -> None:
    put_mapillary(tmp_path, ("",))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:-9])
    with refuses("class-names", "config.json", "is not JSON"):
        find_dataset(tmp_path)


def put_mvtec(root: Path, good: str = "good", end: str = "_mask.png", photo: str = ".png") -> None:
    for number in range(6):
        put(root / "train" / good / f"{number:03d}{photo}", seed=number)
        put(root / "test" / good / f"{number:03d}{photo}", seed=number + 10)
    for kind, defect in enumerate(("broken_large", "contamination"), 2):
        for number in range(5):
            put(root / "test" / defect / f"{number:03d}{photo}", seed=number + 10 * kind)
            put(root / "ground_truth" / defect / f"{number:03d}{end}", [0, 0, 255])


@pytest.mark.parametrize("categories", [("",), ("bottle", "cable")])
def test_good_parts_of_mvtec_are_background(categories: tuple[str, ...], tmp_path: Path) -> None:
    for category in categories:
        put_mvtec(tmp_path / category)
    (tmp_path / "license.txt").write_text("x")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("mvtec", ("background", "defect"))
    found = targets(dataset)
    assert len(found) == 22 * len(categories)
    for name, target in found.items():
        expected = fill([0, 0, 1]) if "good" not in name else np.zeros(SIZE, np.uint8)
        assert np.array_equal(target, expected), name
    assert {name.split("/")[-2] for name in found} == {"good", "broken_large", "contamination"}
    val = {sample.name for sample in dataset.split("val")}
    assert val
    assert not any("train/" in name for name in val)
    assert "images of good parts as background" in " ".join(dataset.notes)
    for split in ("train", "val"):
        assert any((dataset.read(sample)[1] == 1).any() for sample in dataset.split(split))


def test_photos_of_mvtec_may_be_jpeg_but_not_its_masks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put_mvtec(data, photo=".jpg")
    assert len(targets(find_dataset(data))) == 22
    examination = examine(survey(data))
    assert examination.errors == 0
    result = repair(examination, tmp_path / "fixed")
    assert (result.left_out, result.done) == ((), ())
    copied = targets(find_dataset(tmp_path / "fixed"))
    assert len(copied) == 22
    for name, target in targets(find_dataset(data)).items():
        assert np.array_equal(copied[name_file(name)], target)
    put(data / "ground_truth" / "contamination" / "002_mask.jpg", [0, 0, 255])
    (data / "ground_truth" / "contamination" / "002_mask.png").unlink()
    with refuses("jpeg-mask", "002_mask.jpg"):
        find_dataset(data)


def test_folders_in_the_form_of_mvtec(tmp_path: Path) -> None:
    put_mvtec(tmp_path / "01", good="ok", end=".bmp")
    assert len(targets(find_dataset(tmp_path))) == 22
    (tmp_path / "01" / "ground_truth" / "contamination" / "002.bmp").unlink()
    with refuses("missing-mask", "test/contamination/002.png"):
        find_dataset(tmp_path)


def put_ade(root: Path, objects: dict[int, str], count: int = 3) -> None:
    for split, word in (("training", "train"), ("validation", "val")):
        for number in range(count):
            folder, stem = root / "images" / "ADE" / split / "urban" / "street", f"ADE_{word}_0000000{number}"
            put(folder / f"{stem}.jpg")
            numbers = [0, *list(objects)[:2]]
            put(folder / f"{stem}_seg.png", [(value // 256 * 10, value % 256, 7) for value in numbers])
            put(folder / f"{stem}_parts_1.png", [(0, 0, 0), (10, 200, 9)])
            put(folder / stem / "instance_000_ADE.png", [0, 255])
            items = [{"id": i, "name": name, "name_ndx": ndx, "parts": {"part_level": 0}} for i, (ndx, name) in
                     enumerate(objects.items())]  # fmt: skip
            items.append({"id": 99, "name": "wheel", "name_ndx": 456, "parts": {"part_level": 1}})
            (folder / f"{stem}.json").write_text(json.dumps({"annotation": {"object": items}}))


def test_the_folders_of_ade20k_may_hold_classes_that_a_file_names(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for number in range(3):
            put(tmp_path / "images" / split / f"{split}{number}.jpg")
            put(tmp_path / "annotations" / split / f"{split}{number}.png", [0, 1])
    assert find_dataset(tmp_path).layout == "ade20k"
    (tmp_path / "classes.txt").write_text("".join(f"part {number}\n" for number in range(150)))
    dataset = find_dataset(tmp_path)  # the values are still those of the benchmark
    assert (dataset.layout, dataset.labels.class_names[0]) == ("ade20k", "part 0")
    assert all(np.array_equal(target, fill([255, 0])) for target in targets(dataset).values())
    (tmp_path / "classes.txt").write_text("background\ntumour\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "tumour")
    assert all(np.array_equal(target, fill([0, 1])) for target in targets(dataset).values())


@pytest.mark.parametrize("home", ["", "ADE20K_2021_17_01"])
def test_the_full_ade20k_names_its_classes_in_json(home: str, tmp_path: Path) -> None:
    put_ade(tmp_path / home, {2978: "wall", 312: "building, edifice"})
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("ade20k", ("building", "wall"))
    assert {split: len(found) for split, found in dataset.splits.items()} == {"train": 3, "val": 3}
    assert all(np.array_equal(target, fill([255, 1, 0])) for target in targets(dataset).values())


def test_more_classes_than_a_network_can_learn_are_chosen_in_dataset_yaml(tmp_path: Path) -> None:
    put_ade(tmp_path, {value: f"thing {value}" for value in range(1, 300)})
    with refuses("class-names", "299 classes", "names: [thing 299"):
        find_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [thing 2, Thing 99]\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("thing 2", "Thing 99")
    assert all(np.array_equal(target, fill([255, 255, 0])) for target in targets(dataset).values())
    (tmp_path / "dataset.yaml").write_text("names: [thing 2, cat]\n")
    with refuses("class-names", "no object is called cat"):
        find_dataset(tmp_path)


def test_the_full_ade20k_needs_its_json_files(tmp_path: Path) -> None:
    put_ade(tmp_path, {1: "wall", 2: "sky"})
    next(tmp_path.rglob("ADE_train_00000001.json")).unlink()
    with refuses("class-names", "ADE_train_00000001.json", "ADEChallengeData2016"):
        find_dataset(tmp_path)
    put_ade(tmp_path, {1: "wall", 2: "sky"})
    put(next(tmp_path.rglob("ADE_val_00000001_seg.png")), [(0, 77, 0)])
    dataset = find_dataset(tmp_path)
    with refuses("unknown-label", "77"):
        targets(dataset)


def write_png_of_16_bits(path: Path, pixels: np.ndarray) -> None:
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, bands = pixels.shape
    with rasterio.open(path, "w", driver="PNG", height=height, width=width, count=bands, dtype="uint16") as file:
        file.write(np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("home", ["", "RAND_CITYSCAPES"])
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_synthia_stores_classes_in_the_first_channel_of_16_bits(home: str, tmp_path: Path) -> None:
    root = tmp_path / home
    stored = np.stack([fill([0, 1, 3, 22]), fill([0, 300, 4, 900]), fill([0, 0, 0, 0])], -1).astype(np.uint16)
    for number in range(6):
        put(root / "RGB" / f"000000{number}.png")
        write_png_of_16_bits(root / "GT" / "LABELS" / f"000000{number}.png", stored)
        put(root / "GT" / "COLOR" / f"000000{number}.png", [(0, 0, 0), (70, 130, 180)])
        put(root / "Depth" / f"000000{number}.png", [1, 2])
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels) == ("synthia", SYNTHIA_LABELS)
    found = targets(dataset)
    assert len(found) == 6
    assert all(np.array_equal(target, fill([255, 0, 2, 21])) for target in found.values())
    stored[0, 0, 0] = 23
    write_png_of_16_bits(root / "GT" / "LABELS" / "0000002.png", stored)
    with refuses("unknown-label", "0000002.png", "23"):
        targets(find_dataset(tmp_path))

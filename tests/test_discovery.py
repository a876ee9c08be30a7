"""Data sets as people have them: folders and files are found by their names, classes by what the masks hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import check
from fullconv.arrays import UInt8
from fullconv.data.discovery.name_rule import find_rules
from fullconv.data.discovery.words import parse_name
from fullconv.data.held_out import hold_out, series_of
from fullconv.data.layouts import find_dataset
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary, Question
from fullconv.data.mask_classes.values import decide_classes
from fullconv.errors import DataError
from fullconv.faults import KINDS

COLORS = np.array([(90, 110, 90), (200, 60, 50), (50, 80, 210)], np.uint8)


def scene(seed: int, classes: int = 3) -> tuple[UInt8, UInt8]:
    """Return a noisy picture of coloured rectangles, and its class ids."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((40, 60), np.uint8)
    for label in range(1, classes):
        top, left = int(rng.integers(0, 24)), int(rng.integers(0, 40))
        ids[top : top + 12, left : left + 16] = label
    noise = rng.integers(-20, 21, (40, 60, 3))
    return (COLORS[ids].astype(int) + noise).clip(0, 255).astype(np.uint8), ids


def save_ids(path: Path, ids: UInt8) -> None:
    Image.fromarray(ids).save(path)


def save_times(factor: int) -> Callable[[Path, UInt8], None]:
    return lambda path, ids: Image.fromarray(ids * np.uint8(factor)).save(path)


def save_colors(path: Path, ids: UInt8) -> None:
    Image.fromarray(COLORS[ids]).save(path)


def save_shuffled_palette(path: Path, ids: UInt8) -> None:
    """Every file has its own order of the palette, as an adaptive palette gives."""
    order = np.random.default_rng(len(path.name) + int(ids.sum())).permutation(3)
    image = Image.fromarray(order[ids].astype(np.uint8))
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = COLORS
    image.putpalette(palette.ravel().tolist())
    image.save(path)


def save_float(path: Path, ids: UInt8) -> None:
    tifffile.imwrite(path, ids.astype(np.float32))


@dataclass(frozen=True)
class Tree:
    """Where image and mask number i of a split lie, and how masks are stored; `splits` gives numbers of images."""

    image: str
    mask: str
    save: Callable[[Path, UInt8], None] = save_ids
    classes: int = 3
    splits: dict[str, int] = field(default_factory=lambda: {"": 10})
    names: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


SPLIT = {"train": 4, "val": 2}
TWO = ("background", "foreground")

TREES: dict[str, Tree] = {
    "image and label, 0 and 255": Tree("image/{i}.png", "label/{i}.png", save_times(255), 2, names=TWO),
    "masks of 0 and 128": Tree("imgs/{i}.png", "gt/{i}.png", save_times(128), 2, names=TWO),
    "masks of 0 and 1": Tree("photos/{i}.jpg", "targets/{i}.png", save_ids, 2, names=("class_0", "class_1")),
    "three levels": Tree("x/{i}.png", "y/{i}.png", save_times(50), names=("class_0", "class_50", "class_100")),
    "colours": Tree("rgb/{i}.png", "seg/{i}.png", save_colors),
    "palettes in other orders": Tree("images/{i}.png", "labels/{i}.png", save_shuffled_palette),
    "float32": Tree("images/{i}.png", "annotations/{i}.tif", save_float),
    "split inside": Tree("images/{s}/{i}.png", "labels/{s}/{i}.png", splits=SPLIT),
    "split outside": Tree("{s}/images/{i}.png", "{s}/masks/{i}.png", splits=SPLIT),
    "split in capitals": Tree("{S}_images/{i}.png", "{S}_masks/{i}.png", splits=SPLIT),
    "prepped": Tree("images_prepped_{s}/{i}.png", "annotations_prepped_{s}/{i}.png", splits=SPLIT),
    "img_dir": Tree("img_dir/{s}/{i}.jpg", "ann_dir/{s}/{i}.png", splits=SPLIT),
    "one folder, suffix": Tree("{i}.jpg", "{i}_mask.png"),
    "one folder, sat and mask": Tree("train/{i}_sat.jpg", "train/{i}_mask.png"),
    "one folder, letter": Tree("0016E5_{i}.png", "0016E5_{i}_L.png"),
    "one folder, jpg and png": Tree("{i}.jpg", "{i}.png"),
    "suffix in two folders": Tree("images/image_{i}.png", "labels/image_{i}_mask.png"),
    "prefixes": Tree("images/img_{i}.png", "gts/gt_{i}.png"),
    "ISIC": Tree("ISIC_Input/ISIC_{i}.jpg", "ISIC_GroundTruth/ISIC_{i}_segmentation.png"),
    "nnU-Net": Tree("imagesTr/case_{i}_0000.png", "labelsTr/case_{i}.png"),
    "masks of all splits in one folder": Tree("images/{s}/{s}{i}.png", "labels/{s}{i}.png", splits=SPLIT),
    "a folder in between": Tree("dataset/images/{i}.png", "dataset/labels/{i}.png"),
    "litter": Tree("imgs/{i}.png", "masks/{i}.png", extra=("__MACOSX/imgs/._0.png", "imgs/Thumbs.db", "README.md")),
    "test images without masks": Tree("{s}/x/{i}.png", "{s}/y/{i}.png", splits=SPLIT, extra=("test/x/9.png",)),
}  # fmt: skip


def build(root: Path, tree: Tree) -> dict[str, UInt8]:
    """Write a tree. Returns the class ids by the image's path."""
    truth = {}
    for split, count in tree.splits.items():
        for number in range(count):
            words = {"i": f"{number:03d}", "s": split, "S": split.title()}
            image, mask = root / tree.image.format(**words), root / tree.mask.format(**words)
            pixels, ids = scene(number + 100 * (split == "val"), tree.classes)
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            tree.save(mask, ids)
            truth[str(image)] = ids
    for name in tree.extra:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png" and "MACOSX" not in name:
            Image.fromarray(scene(7)[0]).save(path)
        else:
            path.write_bytes(b"litter")
    return truth


@pytest.mark.parametrize("name", TREES)
def test_pairs_classes_and_label_maps_are_right(tmp_path: Path, name: str) -> None:
    tree = TREES[name]
    truth = build(tmp_path, tree)
    dataset = find_dataset(tmp_path)
    samples = {str(sample.image): sample for split in dataset.splits.values() for sample in split}
    assert samples.keys() == truth.keys()
    if tree.names:
        assert dataset.labels.class_names == tree.names
    assert dataset.labels.num_classes == tree.classes
    numbers: dict[int, int] = {}  # class ids may come in another order: colours have none
    for path, ids in truth.items():
        _, target = dataset.read(samples[path])
        for label in range(tree.classes):
            (found,) = set(target[ids == label].tolist()) or {numbers.get(label, label)}
            assert numbers.setdefault(label, found) == found
    assert len(set(numbers.values())) == tree.classes
    if tree.save is not save_colors and tree.save is not save_shuffled_palette:
        assert numbers == {label: label for label in range(tree.classes)}
    sizes = {split: len(found) for split, found in dataset.splits.items()}
    assert sizes == ({"train": 8, "val": 2} if set(tree.splits) == {""} else tree.splits)


def test_several_masks_of_one_image_are_united(tmp_path: Path) -> None:
    """One file for each object, as in data sets of cell nuclei."""
    truth = {}
    for number in range(5):
        pixels, ids = scene(number, 3)
        folder = tmp_path / "stage1_train" / f"id{number}"
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "images" / f"id{number}.png")
        for label in (1, 2):
            Image.fromarray((ids == label).astype(np.uint8) * 255).save(folder / "masks" / f"id{number}_{label}.png")
        truth[f"id{number}"] = ids > 0
    dataset = find_dataset(tmp_path)
    for sample in (*dataset.split("train"), *dataset.split("val")):
        assert np.array_equal(dataset.read(sample)[1], truth[sample.name].astype(np.uint8))


def test_an_image_without_its_mask_is_left_out_and_many_are_a_fault(tmp_path: Path) -> None:
    tree = Tree("imgs/{i}.png", "labels/{i}.png", splits={"": 20})
    build(tmp_path, tree)
    (tmp_path / "labels" / "003.png").unlink()
    dataset = find_dataset(tmp_path)
    assert sum(len(samples) for samples in dataset.splits.values()) == 19
    assert "003.png" in " ".join(dataset.notes)
    for number in range(4, 9):
        (tmp_path / "labels" / f"00{number}.png").unlink()
    with pytest.raises(DataError) as refusal:
        find_dataset(tmp_path)
    assert {fault.kind for fault in refusal.value.faults} == {"missing-mask"}
    assert len(refusal.value.faults) == 6


def test_names_of_classes_in_the_order_of_the_values(tmp_path: Path) -> None:
    build(tmp_path, Tree("image/{i}.png", "label/{i}.png", save_times(100)))
    (tmp_path / "classes.txt").write_text("ground\nred\nblue\n")
    assert find_dataset(tmp_path).labels.class_names == ("ground", "red", "blue")


def test_check_prints_what_was_inferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "data", Tree("image/{i}.png", "label/{i}.png", save_times(255), 2))
    monkeypatch.chdir(tmp_path)
    check(monkeypatch, "data")
    printed = capsys.readouterr().out
    assert "image and label: 10 pairs" in printed
    assert "0 is the background and 255 is the one class" in printed
    assert "2 of 10 images are held out" in printed


@pytest.mark.parametrize(
    ("name", "role", "split"),
    [
        ("Train_images", "image", "train"),
        ("annotations_prepped_test", "mask", "test"),
        ("SegmentationClass", "mask", None),
        ("JPEGImages", "image", None),
        ("trainannot", "mask", "train"),
        ("imagesTs", "image", "test"),
        ("GroundTruth", "mask", None),
        ("Validation", None, "val"),
        ("trainval", None, None),
        ("480x360", None, None),
        ("y_train", "mask", "train"),
        ("image_masks", "mask", None),
    ],
)
def test_names_of_folders_say_role_and_split(name: str, role: str | None, split: str | None) -> None:
    parts = parse_name(name)
    assert (parts.role, parts.split) == (role, split)


def test_rules_for_names_are_found_and_ambiguity_is_kept() -> None:
    numbers = [f"{number:04d}" for number in range(40)]
    (matching,) = find_rules([f"img_{n}" for n in numbers], [f"gt_{int(n)}" for n in numbers])
    assert len(matching.pairs) == 40
    assert find_rules(["a", "b"], ["1", "2"]) == []
    assert len(find_rules(["a_1_2", "a_2_1"], ["b_1_2", "b_2_1"])) == 1


@pytest.mark.parametrize(
    ("masks", "names", "code"),
    [
        ([dict.fromkeys(range(200), 1)], None, "grey-levels"),
        ([{0: 100}], None, "only-background"),
        ([{0: 50, 1: 20, 2: 20, 3: 10}], ("a", "b"), "unknown-label"),
    ],
)
def test_ambiguous_numbers_are_a_question(
    masks: list[dict[int, int]], names: tuple[str, ...] | None, code: str
) -> None:
    decision = decide_classes([MaskSummary("numbers", counts) for counts in masks], names)
    assert isinstance(decision, Question)
    assert decision.code == code
    assert decision.code in KINDS


def test_masks_of_0_and_255_among_masks_of_0_and_1_are_faults() -> None:
    decision = decide_classes([MaskSummary("numbers", {0: 90, 1: 10}), MaskSummary("numbers", {0: 90, 255: 10})])
    assert isinstance(decision, ClassReading)
    assert {index: question.code for index, question in decision.odd.items()} == {1: "mask-0-255"}


@pytest.mark.parametrize(
    ("masks", "names"),
    [
        ([MaskSummary("colours", {code * 0x010203: 1 for code in range(100)})], None),
        ([MaskSummary("colours", {0x102030: 5, 0x405060: 5})], ("a", "b")),
        ([MaskSummary("colours", {0x102030: 5})], None),
        ([MaskSummary("numbers", {0: 5, 1: 5}), MaskSummary("colours", {0x102030: 5, 0x405060: 5})], None),
        ([MaskSummary("numbers", {255: 95})], None),
    ],
)
def test_every_question_is_a_fault_that_check_lists(masks: list[MaskSummary], names: tuple[str, ...] | None) -> None:
    decision = decide_classes(masks, names)
    assert isinstance(decision, Question)
    assert KINDS[decision.code] == "error"


@pytest.mark.parametrize(
    ("counts", "names", "ids"),
    [
        ({0: 60, 1: 30, 2: 10}, ("background", "building", "road"), {0: 0, 1: 1, 2: 2}),
        ({0: 60, 1: 30, 2: 10}, None, {0: 0, 1: 1, 2: 2}),
        ({0: 2, 1: 58, 2: 40}, ("building", "road"), {0: 255, 1: 0, 2: 1}),
    ],
)
def test_nodata_of_masks_is_the_background_unless_the_classes_say_otherwise(
    counts: dict[int, int], names: tuple[str, ...] | None, ids: dict[int, int]
) -> None:
    """QGIS writes masks whose background is declared as nodata."""
    decision = decide_classes([MaskSummary("numbers", counts, nodata=0)], names)
    assert isinstance(decision, ClassReading)
    assert dict(decision.numbers) == ids
    assert any("nodata" in note for note in decision.notes)


def test_a_fifth_is_held_out_exactly_and_every_class_is_on_both_sides() -> None:
    assert len(hold_out([str(index) for index in range(30)]).val) == 6
    classes = np.zeros((40, 4), bool)
    classes[:, 0] = True
    classes[::7, 1], classes[[3, 20], 2], classes[[5, 6], 3] = True, True, True
    held = hold_out([f"photo{index}" for index in range(40)], classes)
    val = np.isin(np.arange(40), held.val)
    assert val.sum() == 8
    for label in range(4):
        assert classes[val, label].any()
        assert classes[~val, label].any()


def test_series_of_names_stay_together() -> None:
    names = [f"scene{scene}x_{row}_{column}" for scene in range(12) for row in range(3) for column in range(3)]
    held = hold_out(names)
    val = {series_of(names[index]) for index in held.val}
    train = {series_of(name) for index, name in enumerate(names) if index not in held.val}
    assert not val & train
    assert "stay together" in held.reason

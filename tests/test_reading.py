"""Options about reading a data set: patterns of files, unlabelled pixels, the split, and strict reading."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import check, run
from fullconv.arrays import UInt8
from fullconv.data.discovery.patterns import translate
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import ReadingOptions
from refusals import refuses


def put(path: Path, pixels: UInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def labels(seed: int) -> UInt8:
    """Return ids in which every value is different for each seed, so that a wrong pair shows."""
    return np.random.default_rng(seed).integers(0, 2, (12, 16), dtype=np.uint8)


@pytest.fixture
def two_sets(tmp_path: Path) -> Path:
    """Ten pictures with two folders of masks each, which no rule prefers."""
    for number in range(10):
        put(tmp_path / "pictures" / f"p{number}.png", picture(number))
        put(tmp_path / "anna" / f"by_anna_{number}.png", labels(number))
        put(tmp_path / "boris" / f"by_boris_{number}.png", labels(100 + number))
    return tmp_path


@pytest.mark.parametrize(("person", "first"), [("anna", 0), ("boris", 100)])
def test_patterns_choose_the_files_and_their_wildcards_pair_them(two_sets: Path, person: str, first: int) -> None:
    options = ReadingOptions(images="pictures/p*.png", masks=f"{person}/by_{person}_*.png")
    dataset = find_dataset(two_sets, options)
    samples = [sample for split in dataset.splits.values() for sample in split]
    assert len(samples) == 10
    for sample in samples:
        number = int(sample.image.stem[1:])
        assert np.array_equal(dataset.read(sample)[1], labels(first + number))


def test_patterns_stand_in_dataset_yaml_too(two_sets: Path) -> None:
    text = "images: pictures/p*.png\nmasks: boris/by_boris_*.png\nval_share: 0.3\n"
    (two_sets / "dataset.yaml").write_text(text)
    dataset = find_dataset(two_sets)
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 7, "val": 3}
    assert dataset.options.masks == ("boris/by_boris_*.png",)
    assert find_dataset(two_sets, ReadingOptions(val_share=0.5)).options.val_share == 0.5


def test_patterns_keep_the_splits_that_folders_name(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("valid", 2)):
        for number in range(count):
            put(tmp_path / split / "city" / f"{number}" / "photo.png", picture(number))
            put(tmp_path / split / "city" / f"{number}" / "truth.png", labels(number))
    dataset = find_dataset(tmp_path, ReadingOptions(images="*/city/*/photo.png", masks="*/city/*/truth.png"))
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 4, "val": 2}
    for sample in dataset.split("train"):
        assert np.array_equal(dataset.read(sample)[1], labels(int(sample.image.parent.name)))


def test_patterns_without_common_text_are_paired_by_names(two_sets: Path) -> None:
    dataset = find_dataset(two_sets, ReadingOptions(images="pictures/*", masks="anna/*"))
    sample = dataset.split("train")[0]
    assert np.array_equal(dataset.read(sample)[1], labels(int(sample.image.stem[1:])))


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("a/*.png", {"a/x.png": ("x",)}, ["a/b/x.png", "b/x.png", "a/x.jpg"]),
        ("**/m/*_?.png", {"m/a_1.png": ("", "a", "1"), "q/r/m/b_2.png": ("q/r/", "b", "2")}, ["m/a_12.png"]),
        ("[ab]+.png", {"a+.png": ("a",)}, ["c+.png", "aa.png"]),
        ("[!ab].png", {"c.png": ("c",)}, ["a.png"]),
        ("./a.png", {"a.png": ()}, ["axpng"]),
    ],
)
def test_patterns_match_whole_paths(pattern: str, matched: dict[str, tuple[str, ...]], others: list[str]) -> None:
    expression = translate(pattern)
    for path, texts in matched.items():
        match = expression.fullmatch(path)
        assert match is not None
        assert match.groups() == texts
    assert not any(expression.fullmatch(path) for path in others)


def test_patterns_that_match_nothing_or_the_same_are_refused(two_sets: Path) -> None:
    with refuses("missing-file", "nothing/*.png"):
        find_dataset(two_sets, ReadingOptions(images="nothing/*.png", masks="anna/*"))
    with refuses("ambiguous-image", "p0.png"):
        find_dataset(two_sets, ReadingOptions(images="pictures/p*", masks="pictures/?0*"))


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (ReadingOptions(images="a/*"), "--images is given alone"),
        (ReadingOptions(masks="a/*"), "--masks is given alone"),
        (ReadingOptions(images="/a/*", masks="b"), "/a/*"),
        (ReadingOptions(images="../a/*", masks="b"), "../a/*"),
        (ReadingOptions(val_share=1.5), "1.5"),
        (ReadingOptions(val_share=0), "0"),
        (ReadingOptions(val_by="("), "("),
        (ReadingOptions(mask_nodata="both"), "both"),  # type: ignore[arg-type]
        (ReadingOptions(unlabelled=" "), "' '"),
    ],
)
def test_wrong_values_of_options_are_refused(two_sets: Path, options: ReadingOptions, value: str) -> None:
    with refuses("invalid-reading-option", value):
        find_dataset(two_sets, options)


@pytest.mark.parametrize(
    "text", ["val_share: 2\n", "images: pictures/*\n", "val_by: '('\n", "mask_nodata: 3\n", "unlabelled: 3\n"]
)
def test_wrong_values_in_dataset_yaml_are_faults_of_it(two_sets: Path, text: str) -> None:
    (two_sets / "dataset.yaml").write_text(text)
    with refuses("class-names", "dataset.yaml") as refusal:
        find_dataset(two_sets)
    assert text.partition(":")[0] in refusal.message


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Five scenes of four tiles each."""
    for scene in "abcde":
        for tile in range(4):
            put(tmp_path / "img" / f"{tile}-of-{scene}.png", picture(tile))
            put(tmp_path / "mask" / f"{tile}-of-{scene}.png", labels(tile))
    return tmp_path


def test_val_by_keeps_images_with_the_same_match_together(tiles: Path) -> None:
    dataset = find_dataset(tiles, ReadingOptions(val_by=r"of-(\w)"))
    scenes = {name: {sample.name[-1] for sample in samples} for name, samples in dataset.splits.items()}
    assert not scenes["train"] & scenes["val"]
    assert len(dataset.split("val")) == 4
    with refuses("val-by-matches-nothing", "scene-"):
        find_dataset(tiles, ReadingOptions(val_by="scene-"))


def test_val_share_divides_train_and_val_again_and_leaves_test(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 4), ("test", 3)):
        for number in range(count):
            put(tmp_path / split / "images" / f"{split}{number}.png", picture(number))
            put(tmp_path / split / "masks" / f"{split}{number}.png", labels(number))
    before, after = find_dataset(tmp_path), find_dataset(tmp_path, ReadingOptions(val_share=0.3))
    assert [len(before.split(name)) for name in ("train", "val", "test")] == [6, 4, 3]
    assert [len(after.split(name)) for name in ("train", "val", "test")] == [7, 3, 3]


def put_labelme(root: Path, count: int = 4) -> None:
    """Write pictures of 12 x 16 pixels, each with a square of `cat` and one of `dog`."""
    for number in range(count):
        put(root / f"{number}.png", picture(number))
        cat = {"label": "cat", "points": [[2, 2], [6, 2], [6, 6], [2, 6]], "shape_type": "polygon"}
        dog = {"label": "dog", "points": [[8, 8], [9, 8], [9, 9], [8, 9]], "shape_type": "polygon"}
        values = {"imagePath": f"{number}.png", "imageHeight": 12, "imageWidth": 16, "shapes": [cat, dog]}
        (root / f"{number}.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("choice", "names", "inside", "outside"),
    [
        (None, ("background", "cat", "dog"), 1, 0),
        ("ignore", ("cat", "dog"), 0, 255),
        ("dog", ("cat", "dog"), 0, 1),
    ],
)
def test_unlabelled_decides_what_no_shape_covers(
    tmp_path: Path, choice: str | None, names: tuple[str, ...], inside: int, outside: int
) -> None:
    put_labelme(tmp_path)
    dataset = find_dataset(tmp_path, ReadingOptions(unlabelled=choice))
    assert dataset.labels.class_names == names
    target = dataset.read(dataset.split("train")[0])[1]
    expected = np.full((12, 16), outside, np.uint8)
    expected[2:6, 2:6], expected[8, 8] = inside, inside + 1
    assert np.array_equal(target, expected)


def test_unlabelled_needs_shapes_and_a_known_class(tmp_path: Path, two_sets: Path) -> None:
    put_labelme(tmp_path / "shapes")
    with refuses("unknown-unlabelled-class", "bird", "background, cat, dog"):
        find_dataset(tmp_path / "shapes", ReadingOptions(unlabelled="bird"))
    with refuses("unlabelled-without-shapes"):
        find_dataset(two_sets, ReadingOptions(images="pictures/*", masks="anna/*", unlabelled="ignore"))


def test_strict_reading_makes_every_inference_a_fault(two_sets: Path) -> None:
    options = ReadingOptions(images="pictures/p*.png", masks="anna/by_anna_*.png", strict=True)
    with refuses("inferred", "held out"):
        find_dataset(two_sets, options)


def test_commands_take_the_options(
    two_sets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = two_sets.parent / f"{two_sets.name}-out"
    files = ["--images", "pictures/p*.png", "--masks", "boris/by_boris_*.png"]
    assert run(monkeypatch, "convert", two_sets, out, "--to", "folder", *files, "--val-share", "0.4") == 0
    copy = find_dataset(out)
    assert {name: len(samples) for name, samples in copy.splits.items()} == {"train": 6, "val": 4}
    monkeypatch.chdir(two_sets.parent)
    page = ["--html", two_sets.parent / f"{two_sets.name}.html"]
    capsys.readouterr()
    check(monkeypatch, two_sets, *files, "--json", "-", *page)
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("10 pairs" in note for note in notes)


def test_several_patterns_give_several_masks_of_an_image(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / "img" / f"{number}.png", picture(number))
        for kind, rows in (("cell", slice(0, 4)), ("rest", slice(6, 9))):
            mask = np.zeros((12, 16), np.uint8)
            mask[rows] = 255
            put(tmp_path / kind / f"{number}.png", mask)
    options = ReadingOptions(images=["img/*.png"], masks=["cell/*.png", "rest/*.png"])
    dataset = find_dataset(tmp_path, options)
    target = dataset.read(dataset.split("train")[0])[1]
    assert [int(row.max()) for row in target] == [1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0]


def test_options_become_words_of_a_command() -> None:
    options = ReadingOptions(images=["*a.png", "b b.png"], masks="*.png", val_by="-x", val_share=0.2, strict=True)
    words = "--images", "*a.png", "--images", "b b.png", "--masks", "*.png", "--val-share", "0.2", "--val-by=-x"
    assert shlex.split(options.to_arguments()) == [*words, "--strict"]

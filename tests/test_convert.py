"""Converted data sets are read as the same splits, classes, images and labels, pixel by pixel."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.cli.app import main
from fullconv.data.annotations.shapes import fill_rings
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import find_dataset
from fullconv.data.writers.write import LAYOUTS, convert
from fullconv.errors import DataError
from fullconv.images import write_image
from fullconv.images.polygons import find_regions
from fullconv.labels import LabelSet
from refusals import refuses

NAMES = (
    ("background", "cat", "dog", "a: b", "no"),
    ("road", "_background_", "é", "car", "1"),
    ("sky", "road", "pole", "car", "tree"),
)
NESTED = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 2, 255, 1], [1, 0, 255, 0, 1], [1, 1, 1, 1, 0]], np.uint8)


@st.composite
def maps(draw: st.DrawFn) -> UInt8:
    """Noise, or rectangles over each other, of five classes and ignored pixels; at least one pixel is above class 0."""
    height, width, seed = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    labels = np.array(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), min_size=1, max_size=6)), np.uint8)
    if draw(st.booleans()):
        target = generator.choice(labels, (height, width))
    else:
        target = np.zeros((height, width), np.uint8)
        for label in labels:
            top, left = generator.integers(0, height), generator.integers(0, width)
            target[top : top + generator.integers(1, 6), left : left + generator.integers(1, 6)] = label
    target[generator.integers(height), generator.integers(width)] = generator.integers(1, 5)
    return target


def return_target(target: UInt8) -> UInt8:
    return target


def make_dataset(root: Path, targets: dict[str, list[UInt8]], names: tuple[str, ...] = NAMES[0]) -> DataSet:
    """Return a data set of label maps in memory, with an image file for each."""
    splits = {}
    for split, members in targets.items():
        samples = []
        for number, target in enumerate(members):
            image = root / f"{split}{number}.png"
            write_image(image, np.full((*target.shape, 3), number, np.uint8))
            samples.append(Sample(f"{split}{number}", image, image, partial(return_target, target)))
        splits[split] = tuple(samples)
    return DataSet("memory", root, LabelSet.named(names), splits)


def assert_equal(one: DataSet, other: DataSet) -> None:
    assert one.labels.class_names == other.labels.class_names
    names = [
        {split: [sample.name for sample in samples] for split, samples in dataset.splits.items()}
        for dataset in (one, other)
    ]
    assert names[0] == names[1]
    for split, samples in one.splits.items():
        for sample, copy in zip(samples, other.splits[split], strict=True):
            assert sample.image.read_bytes() == copy.image.read_bytes()
            np.testing.assert_array_equal(one.read_target(sample), other.read(copy)[1])


@settings(max_examples=40)
@given(st.lists(maps(), min_size=1, max_size=2), st.sampled_from(NAMES), st.sampled_from(LAYOUTS))
def test_converted_data_sets_are_read_unchanged(targets: list[UInt8], names: tuple[str, ...], to: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder) / "in", {"train": targets, "val": [NESTED]}, names)
        convert(dataset, Path(folder) / "out", to)
        assert_equal(dataset, find_dataset(Path(folder) / "out"))


@given(maps())
def test_regions_traced_to_rings_and_filled_give_the_label_map(target: UInt8) -> None:
    drawn = np.full(target.shape, 77, np.uint8)
    times = np.zeros(target.shape, int)
    for region in find_regions(target):
        patch = fill_rings(region.rings, target.shape)
        assert np.count_nonzero(patch.mask) == region.pixels
        drawn[patch.slices][patch.mask] = region.label
        times[patch.slices] += patch.mask
    np.testing.assert_array_equal(drawn, target)
    assert np.all(times == 1)


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("then", LAYOUTS)
def test_two_conversions_in_sequence_keep_all_labels(tmp_path: Path, first: str, then: str) -> None:
    dataset = make_dataset(
        tmp_path / "in", {"train": [NESTED, NESTED.T.copy()], "val": [NESTED[::-1].copy()]}, NAMES[2]
    )
    convert(dataset, tmp_path / "a", first)
    convert(find_dataset(tmp_path / "a"), tmp_path / "b", then)
    assert_equal(dataset, find_dataset(tmp_path / "b"))


@pytest.mark.parametrize("to", LAYOUTS)
def test_classes_that_share_a_colour_get_different_ones(tmp_path: Path, to: str) -> None:
    """As in SYNTHIA, where walls and lane markings share one."""
    dataset = make_dataset(tmp_path / "in", {"train": [NESTED], "val": [NESTED.T.copy()]}, NAMES[2])
    colors = ((0, 0, 0), (70, 70, 70), (102, 102, 156), (102, 102, 156), (230, 159, 0))
    dataset = replace(dataset, labels=LabelSet(NAMES[2], colors))
    convert(dataset, tmp_path / "out", to)
    assert_equal(dataset, find_dataset(tmp_path / "out"))
    distinct = dataset.labels.with_distinct_colors().palette
    assert len(set(distinct)) == 5
    assert distinct[:3] + distinct[4:] == colors[:3] + colors[4:]


def run_convert(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["fullconv", "convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    convert(make_dataset(tmp_path / "in", {"train": [NESTED] * 3, "val": [NESTED]}), tmp_path / "folder", "folder")
    return tmp_path / "folder"


def test_convert_prints_splits_classes_and_layout(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    assert run_convert(monkeypatch, folder, out, "--to", "coco") == 0
    assert capsys.readouterr().out == f"{out}: 3 train, 1 val; 5 classes, as coco\n"
    assert run_convert(monkeypatch, folder, folder.parent / "val", "--to", "voc", "--split", "val") == 0
    assert {split: len(samples) for split, samples in find_dataset(folder.parent / "val").splits.items()} == {"val": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--to", "yolo"], 2, ["--to", "yolo", "folder", "voc", "coco", "labelme"]),
        (["--to", "voc", "--split", "val736"], 2, ["--split", "val736", "all", "train", "val", "test"]),
        (["--to", "voc", "--split", "test"], 3, ["'test'"]),
    ],
)
def test_convert_refuses_unknown_layouts_and_splits(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    out = folder.parent / "out"
    assert run_convert(monkeypatch, folder, out, *arguments) == code
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert not out.exists()


def test_convert_never_writes_into_a_folder_that_is_not_empty(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with refuses("folder-not-empty", folder):
        convert(find_dataset(folder), folder, "coco")
    assert sorted(folder.rglob("*")) == before
    empty = folder.parent / "empty"
    empty.mkdir()
    convert(find_dataset(folder), empty, "coco")
    assert find_dataset(empty).layout == "coco"


def test_convert_refuses_an_unknown_layout(folder: Path) -> None:
    with refuses("unknown-written-layout", "'yolo'", "labelme"):
        convert(find_dataset(folder), folder.parent / "out", "yolo")


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(folder: Path) -> None:
    dataset, out = find_dataset(folder), folder.parent / "out"
    before = set(folder.parent.iterdir())
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 3:
            assert not out.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(dataset, out, "folder", on_done=stop)
    assert not out.exists()
    assert set(folder.parent.iterdir()) == before
    convert(dataset, out, "folder")
    assert_equal(dataset, find_dataset(out))


def test_all_unreadable_masks_are_reported_and_nothing_is_written(folder: Path) -> None:
    dataset = find_dataset(folder)
    for name in ("train0", "train2"):
        Image.fromarray(np.full(NESTED.shape, 9, np.uint8)).save(folder / "masks" / "train" / f"{name}.png")
    with pytest.raises(DataError) as caught:
        convert(dataset, folder.parent / "out", "labelme")
    assert [fault.path.name for fault in caught.value.faults] == ["train0.png", "train2.png"]
    assert caught.value.code == "unknown-label"
    assert not (folder.parent / "out").exists()


def test_names_that_a_layout_cannot_store_are_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", {"train": [NESTED]}, ("background", "__ignore__", "#1"))
    with refuses("class-names", "__ignore__", "#1") as refusal:
        convert(dataset, tmp_path / "out", "voc")
    assert len(refusal.message.splitlines()) == 3
    blank = make_dataset(tmp_path / "blank", {"train": [NESTED]}, ("background", "cat", "cat "))
    for to in LAYOUTS:
        with refuses("class-names", "'cat '", to):
            convert(blank, tmp_path / "out", to)
    end = make_dataset(tmp_path / "end", {"train": [NESTED]}, ("background", "cat", "dog "))
    convert(end, tmp_path / "end-coco", "coco")
    assert_equal(end, find_dataset(tmp_path / "end-coco"))
    two_splits = make_dataset(tmp_path / "again", {"train": [NESTED], "val": [NESTED]})
    splits = {
        split: (Sample("a", *(samples[0].image,) * 2, samples[0].reader),)
        for split, samples in two_splits.splits.items()
    }
    same = DataSet("memory", two_splits.root, two_splits.labels, splits)
    with refuses("file-names", "voc"):
        convert(same, tmp_path / "out", "voc")
    convert(same, tmp_path / "out", "coco")
    assert_equal(same, find_dataset(tmp_path / "out"))


@pytest.mark.parametrize("to", LAYOUTS)
def test_file_names_that_are_not_utf8_are_written_by_the_folder_layout_only(tmp_path: Path, to: str) -> None:
    root, name = tmp_path / "in", os.fsdecode(b"caf\xe9")
    try:
        write_image(root / f"{name}.png", np.zeros((*NESTED.shape, 3), np.uint8))
    except OSError:
        pytest.skip("this file system accepts only UTF-8")
    sample = Sample(name, root / f"{name}.png", root, partial(return_target, NESTED))
    dataset = DataSet("memory", root, LabelSet.named(NAMES[0]), {"train": (sample,)})
    if to == "folder":
        convert(dataset, tmp_path / "out", to)
        assert_equal(dataset, find_dataset(tmp_path / "out"))
        return
    with refuses("file-names", r"caf\xe9.png", "UTF-8"):
        convert(dataset, tmp_path / "out", to)


def test_coco_annotations_have_boxes_and_areas_and_runs_for_holes(tmp_path: Path) -> None:
    convert(make_dataset(tmp_path / "in", {"train": [NESTED]}), tmp_path / "out", "coco")
    written = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    ring = next(one for one in written["annotations"] if isinstance(one["segmentation"], dict))
    assert (ring["category_id"], ring["area"], ring["bbox"]) == (2, 15, [0, 0, 5, 5])
    dot = next(one for one in written["annotations"] if one["category_id"] == 3)
    assert (dot["area"], dot["bbox"], dot["segmentation"]) == (1, [2, 2, 1, 1], [[2, 2, 3, 2, 3, 3, 2, 3]])

"""What convert writes is read as the same data set, pixel for pixel."""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fullconv.cli.app import main
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.formats.shapes import fill_rings
from fullconv.data.layouts import find_dataset
from fullconv.data.writers.write import LAYOUTS, convert
from fullconv.errors import DataError, UsageError
from fullconv.images import write_image
from fullconv.images.polygons import find_regions
from fullconv.labels import LabelSet

UInt8 = npt.NDArray[np.uint8]

NAMES = (
    ("background", "cat", "dog", "a: b", "no"),
    ("road", "_background_", "é", "car", "1"),
    ("sky", "road", "pole", "car", "tree"),
)
NESTED = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 2, 255, 1], [1, 0, 255, 0, 1], [1, 1, 1, 1, 0]], np.uint8)


@st.composite
def maps(draw: st.DrawFn) -> UInt8:
    """Noise, or blots in blots, of up to five classes and ignored pixels; one pixel is of a class above 0."""
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


def as_it_is(target: UInt8) -> UInt8:
    return target


def made(root: Path, targets: dict[str, list[UInt8]], names: tuple[str, ...] = NAMES[0]) -> DataSet:
    """A data set of label maps in memory, with an image file for each."""
    splits = {}
    for split, members in targets.items():
        samples = []
        for number, target in enumerate(members):
            image = root / f"{split}{number}.png"
            write_image(image, np.full((*target.shape, 3), number, np.uint8))
            samples.append(Sample(f"{split}{number}", image, image, partial(as_it_is, target)))
        splits[split] = tuple(samples)
    return DataSet("memory", root, LabelSet.named(names), splits)


def equal(one: DataSet, other: DataSet) -> None:
    assert one.labels.class_names == other.labels.class_names
    assert {split: [sample.name for sample in found] for split, found in one.splits.items()} == {
        split: [sample.name for sample in found] for split, found in other.splits.items()
    }
    for split, samples in one.splits.items():
        for mine, theirs in zip(samples, other.splits[split], strict=True):
            assert mine.image.read_bytes() == theirs.image.read_bytes()
            np.testing.assert_array_equal(one.read_target(mine), other.read(theirs)[1])


@settings(max_examples=40)
@given(st.lists(maps(), min_size=1, max_size=2), st.sampled_from(NAMES), st.sampled_from(LAYOUTS))
def test_what_is_written_is_read_as_it_was(targets: list[UInt8], names: tuple[str, ...], to: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = made(Path(folder) / "in", {"train": targets, "val": [NESTED]}, names)
        convert(dataset, Path(folder) / "out", to)
        equal(dataset, find_dataset(Path(folder) / "out"))


@given(maps())
def test_every_region_that_is_traced_and_filled_again_is_itself(target: UInt8) -> None:
    drawn = np.full(target.shape, 77, np.uint8)
    times = np.zeros(target.shape, int)
    for region in find_regions(target):
        patch = fill_rings(region.rings, target.shape)
        assert np.count_nonzero(patch.mask) == region.pixels
        height, width = patch.mask.shape
        place = slice(patch.top, patch.top + height), slice(patch.left, patch.left + width)
        drawn[place][patch.mask] = region.label
        times[place] += patch.mask
    np.testing.assert_array_equal(drawn, target)
    assert np.all(times == 1)


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("then", LAYOUTS)
def test_layouts_follow_on_each_other(tmp_path: Path, first: str, then: str) -> None:
    dataset = made(tmp_path / "in", {"train": [NESTED, NESTED.T.copy()], "val": [NESTED[::-1].copy()]}, NAMES[2])
    convert(dataset, tmp_path / "a", first)
    convert(find_dataset(tmp_path / "a"), tmp_path / "b", then)
    equal(dataset, find_dataset(tmp_path / "b"))


def type_convert(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["fullconv", "convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    convert(made(tmp_path / "in", {"train": [NESTED] * 3, "val": [NESTED]}), tmp_path / "folder", "folder")
    return tmp_path / "folder"


def test_the_command_says_what_it_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    assert type_convert(monkeypatch, folder, out, "--to", "coco") == 0
    assert capsys.readouterr().out == f"{out}: 3 train, 1 val; 5 classes, as coco\n"
    assert type_convert(monkeypatch, folder, folder.parent / "val", "--to", "voc", "--split", "val") == 0
    assert {split: len(found) for split, found in find_dataset(folder.parent / "val").splits.items()} == {"val": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "yolo"], 2, "'yolo' is not one of 'folder', 'voc', 'coco', 'labelme'"),
        (["--to", "voc", "--split", "val736"], 2, "'val736' is not one of 'all', 'train', 'val', 'test'"),
        (["--to", "voc", "--split", "test"], 3, "no samples in split 'test'"),
    ],
)
def test_what_the_command_refuses(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    out = folder.parent / "out"
    assert type_convert(monkeypatch, folder, out, *arguments) == code
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match="is not an empty folder"):
        convert(find_dataset(folder), folder, "coco")
    assert sorted(folder.rglob("*")) == before
    empty = folder.parent / "empty"
    empty.mkdir()
    convert(find_dataset(folder), empty, "coco")
    assert find_dataset(empty).layout == "coco"


def test_what_stops_half_way_leaves_nothing_and_can_be_done_again(folder: Path) -> None:
    dataset, out = find_dataset(folder), folder.parent / "out"
    stale = folder.parent / ".out.partial"
    (stale / "images" / "train").mkdir(parents=True)
    (stale / "images" / "train" / "old.png").write_bytes(b"")
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 3:
            assert not out.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(dataset, out, "folder", on_done=stop)
    assert not out.exists()
    assert not stale.exists()
    convert(dataset, out, "folder")
    equal(dataset, find_dataset(out))


def test_all_masks_that_cannot_be_read_are_told_and_nothing_is_written(folder: Path) -> None:
    dataset = find_dataset(folder)
    for name in ("train0", "train2"):
        Image.fromarray(np.full(NESTED.shape, 9, np.uint8)).save(folder / "masks" / "train" / f"{name}.png")
    with pytest.raises(DataError) as caught:
        convert(dataset, folder.parent / "out", "labelme")
    assert [fault.path.name for fault in caught.value.faults] == ["train0.png", "train2.png"]
    assert caught.value.code == "unknown-label"
    assert not (folder.parent / "out").exists()


def test_names_that_files_cannot_hold_are_refused(tmp_path: Path) -> None:
    dataset = made(tmp_path / "in", {"train": [NESTED]}, ("background", "__ignore__", "#1"))
    with pytest.raises(DataError) as caught:
        convert(dataset, tmp_path / "out", "voc")
    assert [line.split("'")[1] for line in caught.value.details] == ["__ignore__", "#1"]
    blank = made(tmp_path / "blank", {"train": [NESTED]}, ("background", "cat", "cat "))
    for to in ("folder", "voc", "labelme"):
        with pytest.raises(DataError, match=r"'cat ' cannot be written"):
            convert(blank, tmp_path / "out", to)
    convert(blank, tmp_path / "blank-coco", "coco")
    equal(blank, find_dataset(tmp_path / "blank-coco"))
    twice = made(tmp_path / "again", {"train": [NESTED], "val": [NESTED]})
    one = {split: (Sample("a", *(found[0].image,) * 2, found[0].reader),) for split, found in twice.splits.items()}
    same = DataSet("memory", twice.root, twice.labels, one)
    with pytest.raises(DataError, match="a layout with a folder for each split"):
        convert(same, tmp_path / "out", "voc")
    convert(same, tmp_path / "out", "coco")
    equal(same, find_dataset(tmp_path / "out"))


@pytest.mark.parametrize("to", LAYOUTS)
def test_file_names_that_are_no_text_are_refused_where_a_list_holds_them(tmp_path: Path, to: str) -> None:
    root, name = tmp_path / "in", os.fsdecode(b"caf\xe9")
    try:
        write_image(root / f"{name}.png", np.zeros((*NESTED.shape, 3), np.uint8))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    sample = Sample(name, root / f"{name}.png", root, partial(as_it_is, NESTED))
    dataset = DataSet("memory", root, LabelSet.named(NAMES[0]), {"train": (sample,)})
    if to == "folder":
        convert(dataset, tmp_path / "out", to)
        equal(dataset, find_dataset(tmp_path / "out"))
        return
    with pytest.raises(DataError, match=r"caf\\xe9\.png: has a name that is not UTF-8, .*; rename it"):
        convert(dataset, tmp_path / "out", to)


def test_coco_tells_boxes_and_areas_and_keeps_holes_in_runs(tmp_path: Path) -> None:
    convert(made(tmp_path / "in", {"train": [NESTED]}), tmp_path / "out", "coco")
    written = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    ring = next(one for one in written["annotations"] if isinstance(one["segmentation"], dict))
    assert (ring["category_id"], ring["area"], ring["bbox"]) == (2, 15, [0, 0, 5, 5])
    dot = next(one for one in written["annotations"] if one["category_id"] == 3)
    assert (dot["area"], dot["bbox"], dot["segmentation"]) == (1, [2, 2, 1, 1], [[2, 2, 3, 2, 3, 3, 2, 3]])

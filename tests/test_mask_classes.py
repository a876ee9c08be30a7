"""What masks store becomes classes, in the folder layout and in folders of other names alike."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary, Question
from fullconv.data.mask_classes.values import decide_classes
from fullconv.data.reading import MaskNodata
from fullconv.data.statistics import read_statistics, read_training_data
from fullconv.errors import DataError
from fullconv.images.decoders.mask_arrays import read_array_mask
from refusals import refuses

COLORS = np.array([(0, 255, 255), (255, 255, 0), (0, 0, 255)], np.uint8)
GREY = np.array([(0, 0, 0), (200, 60, 50), (50, 80, 210)], np.uint8)
NAMES = ("ground", "red", "blue")
Save = Callable[[Path, UInt8], None]


def ids_of(number: int, classes: int = 3) -> UInt8:
    """Return class ids: rectangles on class 0. Image 1 has no class 1."""
    rng = np.random.default_rng(number)
    ids = np.zeros((40, 56), np.uint8)
    for label in range(1, classes):
        top, left = int(rng.integers(2, 22)), int(rng.integers(2, 34))
        ids[top : top + 14, left : left + 18] = label
    if number == 1 and classes > 2:
        ids[ids == 1] = 0
    return ids


def build(
    root: Path, save: Save, suffix: str = ".png", classes: int = 3, folders: tuple[str, str] = ("images", "masks")
) -> None:
    for number in range(6):
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / folders[0] / f"{number}.png")
        save(root / folders[1] / f"{number}{suffix}", ids_of(number, classes))


def name(root: Path, colors: npt.NDArray[np.uint8] | None = None, names: tuple[str, ...] = NAMES) -> None:
    if colors is None:
        (root / "classes.txt").write_text("\n".join(names))
    else:
        palette = json.dumps(colors.tolist())
        (root / "dataset.yaml").write_text(f"names: [{', '.join(names)}]\npalette: {palette}\n")


def times(factor: int, dtype: str = "uint8") -> Save:
    def save(path: Path, ids: UInt8) -> None:
        stored = (ids.astype(np.int64) * factor).astype(dtype)
        if path.suffix == ".tif":
            tifffile.imwrite(path, stored)
        else:
            Image.fromarray(stored).save(path)

    return save


def plus_one(path: Path, ids: UInt8) -> None:
    Image.fromarray(ids + np.uint8(1)).save(path)


def in_colors(path: Path, ids: UInt8) -> None:
    Image.fromarray(COLORS[ids]).save(path)


def own_palette(colors: npt.NDArray[np.uint8]) -> Save:
    """Return a function that saves with only the colours of this file, as adaptive palettes have them."""

    def save(path: Path, ids: UInt8) -> None:
        held = np.random.default_rng(int(path.stem)).permutation(np.unique(ids))
        image = Image.fromarray(np.searchsorted(np.sort(held), ids).astype(np.uint8))
        order = np.argsort(held)  # the index of each class in this file
        image = Image.fromarray(order[np.searchsorted(np.sort(held), ids)].astype(np.uint8))
        image.putpalette(colors[held].ravel().tolist())
        image.save(path)

    return save


def once_jpeg(colors: npt.NDArray[np.uint8]) -> Save:
    def save(path: Path, ids: UInt8) -> None:
        file = io.BytesIO()
        Image.fromarray(colors[ids]).save(file, "JPEG", quality=92)
        if path.suffix == ".jpg":
            path.write_bytes(file.getvalue())
        else:
            Image.open(file).save(path)

    return save


def clear_ground(path: Path, ids: UInt8) -> None:
    pixels = np.dstack([GREY[ids], np.full(ids.shape, 255, np.uint8)])
    pixels[ids == 0] = (255, 255, 255, 0)
    Image.fromarray(pixels).save(path)


def with_nodata(value: str) -> Save:
    def save(path: Path, ids: UInt8) -> None:
        tags = ImageFileDirectory_v2()
        tags[42113] = value
        Image.fromarray(ids).save(path, tiffinfo=tags)

    return save


def as_npz(path: Path, ids: UInt8) -> None:
    np.savez_compressed(path, mask=ids, affine=np.eye(4)[0])


def as_npy(path: Path, ids: UInt8) -> None:
    np.save(path, ids == 1)


def as_mat(path: Path, ids: UInt8) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(path, {"label": ids.astype(np.float64), "note": "made by hand"}, do_compression=True)


def gif(path: Path, ids: UInt8) -> None:
    Image.fromarray(ids).save(path)


TWO = ("background", "foreground")

CASES: dict[str, tuple[Save, str, int, npt.NDArray[np.uint8] | None, tuple[str, ...]]] = {
    "0 and 255": (times(255), ".png", 2, None, TWO),
    "0 and 1": (times(1), ".png", 2, None, ("class_0", "class_1")),
    "0 and 128": (times(128), ".png", 2, None, TWO),
    "1 and 2": (plus_one, ".png", 2, None, TWO),
    "float32": (times(255, "float32"), ".tif", 2, None, TWO),
    "int64": (times(255, "int64"), ".tif", 2, None, TWO),
    "uint16": (times(65535, "uint16"), ".tif", 2, None, TWO),
    "three levels": (times(100), ".png", 3, None, ("class_0", "class_100", "class_200")),
    "GIF": (gif, ".gif", 3, None, ("class_0", "class_1", "class_2")),
    "npz": (as_npz, ".npz", 3, None, ("class_0", "class_1", "class_2")),
    "npy": (as_npy, ".npy", 2, None, ("class_0", "class_1")),
    "mat": (as_mat, ".mat", 3, None, ("class_0", "class_1", "class_2")),
    "nodata is the background": (with_nodata("0"), ".tif", 3, None, ("class_0", "class_1", "class_2")),
    "transparent ground": (clear_ground, ".png", 3, GREY, NAMES),
    "palettes of each file": (own_palette(COLORS), ".png", 3, COLORS, NAMES),
}  # fmt: skip


@pytest.mark.parametrize("folders", [("images", "masks"), ("image", "label")])
@pytest.mark.parametrize("case", CASES)
def test_masks_become_classes_pixel_by_pixel(tmp_path: Path, case: str, folders: tuple[str, str]) -> None:
    save, suffix, classes, table, names = CASES[case]
    build(tmp_path, save, suffix, classes, folders)
    if table is not None:
        name(tmp_path, table)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == names
    samples = [sample for split in dataset.splits.values() for sample in split]
    assert len(samples) == 6
    for sample in samples:
        assert np.array_equal(dataset.read(sample)[1], ids_of(int(sample.name), classes))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("named", [True, False])
def test_colours_that_jpeg_moved_get_the_nearest_class_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, named: bool
) -> None:
    build(tmp_path, once_jpeg(COLORS), suffix)
    if named:
        name(tmp_path, COLORS)
    with caplog.at_level(logging.WARNING, "fullconv"):
        dataset = find_dataset(tmp_path)
    assert "% of the pixels of the masks have no value of a class" in caplog.text
    apart = np.abs(np.array(dataset.labels.palette)[:, None].astype(int) - COLORS).sum(2)
    classes = apart.argmin(1)
    for sample in dataset.split("train"):
        assert (classes[dataset.read(sample)[1]] != ids_of(int(sample.name))).mean() < 0.03
    assert len(set(classes)) == 3


def test_grey_levels_that_jpeg_moved_get_the_nearest_one(tmp_path: Path) -> None:
    build(tmp_path, lambda path, ids: Image.fromarray(ids * np.uint8(255)).save(path, quality=90), ".jpg", 2)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == TWO
    for sample in dataset.split("train"):
        assert (dataset.read(sample)[1] != ids_of(int(sample.name), 2)).mean() < 0.01


def test_class_ids_in_jpeg_are_refused(tmp_path: Path) -> None:
    build(tmp_path, lambda path, ids: Image.fromarray(ids).save(path, quality=90), ".jpg")
    name(tmp_path)
    with pytest.raises(DataError) as refusal:
        find_dataset(tmp_path)
    assert {fault.kind for fault in refusal.value.faults} == {"jpeg-mask"}


def test_a_colour_of_no_class_is_a_fault_of_its_file(tmp_path: Path) -> None:
    build(tmp_path, in_colors)
    name(tmp_path, COLORS)
    pixels = COLORS[ids_of(3)]
    pixels[:6, :9] = (120, 10, 20)
    Image.fromarray(pixels).save(tmp_path / "masks" / "3.png")
    with refuses("unknown-colour", tmp_path, "#780a14"):
        find_dataset(tmp_path)


def test_palettes_that_differ_with_names_are_a_question_that_its_edit_answers(tmp_path: Path) -> None:
    build(tmp_path, own_palette(COLORS))
    name(tmp_path)
    with refuses("no-colour-table", tmp_path, "`values: {"):
        find_dataset(tmp_path)
    (tmp_path / "classes.txt").unlink()
    name(tmp_path, COLORS)
    dataset = find_dataset(tmp_path)
    for sample in dataset.split("train"):
        assert np.array_equal(dataset.read(sample)[1], ids_of(int(sample.name)))


def test_indices_count_where_palettes_have_more_colours_than_classes(tmp_path: Path) -> None:
    """Half of the masks were saved with other display colours."""

    def save(path: Path, ids: UInt8) -> None:
        image = Image.fromarray(ids)
        image.putpalette((COLORS if int(path.stem) % 2 else GREY).ravel().tolist())
        image.save(path)

    build(tmp_path, save)
    name(tmp_path)
    dataset = find_dataset(tmp_path)
    for sample in dataset.split("train"):
        assert sample.reader is None
        assert np.array_equal(dataset.read(sample)[1], ids_of(int(sample.name)))


def test_an_ignored_index_stays_ignored_where_a_class_is_white(tmp_path: Path) -> None:
    colors = np.array([(0, 0, 0), (255, 255, 255), (9, 200, 9)], np.uint8)

    def save(path: Path, ids: UInt8) -> None:
        stored = ids.copy()
        stored[0] = 255
        image = Image.fromarray(stored)
        image.putpalette([*colors.ravel().tolist(), *[255] * 759])
        image.save(path)

    build(tmp_path, save)
    name(tmp_path, colors)
    dataset = find_dataset(tmp_path)
    for sample in dataset.split("train"):
        target = dataset.read(sample)[1]
        assert (target[0] == 255).all()
        assert np.array_equal(target[1:], ids_of(int(sample.name))[1:])


@pytest.mark.parametrize(("chosen", "ids"), [("ignore", {0: 255, 1: 1, 2: 2}), ("background", {0: 0, 1: 1, 2: 2})])
def test_the_user_settles_what_nodata_of_masks_is(chosen: MaskNodata, ids: dict[int, int]) -> None:
    decision = decide_classes([MaskSummary("numbers", {0: 60, 1: 30, 2: 10}, nodata=0)], NAMES, nodata=chosen)
    assert isinstance(decision, ClassReading)
    assert {code: decision.numbers[code] for code in ids} == ids


def test_nodata_next_to_a_background_is_ignored() -> None:
    decision = decide_classes([MaskSummary("numbers", {0: 50, 1: 20, -9999: 30}, nodata=-9999)])
    assert isinstance(decision, ClassReading)
    assert (decision.numbers[-9999], decision.numbers[0], decision.numbers[1]) == (255, 0, 1)


def test_nodata_without_another_background_is_the_background() -> None:
    decision = decide_classes([MaskSummary("numbers", {1: 20, -9999: 80}, nodata=-9999)])
    assert isinstance(decision, ClassReading)
    assert (decision.names, decision.numbers) == (TWO, {-9999: 0, 1: 1})


@pytest.mark.parametrize(("chosen", "label"), [("ignore", 255), ("background", 0), (None, 0)])
def test_transparent_pixels_follow_the_same_rule(chosen: MaskNodata | None, label: int) -> None:
    table = {0x102030: 0, 0xC83C32: 1, 0x3250D2: 2}
    masks = [MaskSummary("colours", {-1 - 0xFFFFFF: 70, 0xC83C32: 20, 0x3250D2: 10})]
    decision = decide_classes(masks, NAMES, table, chosen)
    assert isinstance(decision, ClassReading)
    assert decision.colours[-1 - 0xFFFFFF] == label


def test_smoothed_edges_of_two_values_are_the_nearest_of_them(tmp_path: Path) -> None:
    def save(path: Path, ids: UInt8) -> None:
        large = Image.fromarray(ids * np.uint8(255)).resize((560, 400), Image.Resampling.NEAREST)
        large.resize((112, 80), Image.Resampling.BICUBIC).resize((168, 120), Image.Resampling.BICUBIC).save(path)

    build(tmp_path, save, classes=2)
    for path in (tmp_path / "images").iterdir():
        Image.open(path).resize((168, 120)).save(path)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == TWO
    for sample in dataset.split("train"):
        wanted = np.repeat(np.repeat(ids_of(int(sample.name), 2), 3, 0), 3, 1)
        assert (dataset.read(sample)[1] != wanted).mean() < 0.01


@pytest.mark.parametrize("in_color", [True, False])
def test_values_off_by_a_few_levels_are_the_nearest_ones(tmp_path: Path, in_color: bool) -> None:
    def save(path: Path, ids: UInt8) -> None:
        stored = COLORS[ids] if in_color else ids * np.uint8(120)
        noise = np.random.default_rng(int(path.stem)).integers(-2, 3, stored.shape)
        Image.fromarray((stored.astype(int) + noise).clip(0, 255).astype(np.uint8)).save(path)

    build(tmp_path, save)
    if in_color:
        name(tmp_path, COLORS)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.num_classes == 3
    for sample in dataset.split("train"):
        assert np.array_equal(dataset.read(sample)[1], ids_of(int(sample.name)))


def test_photos_in_place_of_masks_are_a_question() -> None:
    rng = np.random.default_rng(0)
    counts = {code: int(count) for code, count in enumerate(rng.integers(1, 99, 256))}
    decision = decide_classes([MaskSummary("numbers", counts)])
    assert isinstance(decision, Question)
    assert decision.code == "grey-levels"


def test_a_file_of_several_arrays_is_a_question(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.zeros((4, 5)), two=np.zeros((4, 5)))
    with refuses("unsupported-format", tmp_path / "a.npz", "one (4 x 5), two (4 x 5)"):
        read_array_mask(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK no archive")
    with refuses("unreadable-file", tmp_path / "b.npz"):
        read_array_mask(tmp_path / "b.npz")


@pytest.mark.parametrize("case", ["0 and 255", "three levels", "GIF", "palettes of each file", "transparent ground"])
def test_the_counts_of_the_first_pass_are_those_of_the_statistics(tmp_path: Path, case: str) -> None:
    save, suffix, classes, table, _ = CASES[case]
    build(tmp_path, save, suffix, classes)
    if table is not None:
        name(tmp_path, table)
    dataset, statistics = read_training_data(tmp_path)
    assert statistics == read_statistics(dataset)


@pytest.mark.parametrize("names", [None, ("background", "cat", "dog", "a: b", "no")])
def test_a_few_labels_next_to_ignored_pixels_are_not_smoothed_edges(
    tmp_path: Path, names: tuple[str, ...] | None
) -> None:
    thin = np.array([[3, 3, 4, 255, 0, 0], [255, 2, 1, 1, 255, 3]], np.uint8)
    masks = {"thin": thin, "other": np.repeat(np.arange(5, dtype=np.uint8), 4).reshape(4, 5)}
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for stem, mask in masks.items():
        Image.fromarray(np.full((*mask.shape, 3), 7, np.uint8)).save(tmp_path / "images" / f"{stem}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{stem}.png")
    if names is not None:
        (tmp_path / "classes.txt").write_text("\n".join(names))
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == (names or tuple(f"class_{index}" for index in range(5)))
    read = {sample.name: dataset.read(sample)[1] for samples in dataset.splits.values() for sample in samples}
    for stem, mask in masks.items():
        np.testing.assert_array_equal(read[stem], mask)


def test_many_named_classes_of_thin_objects_are_not_smoothed_edges() -> None:
    rng = np.random.default_rng(0)
    counts = {int(value): 3 for value in rng.permutation(150)} | {0: 5000, 149: 700}
    masks = [MaskSummary("numbers", counts, size=(90, 90), solid=frozenset({0, 149}))]
    named = decide_classes(masks, [f"c{index}" for index in range(150)])
    assert isinstance(named, ClassReading)
    assert (named.nearest, named.numbers[77]) == (False, 77)

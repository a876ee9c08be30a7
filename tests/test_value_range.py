"""The range of images of more than 8 bits: measured on training images, kept in the model, and set for predict."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

import fullconv
from command_line import run
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_training_data
from fullconv.data.value_range import measure_range
from fullconv.errors import DataError
from fullconv.images import InputFormat, read_image, write_label_map
from fullconv.images.decoders.values import to_bytes
from fullconv.images.stored_values import robust_range, sample_values
from fullconv.predict.ranges import find_common_misfit, find_misfit
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

Numbers = npt.NDArray[np.generic]
NODATA = {"extratags": [(42113, 2, 0, "-9999", True)]}


def label_map(seed: int) -> npt.NDArray[np.uint8]:
    target = np.zeros((48, 64), np.uint8)
    target[8 + seed : 24 + seed, 12:40] = 1
    return target


def write_data(
    root: Path, make: Callable[[npt.NDArray[np.uint8], int], Numbers], keys: str = "", **options: object
) -> Path:
    """Write four training pairs and two validation pairs; `make` gets a label map and a seed."""
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for seed in seeds:
            target = label_map(seed)
            tifffile.imwrite(root / "images" / split / f"{seed}.tif", make(target, seed), **options)
            Image.fromarray(target).save(root / "masks" / split / f"{seed}.png")
    (root / "dataset.yaml").write_text(f"names: [ground, cell]\n{keys}")
    return root


def camera(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
    """Of a 12-bit camera: two levels that differ by 100 of 65535."""
    noise = np.random.default_rng(seed).normal(0, 15, target.shape)
    return (500 + 100.0 * target + noise).astype(np.uint16)


def heights(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
    """Of an elevation model without data in a corner."""
    metres = (300 + 100.0 * target + np.random.default_rng(seed).uniform(0, 50, target.shape)).astype(np.float32)
    metres[:5, :5] = -9999
    return metres


def measured(root: Path) -> DataSet:
    return read_training_data(root)[0]


def test_a_12_bit_camera_is_scaled_by_its_own_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fullconv"):
        dataset = measured(write_data(tmp_path / "data", camera))
    assert dataset.value_range is not None
    low, high = dataset.value_range
    assert 440 < low < 475 < 625 < high < 660
    image, target = dataset.read(dataset.split("train")[0])
    assert image[target == 1].mean() - image[target == 0].mean() > 100  # of the 0.4 levels by the type
    lines = [record.getMessage() for record in caplog.records if "range:" in record.getMessage()]
    assert len(lines) == 1
    assert f"values {low:g} to {high:g} become 0 to 255" in lines[0]
    assert "`range: [LOW, HIGH]` in dataset.yaml" in lines[0]


def test_nodata_that_the_files_declare_is_not_part_of_the_range(tmp_path: Path) -> None:
    dataset = measured(write_data(tmp_path / "data", heights, **NODATA))
    assert dataset.value_range is not None
    assert 299 <= dataset.value_range[0] <= 301
    assert 449 <= dataset.value_range[1] <= 451
    assert (dataset.read(dataset.split("val")[0])[1][:5, :5] == 255).all()


def test_nodata_that_nobody_declares_is_a_question(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", heights)
    with refuses("value-range", "-9999", "gdal_edit.py -a_nodata -9999", "`range: [300, 450]` in dataset.yaml"):
        measured(root)
    found = [fault.kind for group in fullconv.check(root).groups for fault in group.faults]
    assert found == ["value-range"]
    (root / "dataset.yaml").write_text("names: [ground, cell]\nrange: [300, 450]\n")
    assert measured(root).value_range == (300, 450)


SCALES: dict[str, Callable[[Numbers, int], Numbers]] = {
    "16 bits with a constant offset": lambda levels, seed: (levels + 32768).astype(np.uint16),
    "signed 16 bits": lambda levels, seed: levels.astype(np.int16),
    "12 bits in the upper bits of 16": lambda levels, seed: levels.astype(np.uint16) * 4 << 4,
    "32 bits": lambda levels, seed: levels.astype(np.uint32) * 1000,
    "floats in 0 to 1": lambda levels, seed: (levels / 1000).astype(np.float32),
    "tiny floats": lambda levels, seed: (levels / 1e5).astype(np.float32),
    "doubles around 0": lambda levels, seed: levels.astype(np.float64) - 550,
    "hot pixels": lambda levels, seed: np.where(
        np.arange(levels.size).reshape(levels.shape) == 7 * seed, 65535, levels
    ),
    "dead pixels": lambda levels, seed: np.where(np.arange(levels.size).reshape(levels.shape) == 7 * seed, 0, levels),
}


@pytest.mark.parametrize("kind", SCALES)
def test_any_type_and_offset_gives_the_same_contrast(tmp_path: Path, kind: str) -> None:
    def make(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
        levels = camera(target, seed)
        return SCALES[kind](levels, seed).astype(np.uint16 if "pixels" in kind else None)

    dataset = measured(write_data(tmp_path / "data", make))
    for split in ("train", "val"):
        image, target = dataset.read(dataset.split(split)[0])
        assert 45 < image[target == 0].mean() < 80
        assert 185 < image[target == 1].mean() < 215
    assert dataset.range_facts is not None
    assert dataset.range_facts.doubt == ""


@pytest.mark.parametrize("seed", [2, 5])
def test_nan_in_one_image_is_found_before_training(tmp_path: Path, seed: int) -> None:
    """In a training image (2) and in a validation image (5), with the command that declares it as no data."""

    def make(target: npt.NDArray[np.uint8], number: int) -> Numbers:
        values = camera(target, number).astype(np.float32)
        values[:5, :5] = np.nan if number == seed else values[:5, :5]
        return values

    root = write_data(tmp_path / "data", make)
    with refuses("not-finite", f"{seed}.tif", "gdal_edit.py -a_nodata nan FILE"):
        measured(root)
    found = [fault.kind for group in fullconv.check(root).groups for fault in group.faults]
    assert found == ["not-finite"]
    shutil.rmtree(root)
    dataset = measured(write_data(root, make, extratags=[(42113, 2, 0, "nan", True)]))
    targets = [dataset.read(sample)[1] for split in ("train", "val") for sample in dataset.split(split)]
    assert [int((target == 255).sum()) for target in targets] == [25 * (number == seed) for number in range(6)]


def test_negative_integers_are_read(tmp_path: Path) -> None:
    dataset = measured(write_data(tmp_path / "data", lambda t, seed: camera(t, seed).astype(np.int16) - 550))
    assert dataset.value_range is not None
    assert dataset.value_range[0] < -80
    image, target = dataset.read(dataset.split("val")[0])
    assert image[target == 1].mean() - image[target == 0].mean() > 100


def test_one_value_above_1_is_clipped_and_the_others_stay(tmp_path: Path) -> None:
    def reflectance(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
        values = np.linspace(0, 1, target.size, dtype=np.float32).reshape(target.shape)
        values[0, 0] = 1.0004 if seed == 0 else 1.3 if seed == 1 else 0
        return values

    dataset = measured(write_data(tmp_path / "data", reflectance))
    assert dataset.value_range == (0, 1)
    first = dataset.read(dataset.split("train")[0])[0][..., 0]
    values = reflectance(label_map(0), 0)
    assert first[0, 0] == 255
    np.testing.assert_array_equal(first.ravel()[1:], np.rint(values * 255).ravel()[1:])


@pytest.mark.parametrize("kind", ["16 bits", "colours of 16 bits", "floats"])
def test_images_that_fill_their_type_are_read_as_before(tmp_path: Path, kind: str) -> None:
    def full(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
        shape = (*target.shape, 3) if kind.startswith("colours") else target.shape
        noise = np.random.default_rng(seed).integers(0, 65536, shape).astype(np.uint16)
        return (noise / 65535).astype(np.float32) if kind == "floats" else noise

    root = write_data(tmp_path / "data", full, photometric="rgb" if kind.startswith("colours") else "minisblack")
    dataset = measured(root)
    assert dataset.value_range is None
    assert dataset.range_facts is not None
    assert (dataset.range_facts.source, dataset.range_facts.doubt) == ("type", "")
    sample = dataset.split("train")[0]
    np.testing.assert_array_equal(dataset.read(sample)[0], read_image(sample.image).pixels)


def test_bytes_have_no_range(tmp_path: Path) -> None:
    dataset = measured(write_data(tmp_path / "data", lambda t, seed: 10 + t))
    assert (dataset.value_range, dataset.range_facts) == (None, None)


def test_a_declared_range_stays_and_is_doubted_only_if_little_of_it_is_used(tmp_path: Path) -> None:
    fits = measured(write_data(tmp_path / "fits", camera, "range: [0, 1000]\n"))
    wide = measured(write_data(tmp_path / "wide", camera, "range: [0, 65535]\n"))
    assert (fits.value_range, wide.value_range) == ((0, 1000), (0, 65535))
    assert fits.range_facts is not None
    assert wide.range_facts is not None
    assert (fits.range_facts.source, fits.range_facts.doubt) == ("dataset.yaml", "")
    assert "0 to 65535 become 0 to 255" in wide.range_facts.doubt
    assert "set `range: [4" in wide.range_facts.remedy


def test_other_values_in_the_validation_images_are_reported(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", lambda t, seed: camera(t, seed) * (20 if seed > 3 else 1))
    facts = measured(root).range_facts
    assert facts is not None
    assert facts.doubt.startswith("100 % of the values of the val images are outside of")
    assert [group.kind for group in fullconv.check(root).groups] == ["doubtful-range"]


def test_equal_numbers_far_from_the_others_do_not_stretch_the_range(tmp_path: Path) -> None:
    """16 bits with 0 where there is no data, which nothing declares: read, with a warning."""

    def reflectance(target: npt.NDArray[np.uint8], seed: int) -> Numbers:
        values = camera(target, seed) + np.uint16(7000)
        values[:10] = 0
        return values

    dataset = measured(write_data(tmp_path / "data", reflectance))
    assert dataset.value_range is not None
    assert dataset.value_range[0] > 7400
    assert dataset.range_facts is not None
    assert "exactly 0" in dataset.range_facts.doubt


def test_a_deep_image_among_bytes_changes_nothing(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", lambda t, seed: camera(t, seed) if seed == 1 else 10 + t)
    dataset = measure_range(find_dataset(root), [])
    assert dataset.value_range is None
    assert dataset.range_facts is not None
    assert "nearly all values of the training images are 4" in dataset.range_facts.doubt


def test_the_page_and_json_show_the_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_data(tmp_path / "data", camera)
    examination = fullconv.check(root)
    facts = examination.range_facts
    assert facts is not None
    assert (examination.errors, examination.warnings) == (0, 0)
    assert json.loads(json.dumps(examination.to_dict()))["range"]["low"] == facts.low
    from fullconv.doctor.page import write_check_page

    write_check_page(tmp_path / "page.html", examination)
    assert f"Range: values {facts.low:g} to {facts.high:g} become 0 to 255" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        (np.linspace(0.001, 0.4, 5000), (0, 0.4)),
        (np.arange(7000, 9001), (7000, 9000)),
        (np.array([-3, 5]), (-3, 5)),
        (np.append(np.zeros(99_999), 7), (0, 7)),
        (np.full(9, 4), None),
    ],
)
def test_a_robust_range_has_round_ends(values: Numbers, bounds: tuple[float, float] | None) -> None:
    assert robust_range(values.astype(np.float64)) == bounds


def test_large_images_are_sampled_in_windows(tmp_path: Path) -> None:
    pixels = np.full((2100, 2100), 5000, np.uint16)
    pixels[:256, -256:] = 9
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256))
    sample = sample_values(tmp_path / "a.tif")
    assert sample is not None
    assert (sample.least, sample.most) == (9, 5000)
    assert (sample.values == 9).mean() == pytest.approx(1 / 16, abs=0.01)


@pytest.mark.filterwarnings("ignore::Warning:lightning")
def test_the_model_keeps_the_range_and_prediction_uses_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also after export; the run's report names the range, and `recipe.yaml` its origin."""
    root = write_data(tmp_path / "data", camera)
    options = {"model": "digits", "weights": "none", "epochs": 4, "batch": 2, "crop": 48, "lr": 0.001}
    run = fullconv.train(root, out=tmp_path / "run", values={"ema": 0}, **options)
    expected = measured(root).value_range
    report = (tmp_path / "run" / "report.html").read_text()
    assert expected is not None
    assert f"values {expected[0]:g} to {expected[1]:g} become 0 to 255, from training images" in report
    assert "source: training images" in (tmp_path / "run" / "recipe.yaml").read_text()
    fullconv.export(run.folder, tmp_path / "a.onnx")
    image = root / "images" / "val" / "4.tif"
    scaled = read_image(image, InputFormat(3, expected)).pixels
    for model in (tmp_path / "run", tmp_path / "a.onnx"):
        result = fullconv.load(model).predict(image)
        np.testing.assert_array_equal(result.image, scaled)
    assert "model expects" not in caplog.text


def photos(root: Path) -> tuple[Path, Path, npt.NDArray[np.uint8]]:
    """Write a street-like picture with 8 bits, and the same with 12 of 16 bits."""
    from sklearn.datasets import load_sample_image

    rgb = load_sample_image("china.jpg")[:160, :240]
    Image.fromarray(rgb).save(root / "photo.png")
    tifffile.imwrite(root / "photo16.tif", rgb.astype(np.uint16) * 12, photometric="rgb")
    return root / "photo.png", root / "photo16.tif", rgb


def test_predict_warns_of_dark_images_and_range_gives_the_labels_of_8_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, deep, _ = photos(tmp_path)
    assert run(monkeypatch, "predict", "street", plain, deep, "--out", tmp_path / "o") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "--range" in line]
    assert len(lines) == 1
    assert "photo16.tif: nearly all values are 0 to 3060, a small part of 0 to 65535" in lines[0]
    assert "--range 0,3060" in lines[0]
    options = ["--range", "0,3060", "--out", tmp_path / "p"]
    assert run(monkeypatch, "predict", "street", plain, deep, *options) == 0
    assert "--range" not in capsys.readouterr().err
    expected = np.asarray(Image.open(tmp_path / "p" / "photo.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "p" / "photo16.png")), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "o" / "photo.png")), expected)
    assert (np.asarray(Image.open(tmp_path / "o" / "photo16.png")) != expected).mean() > 0.2


def test_python_takes_a_range_for_files_and_arrays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain, deep, rgb = photos(tmp_path)
    model = fullconv.load("street")
    expected = model.predict(plain).label_map
    assert not caplog.records
    ranged = model.predict(deep, value_range=(0, 3060)).label_map
    np.testing.assert_array_equal(ranged, expected)
    np.testing.assert_array_equal(next(model.predict_many([deep], value_range=(0, 3060))).label_map, expected)
    floats = model.predict(rgb / np.float32(255), value_range=(0, 1)).label_map
    np.testing.assert_array_equal(floats, expected)
    assert not caplog.records
    model.predict(deep)
    assert "--range 0,3060 (value_range in Python)" in caplog.text
    for bounds in ((5, 5), (0, np.nan), (1, 2, 3)):
        with refuses("invalid-range", "0,4095"):
            model.predict(deep, value_range=bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["4095", "0,", "9,3", "0,inf", "0;5"])
def test_other_texts_than_two_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    _, deep, _ = photos(tmp_path)
    assert run(monkeypatch, "predict", "street", deep, "--range", text, "--out", tmp_path / "o") == 2
    assert "as 0,4095" in capsys.readouterr().err


def test_a_model_with_a_range_warns_of_images_above_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(10_000, dtype=np.uint16).reshape(100, 100))
    assert find_misfit(tmp_path / "a.tif", InputFormat(3, (0, 9999))) is None
    misfit = find_misfit(tmp_path / "a.tif", InputFormat(3, (0, 5000)))
    assert "50 % of its values are outside of 0 to 5000" in str(misfit)


def test_one_dark_image_of_many_is_no_common_misfit(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.tif" for number in range(5)]
    for number, path in enumerate(paths):
        tifffile.imwrite(path, np.arange(10_000, dtype=np.uint16).reshape(100, 100) // (1 if number else 50))
    input = InputFormat(3, (0, 10_000))
    assert find_misfit(paths[0], input) is not None
    assert find_common_misfit(paths, input) is None
    misfit = find_common_misfit(paths[:2], input)
    assert misfit is not None
    assert misfit.remedy == "add --range 0,199 (value_range in Python)"
    assert find_common_misfit([], input) is None


def street_data(root: Path) -> tuple[Path, Path]:
    """Write pictures with 8 bits, and the same with 12 of 16 bits, with the labels that the street model gives."""
    street = fullconv.load("street")
    plain, deep, _ = photos(root)
    labels = street.predict(plain)
    for name, image in (("plain", plain), ("deep", deep)):
        for folder in ("images/val", "masks/val", "images/train", "masks/train"):
            (root / name / folder).mkdir(parents=True)
        for split in ("train", "val"):
            image.rename(root / name / "images" / split / f"{split}{image.suffix}")
            write_label_map(root / name / "masks" / split / f"{split}.png", labels.label_map, street.labels)
            photos(root)
        (root / name / "classes.txt").write_text("\n".join(street.labels.class_names), encoding="utf-8")
    return root / "plain", root / "deep"


def test_evaluate_and_report_take_a_range_and_warn_without_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the range of the camera the scores of 16 bits are those of 8 bits, which are perfect here."""
    plain, deep = street_data(tmp_path)
    assert fullconv.evaluate("street", plain).pixel_accuracy == 1
    assert "--range" not in caplog.text
    assert fullconv.evaluate("street", deep, value_range=(0, 3060)).pixel_accuracy == 1
    assert "--range" not in caplog.text
    assert fullconv.evaluate("street", deep).pixel_accuracy < 0.8
    assert "a small part of 0 to 65535" in caplog.text
    with refuses("invalid-range", "0,4095"):
        fullconv.evaluate("street", deep, value_range=(9, 3))
    page = tmp_path / "page.html"
    for options, score in (([], None), (["--range", "0,3060"], 1.0)):
        assert run(monkeypatch, "evaluate", "street", deep, *options, "--json", tmp_path / "s.json") == 0
        assert (json.loads((tmp_path / "s.json").read_text())["pixel_accuracy"] == 1) == (score == 1)
        assert run(monkeypatch, "report", "street", deep, *options, "--out", page) == 0
        text, err = page.read_text(encoding="utf-8"), capsys.readouterr().err
        assert ("values 0 to 3060 become 0 to 255, by --range" in text) == (score == 1)
        for shown in (text, err):
            assert ("--range 0,3060" in shown) == (score is None)
    assert run(monkeypatch, "report", "street", deep, "--range", "3", "--out", page) == 2


def test_the_refusal_names_both_remedies() -> None:
    with pytest.raises(DataError) as error:
        to_bytes(np.array([[[250.5]], [[814.0]]], np.float32), None, "a.tif")
    assert "`range: [250.5, 814]` in dataset.yaml" in str(error.value)
    assert "`fullconv predict --range 250.5,814`" in str(error.value)


def test_a_range_changes_no_image_of_up_to_8_bits(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (20, 30)).astype(bool)
    tifffile.imwrite(tmp_path / "bits.tif", bits)
    tifffile.imwrite(tmp_path / "bytes.tif", np.arange(200, dtype=np.uint8).reshape(10, 20))
    for name in ("bits.tif", "bytes.tif"):
        plain = read_image(tmp_path / name).pixels
        np.testing.assert_array_equal(read_image(tmp_path / name, InputFormat(3, (0, 1000))).pixels, plain)

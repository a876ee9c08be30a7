"""Training chooses settings from the masks, gives the reasons, and keeps the values that the user sets."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

import fullconv.api
from command_line import check
from fullconv.cli.app import main
from fullconv.data.layouts import find_dataset
from fullconv.data.mask_classes.stored_masks import read_stored_mask
from fullconv.data.statistics import DataSetStatistics, read_statistics, read_training_data
from fullconv.errors import DataError
from fullconv.images import read_label_map, write_image, write_label_map
from fullconv.installation import pip_command
from fullconv.labels import LabelSet
from fullconv.runtime.load import load_runner
from fullconv.training.choose import STEPS, choose, choose_recipe, choose_stride
from fullconv.training.data_module import DataModule
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.recipe import Recipe, default_recipe, override, paper_recipe
from fullconv.training.train import estimate
from html_page import Page
from refusals import refuses

LABELS = LabelSet.named(["ground", "line", "field"])


def striped(folder: Path, images: int = 8) -> Path:
    """Write images with squares of field, and lines three pixels wide, on ground: green, white and red."""
    for number in range(images):
        chance = np.random.default_rng(number)
        target = np.zeros((48, 64), np.uint8)
        y, x = chance.integers(2, 20), chance.integers(2, 40)
        target[y : y + 20, x : x + 20] = 2
        column = chance.integers(0, 60)
        target[:, column : column + 3] = 1
        image = np.array([[180, 60, 50], [250, 250, 250], [40, 160, 60]], np.uint8)[target]
        write_image(folder / "images" / f"{number}.png", image)
        write_label_map(folder / "masks" / f"{number}.png", target, LABELS)
    (folder / "classes.txt").write_text("\n".join(LABELS.class_names))
    return folder


def test_statistics_have_shares_and_widths_of_classes(tmp_path):
    data = find_dataset(striped(tmp_path))
    measured = read_statistics(data)
    counts = np.zeros(256, int)
    for sample in data.split("train"):
        counts += np.bincount(data.read_target(sample).ravel(), minlength=256)
    np.testing.assert_allclose(measured.shares, counts[:3] / counts.sum())
    assert measured.images == len(data.split("train"))
    assert measured.thinnest == ("line", 3)
    assert measured.largest[0] == "ground"


def statistics(images: int, share: float = 0.5, width: int | None = 20) -> DataSetStatistics:
    return DataSetStatistics(images, ("a", "b"), (round(1000 * share), round(1000 * (1 - share))), (64, width))


@pytest.mark.parametrize(("width", "stride"), [(3, "4"), (8, "4"), (23, "4"), (24, "8"), (60, "8"), (None, "8")])
def test_thin_objects_give_a_stride_of_4(width, stride):
    assert choose_stride(statistics(10, width=width)).value == stride


def test_the_stride_is_never_coarser_than_dilate():
    assert choose_stride(statistics(10, width=3), dilate=16).value == "8"
    assert choose_stride(statistics(10), dilate=4).value == "4"
    assert choose_stride(statistics(10), 32, dilate=16).value == "16"
    assert str(choose_stride(statistics(10), 4, dilate=16)) == "stride        4: set by the user"


@pytest.mark.parametrize("images", [1, 5, 20, 367, 5000])
def test_steps_grow_with_the_square_root_of_the_number_of_images(images):
    recipe, _ = choose_recipe(statistics(images), default_recipe(), set())
    steps = -(-images // recipe.batch_size) * recipe.epochs
    assert 0.5 < steps / (STEPS * (images / 20) ** 0.5) < 2
    assert recipe.epochs % recipe.val_every == 0
    assert recipe.epochs // recipe.val_every <= 24
    assert recipe.batch_size <= max(2, images)


class Stopped(Exception):
    """Raised in place of loading the first batch."""


@pytest.mark.parametrize("named", [True, False])
def test_each_mask_is_decoded_once_before_the_first_batch(tmp_path, monkeypatch, named):
    """Class names, choices and statistics share one pass over the masks."""
    data = striped(tmp_path / "data")
    if not named:
        (data / "classes.txt").unlink()
    decoded = Counter()

    def count_calls(read):
        def counting(path, *rest):
            decoded[path] += 1
            return read(path, *rest)

        return counting

    def stop(*_):
        raise Stopped

    for name, read in (
        ("dataset.read_label_map", read_label_map),
        ("mask_classes.reader.read_stored_mask", read_stored_mask),
    ):
        monkeypatch.setattr(f"fullconv.data.{name}", count_calls(read))
    monkeypatch.setattr("fullconv.training.train._Run.plan", stop)  # it loads the first batch
    monkeypatch.setattr("fullconv.training.data_module.DataModule.encode_with", stop)  # it does so in a ladder
    with pytest.raises(Stopped):
        fullconv.api.train(data, out=tmp_path / "run", weights="none")
    assert decoded == dict.fromkeys((data / "masks").iterdir(), 1)
    decoded.clear()
    monkeypatch.setattr("sys.argv", ["fullconv", "ladder", str(data), "--model", "digits", "--weights", "none"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):  # an unforeseen fault
        main()
    assert decoded == dict.fromkeys((data / "masks").iterdir(), 1)


def test_read_training_data_equals_find_dataset_and_read_statistics(tmp_path):
    data = striped(tmp_path / "data")
    for _ in range(2):  # with class names, and without
        dataset, statistics = read_training_data(data)
        assert dataset == find_dataset(data)
        assert statistics == read_statistics(dataset)
        (data / "classes.txt").unlink(missing_ok=True)
    assert dataset.labels.class_names == ("class_0", "class_1", "class_2")


def test_read_training_data_reports_the_faults_of_find_dataset(tmp_path):
    data = striped(tmp_path / "data")
    for path in (data / "masks").iterdir():
        write_label_map(path, np.zeros((48, 64), np.uint8), LABELS)
    for _ in range(2):  # with class names, and without
        with pytest.raises(DataError) as expected:
            find_dataset(data)
        with pytest.raises(DataError) as caught:
            read_training_data(data)
        assert caught.value.faults == expected.value.faults
        (data / "classes.txt").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"stride": 7}, "unknown-option-value"),
        ({"stride": True}, "unknown-option-value"),
        ({"upsample": None}, "unknown-option-value"),
        ({"padding": "100"}, "unknown-option-value"),
        ({"dilate": 32}, "unknown-option-value"),
        ({"recipe": "modern"}, "unknown-option-value"),
        ({"head_width": 0}, "head-width-too-small"),
        ({"lr": 0}, "invalid-recipe-value"),
        ({"values": {"flop": 1}}, "unknown-recipe-setting"),
    ],
)
def test_options_are_checked_before_any_data_is_read(tmp_path, values, code):
    with refuses(code, *values if code.startswith("unknown-option") else ()):
        fullconv.api.train(tmp_path / "missing", **values)


def test_a_ladder_chooses_nothing_from_the_data(tmp_path):
    dataset, statistics = read_training_data(striped(tmp_path))
    job = make_job(dataset, TrainingOptions("digits", weights="none", epochs=3, by_data=False), statistics)
    assert (job.spec.stride, job.recipe, job.weights, job.choices) == (8, Recipe(epochs=3), None, ())


SIX = ["backbone", "stride", "crop", "batch", "epochs", "class weights"]


def test_six_settings_are_reported_with_reasons():
    automatic = choose(statistics(20), default_recipe())
    assert [choice.name for choice in automatic.choices] == SIX
    assert all(choice.value and choice.reason != "set by the user" for choice in automatic.choices)
    names = {"epochs", "batch_size", "class_weight_power", "val_every", "crop"}
    manual = choose(statistics(3, 0.99), default_recipe(), names, model="digits", stride=16)
    assert [choice.name for choice in manual.choices] == SIX
    assert {choice.reason for choice in manual.choices} == {"set by the user"}
    assert (manual.model, manual.stride, manual.recipe) == ("digits", 16, default_recipe())
    published = choose(statistics(3, 0.99), paper_recipe(), {"epochs"}, published=True)
    assert [choice.name for choice in published.choices] == SIX
    assert {choice.reason for choice in published.choices[1:]} == {"set by the user", "as published"}
    assert published.recipe == paper_recipe()


def test_the_reported_crop_is_the_crop_of_training(tmp_path):
    dataset = find_dataset(striped(tmp_path))
    crop = choose(read_statistics(dataset), default_recipe()).choices[2]
    assert crop.value == str(DataModule(dataset, default_recipe()).crop) == "64"
    whole = choose(
        read_statistics(dataset), override(default_recipe(), {"crop": 0, "batch_size": 1}), {"crop"}
    ).choices[2]
    assert whole.value == "whole images"


def test_rare_classes_get_larger_weights_if_one_class_has_nearly_all_pixels():
    assert choose_recipe(statistics(20, 0.97), default_recipe(), set())[0].class_weight_power == 0.5
    assert choose_recipe(statistics(20, 0.6), default_recipe(), set())[0].class_weight_power == 0.25


def test_check_estimates_the_job_that_train_starts_and_writes_nothing(tmp_path, monkeypatch):
    data, jobs = striped(tmp_path / "data"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fullconv.training.train.train", lambda _, job, *rest, **named: jobs.append(job))
    fullconv.api.train(data)
    assert jobs == [make_job(find_dataset(data), TrainingOptions())]
    before = sorted(tmp_path.rglob("*"))
    rows = dict(estimate(find_dataset(data)))
    assert list(rows) == ["epochs", "time", "memory"]
    assert rows["epochs"].startswith(f"{jobs[0].recipe.epochs}, ")
    assert "validation" in rows["time"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("missing", ["torch", None])
def test_check_prints_the_time_of_training_or_the_command_that_installs_torch(tmp_path, monkeypatch, capsys, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("fullconv.extras.find_spec", lambda name: None if name == missing else find_spec(name))
    monkeypatch.setattr("fullconv.training.train.estimate", lambda _: (("time", "7 s"),))
    assert check(monkeypatch, striped(tmp_path / "data"), "--html", tmp_path / "a.html") == 0
    output = capsys.readouterr().out
    assert (pip_command("train") in output) == (missing is not None)
    assert ("time     7 s" in output) == (missing is None)


def train(monkeypatch, capsys, *words: str | Path) -> str:
    """Run `fullconv train` and return what it prints on standard error."""
    monkeypatch.setattr("sys.argv", ["fullconv", "train", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        main()
    output = capsys.readouterr()
    assert not exit_.value.code, output.err
    return output.err


def test_train_chooses_reports_and_exports(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    printed = train(monkeypatch, capsys, striped(tmp_path / "data"), "--epochs", "10", "--out", out, "--set", "ema=0")
    assert "stride        4: objects of class line are 3 px wide" in printed
    assert "epochs        10: set by the user" in printed
    stored = yaml.safe_load((out / "recipe.yaml").read_text())["choices"]
    assert list(stored) == SIX
    rows = {row[0]: row[1:] for row in Page((out / "report.html").read_text()).rows}
    assert all(rows[name] == [stored[name]["value"], stored[name]["reason"]] for name in SIX)
    assert "warning:" not in printed
    assert (out / "report.html").is_file()
    runner = load_runner(out / "model.onnx")
    assert runner.info.labels.class_names == LABELS.class_names
    assert "FCN-4s" in printed
    before = (out / "recipe.yaml").read_text()
    train(monkeypatch, capsys, tmp_path / "data", "--epochs", "10", "--model", "mobilenet_v2", "--out", out,
          "--set", "ema=0", "--resume")  # fmt: skip
    assert (out / "recipe.yaml").read_text() == before


def test_a_network_that_learned_nothing_gives_a_warning_and_no_onnx_file(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    words = ("--epochs", "1", "--stride", "32", "--weights", "none", "--lr", "1e-9", "--set", "ema=0")
    printed = train(monkeypatch, capsys, striped(tmp_path / "data"), *words, "--out", out)
    assert "warning: The model" in printed
    assert "model.onnx was not written" in printed
    assert not (out / "model.onnx").exists()
    assert "warning:" in train(monkeypatch, capsys, tmp_path / "data", *words, "--out", out, "--resume")

"""What train decides by itself: from the masks, with a reason, and never against what was asked for."""

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
from fullconv.data.statistics import DataSetStatistics, read_statistics, read_training_data
from fullconv.errors import DataError, UsageError
from fullconv.images import read_label_map, write_image, write_label_map
from fullconv.installation import pip_command
from fullconv.labels import LabelSet
from fullconv.runtime.load import load_runner
from fullconv.training.choose import STEPS, choose, choose_recipe, choose_stride
from fullconv.training.data_module import DataModule
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.recipe import Recipe, default_recipe, override, paper_recipe
from fullconv.training.train import expect
from html_page import Page

LABELS = LabelSet.named(["ground", "line", "field"])


def striped(folder: Path, images: int = 8) -> Path:
    """Squares of field, and lines of three pixels, on the ground: red, white and green."""
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


def test_statistics_hold_shares_and_widths(tmp_path):
    data = find_dataset(striped(tmp_path))
    found = read_statistics(data)
    counts = np.zeros(256, int)
    for sample in data.split("train"):
        counts += np.bincount(data.read_target(sample).ravel(), minlength=256)
    np.testing.assert_allclose(found.shares, counts[:3] / counts.sum())
    assert found.images == len(data.split("train"))
    assert found.thinnest == ("line", 3)
    assert found.largest[0] == "ground"


def statistics(images: int, share: float = 0.5, width: int | None = 20) -> DataSetStatistics:
    return DataSetStatistics(images, ("a", "b"), (round(1000 * share), round(1000 * (1 - share))), (64, width))


@pytest.mark.parametrize(("width", "stride"), [(3, "4"), (7, "4"), (8, "8"), (60, "8"), (None, "8")])
def test_thin_objects_get_a_fine_stride(width, stride):
    assert choose_stride(statistics(10, width=width)).value == stride


def test_no_stride_is_coarser_than_the_maps_are_kept():
    assert choose_stride(statistics(10, width=3), dilate=16).value == "8"
    assert choose_stride(statistics(10), dilate=4).value == "4"
    assert choose_stride(statistics(10), 32, dilate=16).value == "16"
    assert str(choose_stride(statistics(10), 4, dilate=16)) == "stride        4: as asked for"


@pytest.mark.parametrize("images", [1, 5, 20, 367, 5000])
def test_steps_grow_with_the_root_of_the_images(images):
    recipe, _ = choose_recipe(statistics(images), default_recipe(), set())
    steps = -(-images // recipe.batch_size) * recipe.epochs
    assert 0.5 < steps / (STEPS * (images / 20) ** 0.5) < 2
    assert recipe.epochs % recipe.val_every == 0
    assert recipe.epochs // recipe.val_every <= 24
    assert recipe.batch_size <= max(2, images)


class Stopped(Exception):
    """Raised where training would load its first batch."""


@pytest.mark.parametrize("named", [True, False])
def test_each_mask_is_decoded_once_before_the_first_batch(tmp_path, monkeypatch, named):
    """To name the classes, to choose and to count: three reasons, one pass."""
    data = striped(tmp_path / "data")
    if not named:
        (data / "classes.txt").unlink()
    decoded = Counter()

    def counting(path, *rest):
        decoded[path] += 1
        return read_label_map(path, *rest)

    def stop(*_):
        raise Stopped

    for module in ("dataset", "layouts"):
        monkeypatch.setattr(f"fullconv.data.{module}.read_label_map", counting)
    monkeypatch.setattr("fullconv.training.train._Prepared.plan", stop)  # it loads the first batch
    monkeypatch.setattr("fullconv.training.data_module.DataModule.encode_with", stop)  # and this the first of a ladder
    with pytest.raises(Stopped):
        fullconv.api.train(data, out=tmp_path / "run", weights="none")
    assert decoded == dict.fromkeys((data / "masks").iterdir(), 1)
    decoded.clear()
    monkeypatch.setattr("sys.argv", ["fullconv", "ladder", str(data), "--model", "digits", "--weights", "none"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped):
        main()
    assert decoded == dict.fromkeys((data / "masks").iterdir(), 1)


def test_training_data_are_those_of_find_dataset(tmp_path):
    data = striped(tmp_path / "data")
    for _ in range(2):  # with class names, and without
        dataset, statistics = read_training_data(data)
        assert dataset == find_dataset(data)
        assert statistics == read_statistics(dataset)
        (data / "classes.txt").unlink(missing_ok=True)
    assert dataset.labels.class_names == ("class_0", "class_1", "class_2")


def test_training_data_have_the_faults_of_find_dataset(tmp_path):
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
        ({"stride": 7}, "unknown-stride"),
        ({"stride": True}, "unknown-stride"),
        ({"upsample": None}, "unknown-upsample"),
        ({"padding": "100"}, "unknown-padding"),
        ({"dilate": 32}, "unknown-dilate"),
        ({"recipe": "modern"}, "unknown-recipe"),
        ({"head_width": 0}, "bad-head-width"),
        ({"lr": 0}, "bad-recipe-value"),
        ({"values": {"flop": 1}}, "unknown-recipe-value"),
    ],
)
def test_options_are_checked_before_any_data_is_read(tmp_path, values, code):
    with pytest.raises(UsageError) as caught:
        fullconv.api.train(tmp_path / "lost", **values)
    assert caught.value.code == code


def test_a_ladder_chooses_nothing_by_the_data(tmp_path):
    dataset, statistics = read_training_data(striped(tmp_path))
    job = make_job(dataset, TrainingOptions("digits", weights="none", epochs=3, by_data=False), statistics)
    assert (job.spec.stride, job.recipe, job.weights, job.choices) == (8, Recipe(epochs=3), None, ())


SIX = ["backbone", "stride", "crop", "batch", "epochs", "class weights"]


def test_all_six_are_told_whoever_chose_them():
    own = choose(statistics(20), default_recipe())
    assert [choice.name for choice in own.choices] == SIX
    assert all(choice.value and choice.reason != "as asked for" for choice in own.choices)
    given = {"epochs", "batch_size", "class_weight_power", "val_every", "crop"}
    asked = choose(statistics(3, 0.99), default_recipe(), given, model="digits", stride=16)
    assert [choice.name for choice in asked.choices] == SIX
    assert {choice.reason for choice in asked.choices} == {"as asked for"}
    assert (asked.model, asked.stride, asked.recipe) == ("digits", 16, default_recipe())
    printed = choose(statistics(3, 0.99), paper_recipe(), {"epochs"}, published=True)
    assert [choice.name for choice in printed.choices] == SIX
    assert {choice.reason for choice in printed.choices[1:]} == {"as asked for", "as published"}
    assert printed.recipe == paper_recipe()


def test_the_crop_that_is_told_is_the_one_that_is_cut(tmp_path):
    dataset = find_dataset(striped(tmp_path))
    crop = choose(read_statistics(dataset), default_recipe()).choices[2]
    assert crop.value == str(DataModule(dataset, default_recipe()).crop) == "64"
    whole = choose(
        read_statistics(dataset), override(default_recipe(), {"crop": 0, "batch_size": 1}), {"crop"}
    ).choices[2]
    assert whole.value == "whole images"


def test_rare_classes_count_more_where_one_has_nearly_all():
    assert choose_recipe(statistics(20, 0.97), default_recipe(), set())[0].class_weight_power == 0.5
    assert choose_recipe(statistics(20, 0.6), default_recipe(), set())[0].class_weight_power == 0.25


def test_check_measures_the_very_job_that_train_would_start(tmp_path, monkeypatch):
    """And neither writes."""
    data, jobs = striped(tmp_path / "data"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fullconv.training.train.train", lambda _, job, *rest, **named: jobs.append(job))
    fullconv.api.train(data)
    assert jobs == [make_job(find_dataset(data), TrainingOptions())]
    before = sorted(tmp_path.rglob("*"))
    rows = dict(expect(find_dataset(data)))
    assert list(rows) == ["epochs", "time", "memory"]
    assert rows["epochs"].startswith(f"{jobs[0].recipe.epochs} of ")
    assert "validation" in rows["time"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("missing", ["torch", None])
def test_check_tells_what_training_will_take_or_what_to_install(tmp_path, monkeypatch, capsys, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("fullconv.extras.find_spec", lambda name: None if name == missing else find_spec(name))
    monkeypatch.setattr("fullconv.training.train.expect", lambda _: (("time", "7 s"),))
    assert check(monkeypatch, striped(tmp_path / "data"), "--html", tmp_path / "a.html") == 0
    said = capsys.readouterr().out
    assert (pip_command("train") in said) == (missing is not None)
    assert ("time     7 s" in said) == (missing is None)


def train(monkeypatch, capsys, *words: str | Path) -> str:
    """What `fullconv train` says."""
    monkeypatch.setattr("sys.argv", ["fullconv", "train", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    assert not exit_.value.code, said.err
    return said.err


def test_train_chooses_reports_and_exports(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    said = train(monkeypatch, capsys, striped(tmp_path / "data"), "--epochs", "10", "--out", out, "--set", "ema=0")
    assert "stride        4: objects of class line are 3 px wide" in said
    assert "epochs        10: as asked for" in said
    stored = yaml.safe_load((out / "recipe.yaml").read_text())["choices"]
    assert list(stored) == SIX
    rows = {row[0]: row[1:] for row in Page((out / "report.html").read_text()).rows}
    assert all(rows[name] == [stored[name]["value"], stored[name]["reason"]] for name in SIX)
    assert "attention" not in said
    assert (out / "report.html").is_file()
    runner = load_runner(out / "model.onnx")
    assert runner.info.labels.class_names == LABELS.class_names
    assert "FCN-4s" in said
    before = (out / "recipe.yaml").read_text()
    train(monkeypatch, capsys, tmp_path / "data", "--epochs", "10", "--model", "mobilenet_v2", "--out", out,
          "--set", "ema=0", "--resume")  # fmt: skip
    assert (out / "recipe.yaml").read_text() == before


def test_a_network_that_learnt_nothing_is_explained_not_delivered(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    words = ("--epochs", "1", "--stride", "32", "--weights", "none", "--lr", "1e-9", "--set", "ema=0")
    said = train(monkeypatch, capsys, striped(tmp_path / "data"), *words, "--out", out)
    assert "attention: The model" in said
    assert "no model.onnx is written" in said
    assert not (out / "model.onnx").exists()
    assert "attention" in train(monkeypatch, capsys, tmp_path / "data", *words, "--out", out, "--resume")

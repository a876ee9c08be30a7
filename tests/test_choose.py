"""What train decides by itself: from the masks, with a reason, and never against what was asked for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml

from command_line import check
from fullconv.cli import main
from fullconv.data.fingerprint import Fingerprint, read_fingerprint
from fullconv.data.layouts import find_dataset
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.learn.choose import STEPS, choose, choose_recipe, choose_stride
from fullconv.learn.loaders import Loaders
from fullconv.learn.recipe import modern, override, paper
from fullconv.learn.train import default_job, expect
from fullconv.run.load import load_runner
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


def test_a_fingerprint_tells_shares_and_widths(tmp_path):
    data = find_dataset(striped(tmp_path))
    found = read_fingerprint(data)
    counts = np.zeros(256, int)
    for sample in data.split("train"):
        counts += np.bincount(data.read_target(sample).ravel(), minlength=256)
    np.testing.assert_allclose(found.shares, counts[:3] / counts.sum())
    assert found.images == len(data.split("train"))
    assert found.thinnest == ("line", 3)
    assert found.largest[0] == "ground"


def fingerprint(images: int, share: float = 0.5, width: int | None = 20) -> Fingerprint:
    return Fingerprint(images, ("a", "b"), (share, 1 - share), (64, width))


@pytest.mark.parametrize(("width", "stride"), [(3, "4"), (7, "4"), (8, "8"), (60, "8"), (None, "8")])
def test_thin_objects_get_a_fine_stride(width, stride):
    assert choose_stride(fingerprint(10, width=width)).value == stride


def test_no_stride_is_coarser_than_the_maps_are_kept():
    assert choose_stride(fingerprint(10, width=3), dilate=16).value == "8"
    assert choose_stride(fingerprint(10), dilate=4).value == "4"
    assert choose_stride(fingerprint(10), 32, dilate=16).value == "16"
    assert str(choose_stride(fingerprint(10), 4, dilate=16)) == "stride        4: as asked for"


@pytest.mark.parametrize("images", [1, 5, 20, 367, 5000])
def test_steps_grow_with_the_root_of_the_images(images):
    recipe, _ = choose_recipe(fingerprint(images), modern(), set())
    steps = -(-images // recipe.batch_size) * recipe.epochs
    assert 0.5 < steps / (STEPS * (images / 20) ** 0.5) < 2
    assert recipe.epochs % recipe.val_every == 0
    assert recipe.epochs // recipe.val_every <= 24
    assert recipe.batch_size <= max(2, images)


SIX = ["backbone", "stride", "crop", "batch", "epochs", "class weights"]


def test_all_six_are_told_whoever_chose_them():
    own = choose(fingerprint(20), modern())
    assert [choice.name for choice in own.choices] == SIX
    assert all(choice.value and choice.reason != "as asked for" for choice in own.choices)
    given = {"epochs", "batch_size", "class_weight_power", "val_every", "crop"}
    asked = choose(fingerprint(3, 0.99), modern(), given, model="digits", stride=16)
    assert [choice.name for choice in asked.choices] == SIX
    assert {choice.reason for choice in asked.choices} == {"as asked for"}
    assert (asked.model, asked.stride, asked.recipe) == ("digits", 16, modern())
    printed = choose(fingerprint(3, 0.99), paper(), {"epochs"}, published=True)
    assert [choice.name for choice in printed.choices] == SIX
    assert {choice.reason for choice in printed.choices[1:]} == {"as asked for", "as published"}
    assert printed.recipe == paper()


def test_the_crop_that_is_told_is_the_one_that_is_cut(tmp_path):
    dataset = find_dataset(striped(tmp_path))
    crop = choose(read_fingerprint(dataset), modern()).choices[2]
    assert crop.value == str(Loaders(dataset, modern()).crop) == "64"
    whole = choose(read_fingerprint(dataset), override(modern(), {"crop": 0, "batch_size": 1}), {"crop"}).choices[2]
    assert whole.value == "whole images"


def test_rare_classes_count_more_where_one_has_nearly_all():
    assert choose_recipe(fingerprint(20, 0.97), modern(), set())[0].class_weight_power == 0.5
    assert choose_recipe(fingerprint(20, 0.6), modern(), set())[0].class_weight_power == 0.25


def test_check_measures_the_very_job_that_train_would_start(tmp_path, monkeypatch, capsys):
    """And neither writes."""
    data, jobs = striped(tmp_path / "data"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fullconv.learn.train.train", lambda _, job, *rest, **named: jobs.append(job))
    monkeypatch.setattr("fullconv.cli._told", lambda *_: None)
    train(monkeypatch, capsys, data)
    assert jobs == [default_job(find_dataset(data))]
    before = sorted(tmp_path.rglob("*"))
    rows = dict(expect(find_dataset(data)))
    assert list(rows) == ["epochs", "time", "memory"]
    assert rows["epochs"].startswith(f"{jobs[0].recipe.epochs} of ")
    assert "validation" in rows["time"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("missing", ["torch", None])
def test_check_tells_what_training_will_take_or_what_to_install(tmp_path, monkeypatch, capsys, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("fullconv.arguments.find_spec", lambda name: None if name == missing else find_spec(name))
    monkeypatch.setattr("fullconv.learn.train.expect", lambda _: (("time", "7 s"),))
    assert check(monkeypatch, striped(tmp_path / "data"), "--html", tmp_path / "a.html") == 0
    said = capsys.readouterr().out
    assert ("pip install 'fullconv[train]'" in said) == (missing is not None)
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

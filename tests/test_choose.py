"""What train decides by itself: from the masks, with a reason, and never against what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fullconv.cli import main
from fullconv.data.fingerprint import Fingerprint, read_fingerprint
from fullconv.data.layouts import find_dataset
from fullconv.image import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.learn.choose import STEPS, choose_recipe, choose_stride
from fullconv.learn.recipe import modern
from fullconv.run.load import load_runner

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


@pytest.mark.parametrize(("width", "stride"), [(3, 4), (7, 4), (8, 8), (60, 8), (None, 8)])
def test_thin_objects_get_a_fine_stride(width, stride):
    chosen, why = choose_stride(fingerprint(10, width=width))
    assert chosen == stride
    assert why.value == str(stride)


@pytest.mark.parametrize("images", [1, 5, 20, 367, 5000])
def test_steps_grow_with_the_root_of_the_images(images):
    recipe, choices = choose_recipe(fingerprint(images), modern(), set[str]().__contains__)
    steps = -(-images // recipe.batch_size) * recipe.epochs
    assert 0.5 < steps / (STEPS * (images / 20) ** 0.5) < 2
    assert recipe.epochs % recipe.val_every == 0
    assert recipe.epochs // recipe.val_every <= 24
    assert recipe.batch_size <= max(2, images)
    assert "epochs" in {choice.name for choice in choices}


def test_what_is_given_is_kept():
    given = {"epochs", "batch_size", "class_weight_power", "val_every"}
    recipe, choices = choose_recipe(fingerprint(3, 0.99), modern(), given.__contains__)
    assert (recipe, choices) == (modern(), [])


def test_rare_classes_count_more_where_one_has_nearly_all():
    assert choose_recipe(fingerprint(20, 0.97), modern(), set[str]().__contains__)[0].class_weight_power == 0.5
    assert choose_recipe(fingerprint(20, 0.6), modern(), set[str]().__contains__)[0].class_weight_power == 0.25


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
    assert "stride   4: objects of class line are 3 px wide" in said
    assert "attention" not in said
    assert (out / "report.html").is_file()
    runner = load_runner(out / "model.onnx")
    assert runner.labels.class_names == LABELS.class_names
    assert "FCN-4s" in said


def test_a_network_that_learnt_nothing_is_explained_not_delivered(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    words = ("--epochs", "1", "--stride", "32", "--weights", "none", "--lr", "1e-9", "--set", "ema=0")
    said = train(monkeypatch, capsys, striped(tmp_path / "data"), *words, "--out", out)
    assert "attention: The model" in said
    assert "no model.onnx is written" in said
    assert not (out / "model.onnx").exists()
    assert "attention" in train(monkeypatch, capsys, tmp_path / "data", *words, "--out", out, "--resume")

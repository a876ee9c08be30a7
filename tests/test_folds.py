"""Cross-validation: every image is in one fold, classes are spread, and all images together give the scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from command_line import run
from fullconv.data.held_out import make_folds
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.evaluation.evaluate import evaluate
from fullconv.images import write_label_map
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.training.folds import cross_validate
from fullconv.training.job import Job
from fullconv.training.ladder import climb
from fullconv.training.recipe import default_recipe
from fullconv.training.train import train
from html_page import Page
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

DIGITS = Job(NetSpec("digits", 11, stride=32), default_recipe())


@pytest.mark.parametrize(("images", "count"), [(10, 2), (11, 3), (30, 5), (5, 5)])
def test_every_image_is_in_one_fold_and_folds_have_about_one_size(images: int, count: int) -> None:
    folds, reason = make_folds([f"photo {chr(97 + index)}" for index in range(images)], count)
    assert sorted(index for fold in folds for index in fold) == list(range(images))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert f"{count} folds of {', '.join(map(str, sizes))} images" in reason


def test_rare_classes_are_spread_over_the_folds() -> None:
    classes = np.zeros((20, 3), bool)
    classes[:, 0] = True
    classes[:8, 1] = True
    classes[[0, 9, 12, 15], 2] = True
    folds, _ = make_folds([f"photo {chr(97 + index)}" for index in range(20)], 4, classes)
    assert [int(classes[list(fold), 2].sum()) for fold in folds] == [1, 1, 1, 1]
    assert [int(classes[list(fold), 1].sum()) for fold in folds] == [2, 2, 2, 2]
    assert [len(fold) for fold in folds] == [5, 5, 5, 5]


def test_groups_stay_in_one_fold() -> None:
    groups = [name for name in "abcdef" for _ in range(3)]
    folds, _ = make_folds([str(index) for index in range(18)], 3, groups=groups)
    of_groups = [{groups[index] for index in fold} for fold in folds]
    assert [len(names) for names in of_groups] == [2, 2, 2]
    assert set.union(*of_groups) == set("abcdef")


def check_fold(monkeypatch: pytest.MonkeyPatch, data: Path, fold: Path, confusion: object) -> None:
    """Assert that evaluate and report take the images of the fold, and leave its report to its own data."""
    from fullconv import api

    assert api.evaluate(fold, data).confusion.tolist() == confusion
    page = fold / "report.html"
    page.unlink()
    assert run(monkeypatch, "report", fold) == 0
    of_fold = page.read_text(encoding="utf-8")
    assert "fold 1 of 2 folds" in of_fold
    other = shutil.copytree(data, data.with_name("other"))
    assert run(monkeypatch, "report", fold, other) == 0
    assert Path("fold-1-report.html").is_file()
    assert page.read_text(encoding="utf-8") == of_fold
    settings = yaml.safe_load((fold / "recipe.yaml").read_text())
    assert settings["data"] == str(data)
    older = {name: value for name, value in settings.items() if name != "fold"} | {"data": data.name}
    (fold / "recipe.yaml").write_text(json.dumps(older))


def test_train_with_folds_scores_every_image_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_digit_dataset(tmp_path / "data", train=5, val=3, size=(48, 56))
    out = tmp_path / "folds"
    monkeypatch.chdir(tmp_path)
    command = ["train", data.name, "--model", "digits", "--folds", "2", "--out", out, "--weights", "none"]
    command += ["--epochs", "1", "--batch", "2", "--crop", "32"]
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr().out
    assert "standard deviation" in printed
    dataset = find_dataset(data)
    names = sorted(sample.name for samples in dataset.splits.values() for sample in samples)
    values = json.loads((out / "folds.json").read_text())
    confusion = np.zeros((11, 11), np.int64)
    seen: list[str] = []
    for number in (1, 2):
        folder = out / f"fold-{number}"
        notes = yaml.safe_load((folder / "recipe.yaml").read_text())["reading"]["notes"]
        assert any(f"fold {number} of 2 folds" in note for note in notes)
        confusion += np.array(json.loads((folder / "scores.json").read_text())["confusion"])
        seen += [row["name"] for row in values["images"] if row["fold"] == number]
    assert sorted(seen) == names
    assert np.array_equal(values["all_images"]["confusion"], confusion)
    low, high = values["mean_iou_interval"]
    assert low <= values["all_images"]["mean_iou"] <= high
    assert values["series"] is None
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert "2 folds" in page.text
    first = TorchRunner.load(out / "fold-1")
    of_fold = [row["name"] for row in values["images"] if row["fold"] == 1]
    samples = [sample for split in dataset.splits.values() for sample in split if sample.name in of_fold]
    assert np.array_equal(evaluate(first, dataset, samples).confusion, values["folds"][0]["confusion"])
    check_fold(monkeypatch, data, out / "fold-1", values["folds"][0]["confusion"])
    with refuses("run-exists", out):
        from fullconv import api

        api.train(data, model="digits", folds=2, out=out, weights="none")
    assert run(monkeypatch, *command, "--resume") == 0


@pytest.mark.parametrize(("count", "code"), [(1, "too-few-folds"), (9, "too-many-folds")])
def test_wrong_numbers_of_folds_are_refused(tmp_path: Path, count: int, code: str) -> None:
    from fullconv import api

    data = write_digit_dataset(tmp_path / "data", train=5, val=3, size=(48, 56))
    with refuses(code, count):
        api.train(data, model="digits", folds=count, out=tmp_path / "out", weights="none")


@pytest.mark.parametrize(
    ("kind", "file", "there"),
    [("a ladder", "scores.json", "a run"), ("folds", "table.json", "a ladder"), ("a run", "folds.json", "folds")],
)
def test_results_of_another_kind_are_not_replaced(tmp_path: Path, kind: str, file: str, there: str) -> None:
    """Each command writes its own report.html."""
    dataset = find_dataset(write_digit_dataset(tmp_path / "digits", train=4, val=1, size=(64, 80)))
    out = tmp_path / "out"
    out.mkdir()
    (out / file).write_text("{}")
    commands = {
        "a ladder": lambda: climb(dataset, DIGITS, out, resume=True),
        "folds": lambda: cross_validate(dataset, DIGITS, out, 2, resume=True),
        "a run": lambda: train(dataset, DIGITS, out, resume=True),
    }
    with refuses("holds-other-results", out, f"already contains {there}, so it cannot hold {kind}"):
        commands[kind]()


def test_a_fold_without_labels_is_refused_before_any_training(tmp_path: Path) -> None:
    """Of four images, one has labels, and two folds need two."""
    from fullconv import api

    data = write_digit_dataset(tmp_path / "data", train=3, val=1, size=(48, 56))
    dataset = find_dataset(data)
    for sample in dataset.split("train"):
        write_label_map(sample.target, np.full((48, 56), 255, np.uint8), dataset.labels)
    with refuses("unlabelled-split", "no pixel of split 'val' has a class"):
        api.train(data, model="digits", folds=2, out=tmp_path / "out", weights="none", epochs=1)
    assert not list((tmp_path / "out").glob("fold-*"))

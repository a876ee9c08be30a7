"""Data of a run are read again as its training read them: its options, and the val of its fold."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import corpus_base
from fullconv.data.division import divide_into_folds
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.report.source import Source, find_run_data
from refusals import refuses


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return corpus_base.base(tmp_path / "data")


def write_run(data: Path, **settings: Any) -> Path:
    """Write the settings of a run into a folder."""
    run = data.with_name("run")
    run.mkdir(exist_ok=True)
    (run / "recipe.yaml").write_text(json.dumps({"data": str(data), **settings}))
    return run


@pytest.mark.parametrize("number", [1, 2])
def test_val_is_the_fold_of_the_run(data: Path, caplog: pytest.LogCaptureFixture, number: int) -> None:
    fold = divide_into_folds(find_dataset(data), 2)[number - 1]
    assert fold.fold == (number, 2)
    samples = {name: len(members) for name, members in fold.splits.items()}
    run = write_run(data, fold=[number, 2], samples=samples)
    assert find_run_data(run, data, {}).splits == fold.splits
    assert caplog.text == ""


def test_a_fold_that_cannot_be_found_again_is_a_warning(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = corpus_base.base(data.with_name("other"))
    before = {"train": 2, "val": 3}
    cases: list[tuple[Path, Reading, object]] = [
        (other, {}, before),
        (data, {"val_share": 0.4}, before),
        (data, {}, {"train": 1, "val": 3}),
    ]
    for root, given, samples in cases:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            find_run_data(write_run(data, fold=[1, 2], samples=samples), root, given)
        assert "some images of its training may be scored" in caplog.text


@pytest.mark.parametrize("fold", [1, [0, 2], [3, 2], ["a", "b"]])
def test_a_damaged_fold_is_refused(data: Path, fold: object) -> None:
    with refuses("damaged-run-folder", "recipe.yaml"):
        find_run_data(write_run(data, fold=fold), data, {})


def test_options_that_are_given_replace_only_those_of_the_run(data: Path) -> None:
    patterns = {"images": ["images/*/*"], "masks": ["masks/*/*"]}
    run = write_run(data, reading={"options": {**patterns, "val_share": 0.4}})
    dataset = find_run_data(run, data, {"val_share": 0.2})
    assert dataset.options == ReadingOptions(**patterns, val_share=0.2)  # type: ignore[arg-type]
    assert len(dataset.split("val")) == 1


def test_the_data_of_a_run_are_known_by_their_path(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data.parent / "link").symlink_to(data)
    monkeypatch.chdir(data)
    for known in (data, "../link", ".", data.parent / "link"):
        assert Source(Path("run"), {"data": str(known)}).trained_on(Path("."))
    assert not Source(Path("run"), {"data": str(data.parent / "a" / "data")}).trained_on(data)
    assert not Source(Path("run")).trained_on(data)

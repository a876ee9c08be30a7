"""Every small input that once failed is read with the right label maps; skipped where the inputs are not present."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.statistics import read_training_data
from refusals import refuses

CASES = Path(__file__).parents[2] / "shared" / "cases"

pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="the inputs lie only on the developers' machines"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

PAIRS = [
    ("F1", "", ("class_0", "class_1", "class_2")),
    ("F10", "", ("ground", "red", "blue")),
    ("F10", "float32", ("ground", "red", "blue")),
    ("F10", "int64", ("ground", "red", "blue")),
    ("F11", "", ("ground", "red", "blue")),
    ("F15", "", ("background", "red", "blue")),
    ("F15", "two", ("class_0", "class_1", "class_2")),
    ("F17", "", ("background", "pointer", "scale")),
    ("F18", "", ("ground", "red", "blue")),
    ("F8", "", ("a", "b", "c")),
    ("F8", "jpg", ("a", "b", "c")),
    ("W1", "", ("class_0", "class_1", "class_2")),
    ("W1", "names", ("background", "building", "road")),
    ("W2", "", ("ground", "cell")),
    ("W2", "range", ("ground", "cell")),
    ("W3", "yaml", ("ground", "red", "blue")),
    ("W3b", "", ("ground", "red", "blue")),
]
"""Cases whose masks are those of `pair` in gen.py, by the number in the name and the split."""

SHAPES = [
    ("F13", "", 3),
    ("F14", "", 8),
    ("F19", "", 4),
    ("F3", "", 4),
    ("F3", "two", 4),
    ("F4", "", 5),
    ("F5", "", 4),
    ("F6", "", 5),
    ("F7", "", 5),
    ("W4", "", 5),
    ("W5", "", 6),
    ("W7", "", 5),
]
"""Cases of annotations, with the number of images; test_annotations_as_they_lie.py compares such shapes by pixels."""


def make(case: str, variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["gen.py", str(folder), *([variant] if variant else [])])
    return runpy.run_path(str(CASES / case / "gen.py"))


def truth(script: dict[str, Any], case: str, split: str, sample: Sample) -> UInt8:
    number = int(re.findall(r"\d+", sample.image.stem)[0])
    ids: UInt8 = script["pair"](number + 100 * (split == "val"), 2 if case == "W2" else 3)[1]
    if case == "W3b" and number % 2:
        ids[ids == 1] = 0
    if case == "F11":
        ids[:5, :5] = 255  # the image holds no data there
    return ids


def every(dataset: DataSet) -> list[tuple[str, Sample]]:
    return [(split, sample) for split, samples in dataset.splits.items() for sample in samples]


@pytest.mark.parametrize(("case", "variant", "names"), PAIRS)
def test_masks_are_read_with_the_right_classes(
    case: str, variant: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "W1":
        pytest.importorskip("rasterio")
    script = make(case, variant, tmp_path / "data", monkeypatch)
    dataset, _ = read_training_data(tmp_path / "data")
    assert dataset.labels.class_names == names
    samples = every(dataset)
    assert len(samples) == (11 if case in ("W1", "W2") else 8)
    most = 0.01 if case == "F8" else 0.0  # its masks are smeared
    for split, sample in samples:
        assert (dataset.read(sample)[1] != truth(script, case, split, sample)).mean() <= most


@pytest.mark.parametrize(("case", "variant", "count"), SHAPES)
def test_annotations_are_read(
    case: str, variant: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(case, variant, tmp_path / "data", monkeypatch)
    dataset, statistics = read_training_data(tmp_path / "data")
    assert dataset.labels.class_names[:2] == ("background", "roof")
    assert len(every(dataset)) == count
    assert all(share > 0.01 for share in statistics.shares)


@pytest.mark.parametrize(
    ("case", "variant", "code"), [("W3", "", "no-colour-table"), ("W4", "followed", "exif-rotation")]
)
def test_what_cannot_be_known_is_a_question(
    case: str, variant: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(case, variant, tmp_path / "data", monkeypatch)
    with refuses(code):
        read_training_data(tmp_path / "data")

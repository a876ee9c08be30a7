"""Images that belong together, such as the frames of a video, are drawn together for the intervals of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.division import find_series
from fullconv.data.held_out import series_of, show_series
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.evaluation.evaluate import Piece
from fullconv.evaluation.intervals import bootstrap, sum_series
from fullconv.evaluation.measure import Measurement
from fullconv.labels import LabelSet
from fullconv.metrics import Scores
from fullconv.report.findings import Findings
from fullconv.report.folds import write_folds_page
from fullconv.report.page import render
from fullconv.report.sections import _note, classes_table, summarize_interval
from fullconv.report.source import Source
from fullconv.report.verdict import judge
from html_page import Page

DRIVES = {"train": ["a1", "a2"], "val": ["b7"]}


def names_of(parts: Sequence[str], count: int = 3) -> list[str]:
    return [f"{part}_{number:04d}" for part in parts for number in range(count)]


def make_data(
    names: Mapping[str, Sequence[str]], options: ReadingOptions = BY_FILES, layout: str = "folder"
) -> DataSet:
    """Return a data set of these names of files that do not exist."""
    splits = {
        split: tuple(Sample(name, Path(f"data/{split}/{name}.png"), Path("m.png")) for name in members)
        for split, members in names.items()
    }
    return DataSet(layout, Path("data"), LabelSet.named(["ground", "crack"]), splits, options=options)


def series_in(data: DataSet, split: str = "val") -> list[str]:
    return list(dict.fromkeys(find_series(data, data.split(split))))


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("0016E5_00390", "0016E5"),
        ("drive1_0001", "drive1"),
        ("scene_4_2_7", "scene_4"),
        ("scene4_2x7", "scene4"),
        ("tile3x4", "tile"),
        ("scene_4_r2_c7", "scene_4"),
        ("scene_4_c7_r2", "scene_4"),
        ("scene_col2_row7", "scene"),
        ("field-x512_y0", "field"),
        ("videos/b/0001", "videos/b/"),
        ("2007_000032", "2007_000032"),
        ("photo", "photo"),
        ("17", "17"),
    ],
)
def test_the_series_of_a_name(name: str, series: str) -> None:
    assert series_of(name) == series


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (["img"], False),
        (["a1", "a2"], False),
        (["a1", "a2", "b7"], True),
        (["ADE_train", "ADE_val", "ADE_test"], False),
    ],
)
def test_three_parts_before_the_number_are_series_but_a_counter_and_splits_are_not(
    parts: list[str], shown: bool
) -> None:
    assert show_series(names_of(parts)) == shown
    assert not show_series([f"{part}_1" for part in parts])
    assert not show_series(["0000", "0001", "0002"] * 2)


def test_the_names_of_all_splits_show_series() -> None:
    """One drive is val, as the user divided them; only the other drives show that its name is that of a drive."""
    data = make_data({split: names_of(parts) for split, parts in DRIVES.items()})
    assert series_in(data) == ["b7"]
    assert series_in(data, "train") == ["a1", "a2"]


@pytest.mark.parametrize(
    ("parts", "layout"), [(["img"], "folder"), (["crack", "dent", "good"], "folder"), (["a/", "b/", "c/"], "mvtec")]
)
def test_counters_classes_and_kinds_of_defects_are_not_series(parts: list[str], layout: str) -> None:
    data = make_data({"val": names_of(parts)}, layout=layout)
    assert len(series_in(data)) == 3 * len(parts)


def test_groups_by_val_by_are_series_where_the_pattern_matches() -> None:
    options = ReadingOptions(val_by=r"val/(\w)")
    data = make_data({"val": [*names_of(["img"]), "other_1"], "test": names_of(["x", "y", "z"])}, options)
    assert series_in(data) == ["i", "o"]
    assert series_in(data, "test") == ["x", "y", "z"]


def frames(series: int, images: int) -> npt.NDArray[np.int64]:
    """Return counts of series whose images are all alike, images x 3 x 2."""
    rng = np.random.default_rng(2)
    hit = rng.integers(5, 50, (series, 2))
    wrong = rng.integers(1, 30, (series, 2))
    counts = np.stack([hit, hit + wrong, hit + wrong[:, ::-1]], 1)
    return counts.repeat(images, axis=0)


def test_many_frames_of_a_series_say_no_more_than_one() -> None:
    counts = frames(5, 20)
    series = np.arange(5).repeat(20).astype(str).tolist()
    one, many = bootstrap(counts[::20], 0), bootstrap(counts, 0, series=series)
    assert many.mean_iou == one.mean_iou
    assert many.gain == one.gain
    assert (many.images, many.series, many.in_series) == (100, 5, True)
    alone = bootstrap(counts, 0).mean_iou
    assert many.mean_iou is not None
    assert alone is not None
    assert many.mean_iou.high - many.mean_iou.low > 2 * (alone.high - alone.low)


def test_series_of_single_images_give_the_intervals_of_images() -> None:
    counts = frames(7, 1)
    counts[3] = 0
    names = list("gfedcba")
    assert bootstrap(counts, 1, series=names) == bootstrap(counts, 1)
    assert np.array_equal(sum_series(counts, names), counts)
    assert bootstrap(counts[:2], 1, series=names[:2]).mean_iou is not None


@pytest.mark.parametrize("series", [1, 2])
def test_fewer_than_three_series_have_no_interval(series: int) -> None:
    names = np.arange(series).repeat(4).astype(str).tolist()
    found = bootstrap(frames(series, 4), 0, series=names)
    assert (found.mean_iou, found.gain, found.per_class) == (None, None, (None, None))
    assert summarize_interval(found) == f"{4 * series} images of {series} series: no interval"


def test_one_bad_series_of_three_is_no_alarm(tmp_path: Path) -> None:
    """The network is 20 points better than one class everywhere, and worse on one of three scenes."""
    good, bad = [[60, 40]] * 3, [[0, 0], [60, 40], [40, 60]]
    counts = np.array([good] * 8 + [bad] * 4)
    found = bootstrap(counts, 0, series=np.arange(3).repeat(4).astype(str).tolist())
    assert found.gain is not None
    assert found.gain.low < 0
    scores = Scores.from_confusion(np.array([[480, 240], [160, 320]]), ["ground", "cell"])
    verdict = judge(scores, found, Source(tmp_path, {}))
    assert verdict.alarm == ""
    assert "with other series of this kind" in verdict.headline


def measured(data: DataSet, folder: Path) -> Findings:
    """Return the findings of a model that is right on nine pixels of ten, on pictures of 20 x 20 pixels."""
    measurement = Measurement(data.labels, data, "val", np.zeros((2, 2), np.int64))
    rng = np.random.default_rng(0)
    whole = slice(None), slice(None)
    for sample in data.split("val"):
        target: UInt8 = rng.integers(0, 2, (20, 20), dtype=np.uint8)
        prediction = np.where(rng.random((20, 20)) < 0.1, 1 - target, target).astype(np.uint8)
        measurement.add(sample, [Piece((20, 20), range(20), range(20), target, whole, prediction, 0.1)])
    return Findings(measurement, Source(folder, {}))


def test_report_and_verdict_say_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.report.page.choose_images", lambda images: {})  # these have no files
    for parts, kind, verdict in (
        (["img"], "95\u00a0% interval", "with other images of this kind"),
        (["b7", "b8", "b9"], "9 images of 3 series", "with other series of this kind"),
    ):
        findings = measured(make_data({"val": names_of(parts)}), tmp_path)
        text = Page(render(findings)).text
        assert kind in text
        assert ("of 3 series" in text) == (len(parts) > 1)
        assert ("say which of them belong together" in text) == (len(parts) == 1)
        assert verdict in findings.verdict.headline
        assert findings.verdict.alarm == ""
    assert "note" not in classes_table(findings).head, "the page says once that three series are few"
    assert "in 2 series only" in _note(2, 0.5, "series", 3)
    findings = measured(make_data({split: names_of(parts) for split, parts in DRIVES.items()}), tmp_path)
    text = Page(render(findings)).text
    assert "3 images of 1 series: no interval" in text
    assert "they need at least 3 series" in text
    assert "of this kind" not in findings.verdict.headline
    assert findings.verdict.alarm == ""


def test_the_page_of_folds_says_what_was_drawn(tmp_path: Path) -> None:
    for series, said in ((5, "samples of the 5 series of images"), (2, "the images are of 2 series")):
        names = np.arange(series).repeat(4).astype(str).tolist()
        intervals = bootstrap(frames(series, 4), 0, series=names)
        write_folds_page(tmp_path / "report.html", "data", [], [["", "mIoU"]], [["mIoU", "50.0", "–"]], intervals)
        assert said in (tmp_path / "report.html").read_text(encoding="utf-8")

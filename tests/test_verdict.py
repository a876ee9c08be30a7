"""Bootstrap intervals equal those of a plain loop; the baseline, the verdict and its advice follow from the scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fullconv.evaluation.intervals import bootstrap, draw_samples
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.ranges import Misfit
from fullconv.report.source import Source
from fullconv.report.verdict import Verdict, find_majority_class, judge, score_majority

BLIND = [[[905, 0], [95, 0]], [[952, 0], [48, 0]]]
"""Of a model that calls all ok."""

GOOD = [[[900, 5], [10, 85]], [[950, 2], [8, 40]]]
"""Of a model that finds most defects."""


def test_bootstrap_equals_a_plain_loop() -> None:
    """Matrices of drawn images, summed one by one, and scored by `Scores`."""
    rng, draws = np.random.default_rng(0), 60
    matrices = rng.integers(0, 9, (6, 3, 3)) * np.array([4, 1, 0])[:, None]
    counts = np.array([[m.diagonal(), m.sum(1), m.sum(0)] for m in matrices])
    found = bootstrap(counts, 0, draws, seed=3)
    means, gains, firsts = [], [], []
    for times in draw_samples(6, draws, seed=3):
        total = np.zeros((3, 3), np.int64)
        for index, count in enumerate(times):
            for _ in range(count):
                total += matrices[index]
        scores = Scores.from_confusion(total, "abc")
        means.append(scores.mean_iou)
        constant = np.zeros_like(total)
        constant[:, 0] = total.sum(1)
        gains.append(scores.mean_iou - Scores.from_confusion(constant, "abc").mean_iou)
        firsts.append(scores.per_class_iou[0])
    whole = Scores.from_confusion(matrices.sum(0), "abc")
    for interval, drawn in ((found.mean_iou, means), (found.gain, gains), (found.per_class[0], firsts)):
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    assert found.mean_iou is not None
    assert found.mean_iou.value == whole.mean_iou


def judged(
    matrices: Sequence[Sequence[Sequence[int]]], values: dict[str, Any] | None = None, misfit: Misfit | None = None
) -> Verdict:
    """Of a model with these confusion matrices, one an image, of the classes ok and defect."""
    stacked = np.array(matrices)
    counts = np.array([[m.diagonal(), m.sum(1), m.sum(0)] for m in stacked])
    scores = Scores.from_confusion(stacked.sum(0), ["ok", "defect"])
    return judge(
        scores, bootstrap(counts, find_majority_class(scores.confusion)), Source(Path("run"), values or {}), misfit
    )


def test_a_doubtful_range_is_the_first_sentence_of_the_verdict() -> None:
    facts = {"doubt": "nearly all values are 450 to 650, but 0 to 65535 become 0 to 255", "remedy": "set `range`"}
    verdict = judged(BLIND, {"range": facts})
    assert verdict.alarm.startswith(f"The images may be too dark or too bright for the network: {facts['doubt']}. The ")
    assert verdict.remedies[0] == "Set `range`."
    without = judged(BLIND, {"range": {**facts, "doubt": ""}})
    assert without.alarm.startswith("The model predicts")
    assert "Set `range`." not in without.remedies
    (note,) = judged(GOOD, {"range": facts}).notes
    assert note.endswith(f"{facts['doubt']}. Set `range`.")
    assert judged(GOOD).notes == ()


def test_images_that_miss_the_range_of_the_model_are_the_first_sentence() -> None:
    misfit = Misfit("a.tif: nearly all values are 0 to 3060, a small part of 0 to 65535", "add --range 0,3060")
    verdict = judged(BLIND, misfit=misfit)
    assert verdict.alarm.startswith(f"The images may be too dark or too bright for the network: {misfit.problem}. ")
    assert verdict.remedies[0] == "Add --range 0,3060."
    assert judged(GOOD, misfit=misfit).notes[0].endswith("Add --range 0,3060.")


@pytest.mark.parametrize("without", [1, 8, 60])
def test_images_of_background_alone_raise_no_alarm(without: int) -> None:
    """As defects have them: nothing can be gained on a draw of such images, which says nothing of the model."""
    assert judged([*GOOD, *[[[1000, 0], [0, 0]]] * without]).alarm == ""
    assert "not better" in judged([*BLIND, *[[[1000, 0], [0, 0]]] * without]).alarm
    guessing = [[[450, 455], [47, 48]], [[476, 476], [24, 24]]]
    assert "not better" in judged([*guessing, *[[[500, 500], [0, 0]]] * without]).alarm


def test_images_of_one_class_raise_no_alarm_but_a_note() -> None:
    verdict = judged([[[1000, 0], [0, 0]]] * 2)
    assert verdict.alarm == ""
    (note,) = verdict.notes
    assert note.startswith("These images show only “ok”, so they cannot show whether the model works")
    assert judged([[[0, 0], [400, 600]]] * 2).alarm == ""


def test_samples_have_as_many_images_and_are_reproducible() -> None:
    drawn = draw_samples(7, 50)
    assert (drawn.sum(1) == 7).all()
    assert np.array_equal(drawn, draw_samples(7, 50))
    assert not np.array_equal(drawn, draw_samples(7, 50, seed=1))


@given(arrays(np.int64, (4, 3, 3), elements=st.integers(0, 50)))
@settings(max_examples=40)
def test_intervals_contain_the_measured_value(matrices: npt.NDArray[np.int64]) -> None:
    matrices[:2, 0, 0] += 1
    counts = np.array([[m.diagonal(), m.sum(1), m.sum(0)] for m in matrices])
    scores = Scores.from_confusion(matrices.sum(0), "abc")
    found = bootstrap(counts, find_majority_class(scores.confusion), 50)
    assert found.mean_iou is not None
    assert found.mean_iou.value == pytest.approx(scores.mean_iou)
    for iou, interval in zip(scores.per_class_iou, found.per_class, strict=True):
        if interval is None:
            continue
        assert interval.value == pytest.approx(iou)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_one_image_has_no_interval_and_images_without_labels_do_not_count() -> None:
    one = np.ones((1, 3, 2), np.int64)
    assert bootstrap(one, 0).mean_iou is None
    assert bootstrap(np.concatenate([one, np.zeros_like(one)]), 0).mean_iou is None


def test_the_majority_baseline_by_hand() -> None:
    """6 of 10 pixels are class 0: accuracy 0.6, mean accuracy 1 / 2, IU 0.6 and 0, and 0.6 * 0.6 by frequency."""
    base = score_majority(Scores.from_confusion(np.array([[1, 5], [4, 0]]), ["a", "b"]))
    assert (base.pixel_accuracy, base.mean_accuracy, base.mean_iou, base.fw_iou) == pytest.approx((0.6, 0.5, 0.3, 0.36))
    target = np.array([0] * 6 + [1] * 4)
    again = Scores.from_confusion(confusion_matrix(target, np.zeros_like(target), 2), ["a", "b"])
    assert base.to_dict() == again.to_dict()


def advice(**values: Any) -> str:
    """Return the advice for these settings after a training without success."""
    return " ".join(judged(BLIND, values).remedies)


def test_advice_omits_settings_that_were_tried() -> None:
    assert "pretrained weights (--weights pretrained)" in advice(weights=None)
    begun = advice(weights="pretrained")
    assert "--weights" not in begun
    assert "another --model" in begun
    assert "try a finer --stride (16 or 8 or 4)" in advice()
    assert "a finer --stride (4)" in advice(network={"stride": 8, "model": "digits"})
    assert "--stride" not in advice(network={"stride": 4, "model": "digits"})
    assert "class_weight_power=0.5" not in advice(recipe={"class_weight_power": 0.5})


def test_advice_mentions_settings_by_hand() -> None:
    short = advice(recipe={"epochs": 2, "batch_size": 8}, samples={"train": 20})
    assert "trained for 6 steps only (2 epochs): without --epochs, train chooses" in short
    assert "steps only" not in advice(recipe={"epochs": 4, "batch_size": 8}, samples={"train": 5000})
    timed = {"epochs": 40, "batch_size": 8, "minutes": 2.5}
    assert "steps only" not in advice(recipe=timed, samples={"train": 8})
    short = advice(recipe=timed, samples={"train": 800}, schedule={"steps": 12, "every": 4})
    assert "trained for 12 steps only (2.5 minutes): without --minutes, train chooses" in short
    assert "steps only" not in advice(recipe=timed, samples={"train": 8}, schedule={"steps": 500, "every": 4})
    assert "(--lr 1e-09)" in advice(recipe={"lr": 1e-9})
    assert "by hand" not in advice(recipe={"lr": None})

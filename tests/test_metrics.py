"""The scores follow the paper's formulas, and depend on the confusion matrix alone."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fullconv.metrics import Scores, confusion_matrix
from refusals import refuses

NAMES = ("a", "b", "c", "d")
K = len(NAMES)
Labels = npt.NDArray[np.uint8]
targets = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
predictions = arrays(np.uint8, (6, 7), elements=st.integers(0, K - 1))
matrices = arrays(np.int64, (K, K), elements=st.sampled_from([0, 0, 1, 7, 10**12])).filter(np.any)


def by_definition(target: Labels, prediction: Labels) -> dict[str, Any]:
    """Compute the scores from sets of pixels, class by class, without a matrix."""
    counted = {i for i, label in enumerate(target.flat) if label != 255}
    true = [{i for i in counted if target.flat[i] == k} for k in range(K)]
    predicted = [{i for i in counted if prediction.flat[i] == k} for k in range(K)]
    iou = [len(t & p) / len(t | p) if t | p else None for t, p in zip(true, predicted, strict=True)]
    present = [x for x in iou if x is not None]
    accuracy = [len(t & p) / len(t) for t, p in zip(true, predicted, strict=True) if t]
    weighted = [len(t) * (x or 0) for t, x in zip(true, iou, strict=True)]
    return {
        "pixel_accuracy": sum(len(t & p) for t, p in zip(true, predicted, strict=True)) / len(counted),
        "mean_accuracy": sum(accuracy) / len(accuracy),
        "mean_iou": sum(present) / len(present),
        "fw_iou": sum(weighted) / len(counted),
        "per_class_iou": dict(zip(NAMES, iou, strict=True)),
    }


@given(target=targets.filter(lambda labels: bool((labels != 255).any())), prediction=predictions)
def test_scores_equal_those_computed_from_sets_of_pixels(target: Labels, prediction: Labels) -> None:
    scores = Scores.from_confusion(confusion_matrix(target, prediction, K), NAMES).to_dict()
    for name, value in by_definition(target, prediction).items():
        assert scores[name] == pytest.approx(value), name


@given(target=targets, prediction=predictions, row=st.integers(0, 6))
def test_confusion_matrices_of_parts_add_up(target: Labels, prediction: Labels, row: int) -> None:
    parts = [confusion_matrix(target[s], prediction[s], K) for s in (slice(row), slice(row, None))]
    whole = confusion_matrix(target, prediction, K)
    assert np.array_equal(parts[0] + parts[1], whole)
    assert whole.dtype == np.int64
    assert whole.sum() == (target != 255).sum()


@given(target=targets, prediction=predictions)
def test_rows_of_the_confusion_matrix_are_truth_and_columns_prediction(target: Labels, prediction: Labels) -> None:
    confusion = confusion_matrix(target, prediction, K)
    for i in range(K):
        assert confusion[i].sum() == (target == i).sum()
        assert confusion[:, i].sum() == ((prediction == i) & (target != 255)).sum()


@given(target=targets, prediction=predictions, dtype=st.sampled_from([np.int16, np.int64, np.uint64]))
def test_the_integer_type_of_label_maps_does_not_matter(target: Labels, prediction: Labels, dtype: type) -> None:
    wide = confusion_matrix(target.astype(dtype), prediction.astype(dtype), K)
    assert np.array_equal(wide, confusion_matrix(target, prediction, K))


@given(target=targets, prediction=predictions, ignore_index=st.sampled_from([-100, 0, 3, 9]))
def test_any_label_can_be_ignored(target: Labels, prediction: Labels, ignore_index: int) -> None:
    renamed = np.where(target == 255, ignore_index, target.astype(np.int64))
    confusion = confusion_matrix(renamed, prediction, K, ignore_index)
    expected = confusion_matrix(target, prediction, K)
    if 0 <= ignore_index < K:
        expected[ignore_index] = 0
    assert np.array_equal(confusion, expected)


@given(confusion=matrices)
def test_scores_are_fractions_and_come_back_from_json(confusion: npt.NDArray[np.int64]) -> None:
    scores = Scores.from_confusion(confusion, NAMES)
    text = json.dumps(scores.to_dict(), allow_nan=False)
    assert Scores.from_dict(json.loads(text)).to_dict() == scores.to_dict()
    iou = [x for x in scores.per_class_iou if x is not None]
    for value in (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou, *iou):
        assert 0 <= value <= 1 + 1e-12
    assert scores.mean_iou == pytest.approx(math.fsum(iou) / len(iou))


@given(confusion=matrices, order=st.permutations(range(K)), factor=st.integers(1, 1000))
def test_order_of_classes_and_number_of_pixels_do_not_matter(
    confusion: npt.NDArray[np.int64], order: list[int], factor: int
) -> None:
    scores = Scores.from_confusion(confusion, NAMES)
    other = Scores.from_confusion(confusion[np.ix_(order, order)] * factor, [NAMES[i] for i in order])
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou"):
        assert getattr(other, name) == pytest.approx(getattr(scores, name))
    assert other.to_dict()["per_class_iou"] == pytest.approx(scores.to_dict()["per_class_iou"])


def test_absent_classes_have_no_iou_and_do_not_count() -> None:
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    scores = Scores.from_confusion(confusion, ["true", "only predicted", "nowhere"])
    assert scores.per_class_iou == (0.75, 0.0, None)
    assert scores.mean_iou == 0.375
    assert scores.mean_accuracy == scores.fw_iou == 0.75


def test_scores_copy_the_confusion_matrix_read_only() -> None:
    confusion = np.eye(2, dtype=np.int64)
    scores = Scores.from_confusion(confusion, ["a", "b"])
    confusion[:] = 0
    assert scores.confusion.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="read-only"):
        scores.confusion[0, 0] = 5


@pytest.mark.parametrize("wrong", [4, 254, -1])
def test_labels_beyond_the_classes_are_refused(wrong: int) -> None:
    labels = np.array([[0, 1], [2, wrong]])
    with refuses("label-without-class", f"target has labels {wrong},"):
        confusion_matrix(labels, np.zeros_like(labels), K)
    with refuses("label-without-class", f"prediction has labels {wrong},"):
        confusion_matrix(np.zeros_like(labels), labels, K)
    ignored = np.array([[0, 1], [2, 255]])
    assert confusion_matrix(ignored, labels, K).sum() == 3


def test_inputs_that_cannot_be_scored_are_refused() -> None:
    ignored = np.full((3, 3), 255, np.uint8)
    with refuses("no-pixel-to-score"):
        Scores.from_confusion(confusion_matrix(ignored, np.zeros_like(ignored), K), NAMES)
    with refuses("prediction-size-differs", "(3, 3)", "(2, 3)"):
        confusion_matrix(ignored, ignored[:2], K)
    with refuses("confusion-size-differs", "(3, 3)", "4 class names"):
        Scores.from_confusion(np.eye(3, dtype=np.int64), NAMES)
    for broken in ({}, {"confusion": [[1]], "class_names": None}, {"confusion": "x", "class_names": ["a"]}):
        with refuses("invalid-scores"):
            Scores.from_dict(broken)

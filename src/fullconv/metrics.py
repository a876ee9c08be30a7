"""The confusion matrix, and the scores that are computed from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Int64
from fullconv.errors import DataError
from fullconv.labels import IGNORE_INDEX, legal_ids

__all__ = ["Scores", "confusion_matrix"]


def confusion_matrix(
    target: npt.NDArray[np.integer[Any]],
    prediction: npt.NDArray[np.integer[Any]],
    num_classes: int,
    ignore_index: int = IGNORE_INDEX,
) -> Int64:
    """Return the K x K int64 pixel counts n_ij: rows are the true class i, columns the predicted class j.

    `target` and `prediction` are integer label maps of the same shape (any number of axes). Pixels whose target is
    `ignore_index` are not counted. The matrices of parts of an image add up to the matrix of the whole image.

    Raises DataError if the shapes differ or a counted pixel has a label outside 0..K-1.
    """
    if target.shape != prediction.shape:
        message = f"the target has shape {target.shape}, the prediction {prediction.shape}; they must be equal"
        raise DataError(message, code="prediction-size-differs")
    counted = target != ignore_index
    target, prediction = target[counted], prediction[counted]
    _check_labels("target", target, num_classes)
    _check_labels("prediction", prediction, num_classes)
    cells = target.astype(np.intp) * num_classes + prediction.astype(np.intp)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Scores:
    """The paper's four scores, as fractions, with the confusion matrix that they are computed from.

    With n_ij the number of pixels of class i predicted as class j, t_i = sum_j n_ij the number of pixels of class i,
    and n_cl the number of classes (Long, Shelhamer, Darrell, CVPR 2015, section 5):

        pixel_accuracy   sum_i n_ii / sum_i t_i
        mean_accuracy    (1 / n_cl) sum_i n_ii / t_i
        mean_iou         (1 / n_cl) sum_i n_ii / (t_i + sum_j n_ji - n_ii)
        fw_iou           (sum_k t_k)^-1 sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii)

    A class that appears in neither the truth nor the prediction has IoU None and is left out of `mean_iou`. A class
    that is predicted but never true has IoU 0, which counts in `mean_iou`. `mean_accuracy` is the mean over the classes
    with t_i > 0. `confusion` is K x K int64, read-only.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    fw_iou: float
    per_class_iou: tuple[float | None, ...]
    class_names: tuple[str, ...]
    confusion: Int64

    @classmethod
    def from_confusion(cls, confusion: Int64, class_names: Sequence[str]) -> Scores:
        """Compute the scores from a K x K confusion matrix, or from the sum of several.

        Raises DataError if the matrix is not K x K for K names, or counts no pixel.
        """
        counts = np.array(confusion, dtype=np.int64)
        if counts.shape != (len(class_names), len(class_names)):
            message = f"the confusion matrix has shape {counts.shape}, but there are {len(class_names)} class names"
            raise DataError(message, code="confusion-size-differs")
        if not counts.any():
            message = "no pixel can be scored: there are no images, or all pixels of their masks are ignored"
            raise DataError(f"{message}; check the masks", code="no-pixel-to-score")
        counts.setflags(write=False)
        hit, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        union = true + predicted - hit
        iou = hit / np.maximum(union, 1)
        return cls(
            pixel_accuracy=float(hit.sum() / true.sum()),
            mean_accuracy=float((hit[true > 0] / true[true > 0]).mean()),
            mean_iou=float(iou[union > 0].mean()),
            fw_iou=float(true @ iou / true.sum()),
            per_class_iou=tuple(float(x) if n > 0 else None for x, n in zip(iou, union, strict=True)),
            class_names=tuple(class_names),
            confusion=counts,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Compute the scores from the values that `to_dict` returned.

        Only the names and the matrix are read. Raises DataError if they are missing or do not fit each other.
        """
        try:
            confusion, names = np.array(values["confusion"], np.int64), values["class_names"]
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise ValueError("class_names is not a list of names")
            if confusion.size and confusion.min() < 0:
                raise ValueError("a count is less than 0")
            return cls.from_confusion(confusion, names)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            message = f"these are not scores written by fullconv evaluate ({error!r})"
            raise DataError(message, code="invalid-scores") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as dicts, lists, strings, numbers and None, for JSON; never NaN."""
        return {
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_iou": self.mean_iou,
            "fw_iou": self.fw_iou,
            "per_class_iou": dict(zip(self.class_names, self.per_class_iou, strict=True)),
            "class_names": list(self.class_names),
            "confusion": self.confusion.tolist(),
        }


def _check_labels(name: str, labels: npt.NDArray[np.integer[Any]], num_classes: int) -> None:
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        wrong = np.unique(labels[(labels < 0) | (labels >= num_classes)]).tolist()
        listed = f"{', '.join(map(str, wrong[:5]))}{' ...' if len(wrong) > 5 else ''}"
        message = f"the {name} has labels {listed}, but {legal_ids(num_classes)}; check the class names"
        raise DataError(message, code="label-without-class")

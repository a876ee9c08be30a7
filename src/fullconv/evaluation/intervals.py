"""Bootstrap intervals: how far scores would vary with other images of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float64, Int64

__all__ = ["DRAWS", "LEVEL", "SEED", "Bootstrap", "Interval", "bootstrap", "draw_samples"]

DRAWS = 1000
"""The number of bootstrap samples."""

SEED = 0
LEVEL = 95
"""The percentage of the bootstrap samples in an interval."""


@dataclass(frozen=True)
class Interval:
    """A share, 0..1, and the bounds that contain 95 % of the bootstrap samples and the share itself."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """The intervals of the mIoU, of its gain over a model that predicts one class everywhere, and of each class's IoU.

    An interval is None for an absent class and for fewer than two images with labelled pixels. The gain uses only
    samples with two or more classes in their truth, because with one class no model can be better than predicting that
    class everywhere.
    """

    mean_iou: Interval | None
    gain: Interval | None
    per_class: tuple[Interval | None, ...]


def draw_samples(images: int, draws: int = DRAWS, seed: int = SEED) -> Int64:
    """Draw images with replacement; return draws x images int64, the times that each sample contains each image."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)


def bootstrap(counts: Int64, majority: int, draws: int = DRAWS, seed: int = SEED) -> Bootstrap:
    """Return percentile intervals for images x 3 x K counts of `Measurement.counts`.

    The pixels of the images in a sample are summed. `majority` is the class that the baseline predicts everywhere, in
    every sample. If a class is absent from truth and prediction of a sample, the mean of that sample is over the other
    classes.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    counts = counts[counts[:, 1].sum(1) > 0]  # without labelled pixels, an image has no scores
    images, _, classes = counts.shape
    if images < 2:
        return Bootstrap(None, None, (None,) * classes)
    drawn = draw_samples(images, draws, seed)
    whole = np.concatenate([np.ones((1, images), np.int64), drawn])
    sums = (whole @ counts.reshape(images, -1)).reshape(-1, 3, classes)
    iou, base = _ious(sums), _ious(_predict_everywhere(sums, majority))
    mean = np.nanmean(iou, axis=1)
    beatable = (sums[:, 1] > 0).sum(1) > 1
    gain = np.where(beatable, mean - np.nanmean(base, axis=1), np.nan)
    return Bootstrap(_interval(mean), _interval(gain), tuple(_interval(iou[:, k]) for k in range(classes)))


def _predict_everywhere(sums: Int64, majority: int) -> Int64:
    """Return the counts of a model that predicts the class `majority` everywhere."""
    true = sums[:, 1]
    hit, predicted = np.zeros_like(true), np.zeros_like(true)
    hit[:, majority], predicted[:, majority] = true[:, majority], true.sum(1)
    return np.stack([hit, true, predicted], 1)


def _ious(sums: Int64) -> Float64:
    """Return n x K IoUs; NaN for classes in neither truth nor prediction."""
    hit, true, predicted = sums[:, 0], sums[:, 1], sums[:, 2]
    union = true + predicted - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _interval(values: Float64) -> Interval | None:
    """Return the interval for values whose first is that of all images, and the others those of the samples."""
    point, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(point) or not len(drawn):
        return None
    rest = (100 - LEVEL) / 2
    low, high = np.percentile(drawn, [rest, 100 - rest]).tolist()
    return Interval(point, min(low, point), max(high, point))

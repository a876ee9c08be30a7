"""Bootstrap intervals: how far scores would vary with other images of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float64, Int64

__all__ = [
    "DRAWS",
    "FEW",
    "FEWEST_SERIES",
    "LEVEL",
    "SEED",
    "Bootstrap",
    "Interval",
    "bootstrap",
    "draw_samples",
    "sum_series",
]

DRAWS = 1000
"""The number of bootstrap samples."""

SEED = 0
LEVEL = 95
"""The percentage of the bootstrap samples in an interval."""

FEWEST_SERIES = 3
"""With fewer series of several images there is no interval, as their spread says too little."""

FEW = 10
"""The number of images, or of series, below which an interval is rough."""


@dataclass(frozen=True)
class Interval:
    """A share, 0..1, and the bounds that contain 95 % of the bootstrap samples and the share itself."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """The intervals of the mIoU, of its gain over a model that predicts one class everywhere, and of each class's IoU.

    An interval is None for an absent class, for fewer than two images with labelled pixels, and for fewer than three
    series of several such images. The gain uses only samples with two or more classes in their truth, because with one
    class no model can be better than predicting that class everywhere.

    `images` and `series` count what has labelled pixels; an image that belongs to no other one is a series.
    """

    mean_iou: Interval | None
    gain: Interval | None
    per_class: tuple[Interval | None, ...]
    images: int
    series: int

    @property
    def in_series(self) -> bool:
        """Whether some images belong together, so that series are drawn instead of images."""
        return self.series < self.images

    @property
    def hangs_on_one(self) -> bool:
        """Whether so few series were drawn that a single odd one decides the bounds."""
        return self.in_series and self.series < FEW


def draw_samples(count: int, draws: int = DRAWS, seed: int = SEED) -> Int64:
    """Draw from `count` series with replacement; return draws x count int64, how often each sample has each series."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


def sum_series(counts: Int64, series: Sequence[str]) -> Int64:
    """Return the sums of the counts of images, one for each series, in the order of their first images."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(series))}
    sums = np.zeros((len(numbers), *counts.shape[1:]), np.int64)
    np.add.at(sums, np.array([numbers[name] for name in series], np.int64), counts)
    return sums


def bootstrap(
    counts: Int64, majority: int, draws: int = DRAWS, seed: int = SEED, series: Sequence[str] | None = None
) -> Bootstrap:
    """Return percentile intervals for images x 3 x K counts of `Measurement.counts`.

    `series` names what each image belongs to (`Measurement.series`); whole series are drawn, because their images are
    not independent. None draws each image for itself. The pixels of the images in a sample are summed. `majority` is
    the class that the baseline predicts everywhere, in every sample. If a class is absent from truth and prediction of
    a sample, the mean of that sample is over the other classes.

    Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for series, Field and Welsh,
    Bootstrapping clustered data, Journal of the Royal Statistical Society B 69, 2007.
    """
    labelled = counts[:, 1].sum(1) > 0  # without labelled pixels, an image has no scores
    counts = counts[labelled]
    images, _, classes = counts.shape
    if series is not None:
        counts = sum_series(counts, [name for name, is_labelled in zip(series, labelled, strict=True) if is_labelled])
    count = len(counts)
    if count < 2 or count < min(images, FEWEST_SERIES):
        return Bootstrap(None, None, (None,) * classes, images, count)
    drawn = draw_samples(count, draws, seed)
    whole = np.concatenate([np.ones((1, count), np.int64), drawn])
    sums = (whole @ counts.reshape(count, -1)).reshape(-1, 3, classes)
    iou, base = _ious(sums), _ious(_predict_everywhere(sums, majority))
    mean = np.nanmean(iou, axis=1)
    beatable = (sums[:, 1] > 0).sum(1) > 1
    gain = np.where(beatable, mean - np.nanmean(base, axis=1), np.nan)
    per_class = tuple(_interval(iou[:, k]) for k in range(classes))
    return Bootstrap(_interval(mean), _interval(gain), per_class, images, count)


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

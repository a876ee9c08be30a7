"""How far scores would move with other images: the bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["DRAWS", "LEVEL", "SEED", "Bootstrap", "Interval", "bootstrap", "resamples"]

DRAWS = 1000
SEED = 0
LEVEL = 95
"""Percent of the draws that an interval holds."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A share and the bounds that 95 % of the draws lie in, widened where they would leave the share itself outside."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of the mean IU, of its gain over calling every pixel the majority class, and of each class' IU.

    None where there is nothing to say: a class that is absent, or fewer than two images. The gain is over draws with
    two classes or more in their truth: where there is one, calling every pixel that one cannot be beaten.
    """

    mean_iou: Interval | None
    gain: Interval | None
    per_class: tuple[Interval | None, ...]


def resamples(images: int, draws: int = DRAWS, seed: int = SEED) -> Ints:
    """draws x images int64: how often each draw of as many images, with replacement, has each of them."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)


def bootstrap(counts: Ints, majority: int, draws: int = DRAWS, seed: int = SEED) -> Bootstrap:
    """Percentile intervals of images x 3 x K counts of `Measured.counts`; pixels are summed over the images of a draw.

    `majority` is the class that the baseline calls every pixel, in every draw. A draw without a class, in truth and
    prediction, has no IU of it, and its mean is over the others.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    images, _, classes = counts.shape
    if images < 2:
        return Bootstrap(None, None, (None,) * classes)
    drawn = resamples(images, draws, seed)
    whole = np.concatenate([np.ones((1, images), np.int64), drawn])
    sums = (whole @ counts.reshape(images, -1)).reshape(-1, 3, classes)
    sums = sums[sums[:, 1].sum(1) > 0]  # a draw of unlabelled images only has no scores
    iou, base = _ious(sums), _ious(_called(sums, majority))
    mean = np.nanmean(iou, axis=1)
    beatable = (sums[:, 1] > 0).sum(1) > 1
    gain = np.where(beatable, mean - np.nanmean(base, axis=1), np.nan)
    return Bootstrap(_interval(mean), _interval(gain), tuple(_interval(iou[:, k]) for k in range(classes)))


def _called(sums: Ints, majority: int) -> Ints:
    """The counts of a model that calls every pixel the class `majority`."""
    true = sums[:, 1]
    hit, predicted = np.zeros_like(true), np.zeros_like(true)
    hit[:, majority], predicted[:, majority] = true[:, majority], true.sum(1)
    return np.stack([hit, true, predicted], 1)


def _ious(sums: Ints) -> Floats:
    """n x K; NaN for classes in neither truth nor prediction."""
    hit, true, predicted = sums[:, 0], sums[:, 1], sums[:, 2]
    union = true + predicted - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _interval(values: Floats) -> Interval | None:
    """Of the value on all images, which is the first, and those of the draws."""
    point, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(point) or not len(drawn):
        return None
    rest = (100 - LEVEL) / 2
    low, high = np.percentile(drawn, [rest, 100 - rest]).tolist()
    return Interval(point, min(low, point), max(high, point))

"""The prior of the weights on taps: do classes differ in fine detail, or in what a wide field shows?

The features of a tap that is r times as coarse as the finest one are multiplied by r ** -power, so its weights have to
be larger for the same effect, and are penalised more. Power 0 suits scenes. A high power suits textures and lines,
where a coarse tap only remembers the places of the strokes. Held-out images decide, so nobody has to set it.
"""

from __future__ import annotations

import numpy as np

from fullconv.arrays import Float32, Int64, Mask, UInt8
from fullconv.label.live.logistic import Problem, solve
from fullconv.label.live.samples import weigh
from fullconv.onnx_graph.split import Split
from fullconv.runtime.products import narrow_product

__all__ = ["DEFAULT_POWER", "POWERS", "choose_penalty", "choose_power", "count_regions", "tap_factors"]

POWERS = (0.2, 0.8)
DEFAULT_POWER = 0.5
"""The power while fewer than `MIN_GROUPS` images have paint."""

MIN_GROUPS, CLEARLY = 3, 0.85
"""A chosen power is changed only if another one has a loss below this share, since few images judge unsteadily."""

JUDGED, FOLDS, ITERATIONS = 1000, 4, 15
"""The samples from which the power is chosen, the parts that are held out in turn, and the steps of each fit."""


SIDE = 32
"""Painted pixels of one class in one square of this side count as one region: they say nearly the same."""

STRENGTH, MIN_PENALTY, MAX_PENALTY = 6.0, 0.01, 0.3
"""The penalty is `STRENGTH` divided by the number of regions, within these bounds."""


def count_regions(rows: Int64, columns: Int64, keys: UInt8) -> int:
    """Return the number of independent regions among the painted pixels of an image."""
    return len(np.unique(((rows // SIDE) * 2**24 + columns // SIDE) * 256 + keys))


def choose_penalty(regions: int) -> float:
    """Return the factor of the squared weights: more for few regions, as for a prior of fixed width."""
    return min(MAX_PENALTY, max(MIN_PENALTY, STRENGTH / max(1, regions)))


def tap_factors(split: Split, power: float) -> Float32:
    """Return the factor of each channel, and 1 for the bias: D + 1."""
    ratios = [1.0]
    for axes in reversed(split.upsamplings):
        ratios.append(ratios[-1] * max(up.factor for up in axes))
    channels = [score.weight.shape[1] for score in split.scores]
    factors = [np.full(count, ratio**-power) for count, ratio in zip(channels, reversed(ratios), strict=True)]
    return np.concatenate([*factors, [1.0]]).astype(np.float32)


def choose_power(
    split: Split,
    power: float,
    inputs: Float32,
    targets: Int64,
    offsets: Float32,
    groups: Int64,
    penalty: float,
    free: Float32,
) -> float:
    """Return the power with the best predictions for held-out groups (images), or the current `power`.

    `inputs` is N x (D + 1), standardised; `targets` are class numbers, `offsets` K x N the logits of the start.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < MIN_GROUPS:
        return power
    some = np.sort(np.random.default_rng(0).permutation(len(targets))[:JUDGED])
    inputs, targets, offsets, folds = inputs[some], targets[some], offsets[:, some], numbers[some] % FOLDS
    losses = []
    for candidate in POWERS:
        scaled = inputs * tap_factors(split, candidate)
        losses.append(sum(_held_out(scaled, targets, offsets, folds == fold, penalty, free) for fold in range(FOLDS)))
    best = int(np.argmin(losses))
    if power in POWERS and losses[best] > CLEARLY * losses[POWERS.index(power)]:
        return power
    return POWERS[best]


def _held_out(inputs: Float32, targets: Int64, offsets: Float32, held: Mask, penalty: float, free: Float32) -> float:
    """Return the loss on some samples of a fit to the others; classes that the others lack do not count."""
    present = np.unique(targets[~held])
    known = held & np.isin(targets, present)
    if len(present) < 2 or not known.any():
        return 0.0
    problem = Problem(inputs[~held], targets[~held], weigh(targets[~held]), offsets[:, ~held], penalty, free)
    layer = solve(problem, np.zeros((len(offsets), inputs.shape[1]), np.float32), ITERATIONS)
    logits = narrow_product(inputs[known], layer) + offsets[:, known]
    logits = logits[present]
    numbers = np.searchsorted(present, targets[known])
    weights = weigh(numbers.astype(np.int64))
    logits -= logits.max(0)
    return float(weights @ (np.log(np.exp(logits).sum(0)) - logits[numbers, np.arange(len(numbers))]))

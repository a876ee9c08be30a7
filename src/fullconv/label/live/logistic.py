"""Multinomial logistic regression in numpy: the convex problem that fits the score layers to painted pixels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float32, Int64
from fullconv.runtime.products import narrow_product, tall_product

__all__ = ["Problem", "solve"]

MEMORY = 10
"""The pairs of steps and gradients from which L-BFGS estimates the curvature."""

SUFFICIENT, SHRINK, MAX_TRIALS = 1e-4, 0.5, 12
"""The decrease that a step has to reach as a share of the linear one (Armijo), and how steps are shortened."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Weighted samples, and the penalty on weights.

    `inputs` is N x D float32, `targets` N class ids, `weights` N float32 with the sum 1, `offsets` K x N float32 the
    logits before anything is fitted. The loss is the weighted mean of the cross entropy, plus `penalty` / 2 times the
    sum of squares of the weights; column d counts `free[d]` times, 0 for a bias. The penalty makes it strictly convex
    in all penalised weights, so the result does not depend on the start.
    """

    inputs: Float32
    targets: Int64
    weights: Float32
    offsets: Float32
    penalty: float
    free: Float32

    def loss(self, layer: Float32) -> tuple[float, Float32]:
        """Return the loss and its gradient at K x D weights."""
        logits = narrow_product(self.inputs, layer) + self.offsets
        logits -= logits.max(0)
        samples = np.arange(logits.shape[1])
        chosen = logits[self.targets, samples]
        shares = np.exp(logits, out=logits)
        total = shares.sum(0)
        value = float(self.weights @ (np.log(total) - chosen))
        shares /= total
        shares[self.targets, samples] -= 1
        shares *= self.weights
        penalised = layer * (self.penalty * self.free)
        return value + 0.5 * float(np.vdot(layer, penalised)), tall_product(shares, self.inputs) + penalised


def solve(problem: Problem, start: Float32, iterations: int = 25, tolerance: float = 3e-4) -> Float32:
    """Minimise the loss from `start`, K x D float32, with L-BFGS.

    It ends when the gradient is `tolerance` times the one at zero, or after `iterations`. Each iteration lowers the
    loss, so an early end gives a usable result. Source: Nocedal and Wright, Numerical Optimization, 2006, algorithm
    7.4.
    """
    goal = tolerance * float(np.linalg.norm(problem.loss(np.zeros_like(start))[1]))
    layer, (value, gradient) = start, problem.loss(start)
    pairs: deque[tuple[Float32, Float32, float]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        if float(np.linalg.norm(gradient)) <= goal:
            break
        direction = -_apply_inverse(gradient, pairs)
        slope = float(np.vdot(gradient, direction))
        if slope >= 0:
            direction, slope = -gradient, -float(np.vdot(gradient, gradient))
            pairs.clear()
        step = 1.0 if pairs else min(1.0, 1.0 / max(1e-12, float(np.linalg.norm(gradient))))
        for _ in range(MAX_TRIALS):
            moved = layer + np.float32(step) * direction
            new_value, new_gradient = problem.loss(moved)
            if new_value <= value + SUFFICIENT * step * slope:
                break
            step *= SHRINK
        else:
            break
        difference, change = moved - layer, new_gradient - gradient
        curvature = float(np.vdot(difference, change))
        if curvature > 1e-10 * float(np.vdot(change, change)):
            pairs.append((difference, change, curvature))
        layer, value, gradient = moved, new_value, new_gradient
    return layer


def _apply_inverse(gradient: Float32, pairs: deque[tuple[Float32, Float32, float]]) -> Float32:
    """Return the estimated inverse Hessian times the gradient."""
    result = gradient.copy()
    factors = []
    for difference, change, curvature in reversed(pairs):
        factor = np.float32(float(np.vdot(difference, result)) / curvature)
        factors.append(factor)
        result -= factor * change
    if pairs:
        _, change, curvature = pairs[-1]
        result *= np.float32(curvature / float(np.vdot(change, change)))
    for (difference, change, curvature), factor in zip(pairs, reversed(factors), strict=True):
        result += (factor - np.float32(float(np.vdot(change, result)) / curvature)) * difference
    return result

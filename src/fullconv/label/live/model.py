"""The score layers of a live model: those of the start, plus a fitted change, for classes that come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.label.live.decode import Features
from fullconv.label.live.logistic import Problem, solve
from fullconv.label.live.priors import DEFAULT_POWER, choose_power, tap_factors
from fullconv.label.live.tap_store import Summary
from fullconv.labels import fold_name
from fullconv.onnx_graph.split import ScoreLayer, Split
from fullconv.runtime.products import narrow_product

__all__ = ["Classes", "Model", "Scale"]

NEVER = -1000.0
"""The bias of a class that nobody has painted and the start does not know: it is never predicted."""

FLAT = 1e-3
"""Channels that vary less than this share of their tap's typical channel are scaled as if they varied so much."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """The classes of a project: (key, name, colour), in their order."""

    labels: tuple[tuple[int, str, Color], ...]

    @property
    def keys(self) -> list[int]:
        """The keys in order."""
        return [key for key, _, _ in self.labels]


@dataclass(frozen=True, eq=False)
class Scale:
    """The standardisation of features: D means and D factors by which what is left is multiplied; both float32."""

    mean: Float32
    factor: Float32

    @classmethod
    def of(cls, summaries: Sequence[Summary], channels: Sequence[int]) -> Scale:
        """Return the scale for images with these summaries."""
        mean = np.mean([summary.mean for summary in summaries], 0)
        variance = np.mean([summary.square for summary in summaries], 0) - mean**2
        std = np.sqrt(np.maximum(variance, 0))
        parts = np.split(std, np.cumsum(channels)[:-1])
        floored = [np.maximum(part, FLAT * part.mean() + 1e-12) for part in parts]
        return cls(mean.astype(np.float32), (1 / np.concatenate(floored)).astype(np.float32))

    def apply(self, features: Features, channels: Sequence[int]) -> Float32:
        """Return standardised features and, as the last column, the mass of the finest tap: N x (D + 1)."""
        result = np.empty((len(features.values), len(self.mean) + 1), np.float32)
        mass = np.repeat(features.mass, channels, axis=1)
        np.subtract(features.values, mass * self.mean, out=result[:, :-1])
        result[:, :-1] *= self.factor
        result[:, -1] = features.mass[:, -1]
        return result


@dataclass(frozen=True, eq=False)
class Model:
    """Score layers for some classes.

    `fit` holds a row of D + 1 weights for each class that was fitted, in the units of `scale`. The score layers are
    those of the start plus these, with the standardisation folded in. `power` is that of the prior (see `priors`).
    """

    split: Split
    classes: Classes
    fit: Mapping[int, Float32] = field(default_factory=dict)
    scale: Scale | None = None
    power: float = DEFAULT_POWER

    def __post_init__(self) -> None:
        """Match the classes with those of the start by their folded names."""
        known: dict[int, int] = {}
        if any(np.any(score.weight) for score in self.split.scores):
            names = {fold_name(name): index for index, name in enumerate(self.split.metadata.info.labels.class_names)}
            known = {key: names[fold_name(name)] for key, name, _ in self.classes.labels if fold_name(name) in names}
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_layers", self._make_layers())

    @property
    def known(self) -> Mapping[int, int]:
        """The class ids of the start, by key, of the classes that it knows."""
        known: Mapping[int, int] = self.__dict__["_known"]
        return known

    @property
    def keys(self) -> UInt8:
        """The class keys, in the order of the score layers' outputs."""
        return np.array(self.classes.keys, np.uint8)

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of channels of each tap."""
        return tuple(score.weight.shape[1] for score in self.split.scores)

    @property
    def usable(self) -> bool:
        """Whether it predicts anything: two classes were fitted, or the start knows one."""
        return bool(self.known) or len(self.fit) > 1

    @property
    def layers(self) -> tuple[ScoreLayer, ...]:
        """The score layers, with one output for each class."""
        layers: tuple[ScoreLayer, ...] = self.__dict__["_layers"]
        return layers

    def with_classes(self, classes: Classes) -> Model:
        """Return the model for other classes; those that remain keep their weights."""
        fit = {key: row for key, row in self.fit.items() if key in classes.keys}
        return replace(self, classes=classes, fit=fit if len(fit) > 1 or self.known else {})

    def reset(self) -> Model:
        """Return the model without anything fitted."""
        return replace(self, fit={}, scale=None)

    def fittable(self, targets: Sequence[UInt8]) -> bool:
        """Return whether there are samples, and at least two classes among them and those of the start."""
        painted = {int(key) for keys in targets for key in np.unique(keys)}
        return bool(painted) and len(painted | set(self.known)) > 1

    def fitted(self, features: Features, targets: UInt8, weights: Float32, scale: Scale, penalty: float) -> Model:
        """Return the model fitted to samples: their features, class keys and weights (see `priors` for the penalty)."""
        keys, numbers, inputs, offsets = self._prepare(features, targets, scale)
        factors = tap_factors(self.split, self.power)
        problem = Problem(inputs * factors, numbers, weights, offsets, penalty, _penalised(len(factors)))
        start = np.stack([self.fit.get(key, np.zeros(len(factors), np.float32)) / factors for key in keys])
        solved = solve(problem, start) * factors
        return replace(self, fit=dict(zip(keys, solved, strict=True)), scale=scale)

    def judged(self, features: Features, targets: UInt8, groups: Int64, scale: Scale, penalty: float) -> Model:
        """Return the model with the prior that predicts held-out groups of samples best."""
        _, numbers, inputs, offsets = self._prepare(features, targets, scale)
        free = _penalised(inputs.shape[1])
        return replace(
            self, power=choose_power(self.split, self.power, inputs, numbers, offsets, groups, penalty, free)
        )

    def _prepare(self, features: Features, targets: UInt8, scale: Scale) -> tuple[list[int], Int64, Float32, Float32]:
        """Return the keys of the classes that are fitted, and of the samples their numbers, inputs and offsets."""
        painted = set(np.unique(targets).tolist())
        keys = [key for key in self.classes.keys if key in painted or key in self.known]
        numbers = np.full(256, -1, np.int64)
        numbers[keys] = np.arange(len(keys))
        return keys, numbers[targets], scale.apply(features, self.channels), self._start_logits(features, keys)

    def _start_logits(self, features: Features, keys: Sequence[int]) -> Float32:
        """Return the logits of the start for samples, K x N; 0 for classes that it does not know."""
        weight = np.concatenate([score.weight for score in self.split.scores], 1)
        bias = np.stack([score.bias for score in self.split.scores], 1)
        result = np.zeros((len(keys), len(features.values)), np.float32)
        rows = [index for index, key in enumerate(keys) if key in self.known]
        ids = [self.known[keys[index]] for index in rows]
        if ids:
            result[rows] = narrow_product(features.values, weight[ids]) + bias[ids] @ features.mass.T
        return result

    def _make_layers(self) -> tuple[ScoreLayer, ...]:
        """Return the score layers: the start's, plus the fit with its standardisation folded in.

        For a class with fitted weights v, a channel with mean m and factor f adds v f (x - mass m) to the logits: the
        weight v f on the tap, and the bias - v f m.
        """
        keys = self.classes.keys
        layers = []
        begin = 0
        for tap, score in enumerate(self.split.scores):
            channels = score.weight.shape[1]
            part = slice(begin, begin + channels)
            begin += channels
            weight, bias = np.zeros((len(keys), channels), np.float32), np.zeros(len(keys), np.float32)
            for index, key in enumerate(keys):
                if key in self.known:
                    weight[index], bias[index] = score.weight[self.known[key]], score.bias[self.known[key]]
                if key in self.fit and self.scale is not None:
                    row = self.fit[key][part] * self.scale.factor[part]
                    weight[index] += row
                    bias[index] -= row @ self.scale.mean[part]
                if tap == len(self.split.scores) - 1:
                    bias[index] += self.fit[key][-1] if key in self.fit else 0.0 if key in self.known else NEVER
            layers.append(ScoreLayer(weight, bias))
        return tuple(layers)


def _penalised(count: int) -> Float32:
    """Return how much each column of the inputs is penalised: the bias, which is the last one, hardly at all."""
    penalised = np.ones(count, np.float32)
    penalised[-1] = 1e-3
    return penalised

"""Features of pixels, logits and labels from taps and score layers, as the network computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.geometry.interpolation import Interpolation
from fullconv.label.live.network import Maps
from fullconv.onnx_graph.split import ScoreLayer
from fullconv.runtime.full_size import full_size_labels
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.products import narrow_product

__all__ = ["Features", "Fused", "fuse", "gather", "label", "logits_on_grid"]

CHUNK = 2**22
"""The number of values that are gathered at a time."""

Axes = tuple[Interpolation, Interpolation]


@dataclass(frozen=True, eq=False)
class Features:
    """What pixels read of each tap.

    `values` is N x D float32: the channels of all taps next to each other, coarse to fine. `mass` is N x taps float32:
    the share of each tap's cells that exist, 1 inside of the image. It is the factor of that tap's bias.
    """

    values: Float32
    mass: Float32

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Put pixels one after the other."""
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([part.mass for part in parts]))

    def __getitem__(self, index: Int64) -> Features:
        """Select pixels."""
        return Features(self.values[index], self.mass[index])


def gather(maps: Maps, axes: Axes, rows: Int64, columns: Int64) -> Features:
    """Return the features of pixels of the image: upsampled taps, read only where they are needed."""
    vertical, horizontal = (
        axis.readings(pixels - cut.read.start, cells)
        for axis, pixels, cut, cells in zip(axes, (rows, columns), maps.cuts, maps.cells, strict=True)
    )
    values, masses = [], []
    for tap, down, across in zip(maps.taps, vertical, horizontal, strict=True):
        height, width, channels = tap.shape
        result = np.zeros((len(rows), channels), np.float32)
        step = max(1, CHUNK // channels)
        for y in range(down.weights.shape[1]):
            r = np.clip(down.first + y, 0, height - 1)
            for x in range(across.weights.shape[1]):
                weight = down.weights[:, y] * across.weights[:, x]
                c = np.clip(across.first + x, 0, width - 1)
                used = np.flatnonzero(weight)
                for begin in range(0, len(used), step):
                    one = used[begin : begin + step]
                    result[one] += tap[r[one], c[one]] * weight[one, None]
        values.append(result)
        masses.append(down.weights.sum(1) * across.weights.sum(1))
    return Features(np.concatenate(values, 1), np.stack(masses, 1))


@dataclass(frozen=True, eq=False)
class Fused:
    """Scores at the prediction stride for some pixels: K x h x w; `start` is the first pixel's place when upsampled."""

    scores: Float32
    start: tuple[int, int]


def fuse(maps: Maps, axes: Axes, layers: Sequence[ScoreLayer], rows: range, columns: range) -> Fused:
    """Score the taps, upsample and add, for these pixels of the image and no others."""
    pixels = [
        range(part.start - cut.read.start, part.stop - cut.read.start)
        for part, cut in zip((rows, columns), maps.cuts, strict=True)
    ]
    ranges = [axis.ranges(part, cells) for axis, part, cells in zip(axes, pixels, maps.cells, strict=True)]
    fused: Float32 | None = None
    for tap, layer in enumerate(layers):
        window = [(axis.skipped(tap), cells[tap]) for axis, cells in zip(axes, ranges, strict=True)]
        (top, down), (left, across) = window
        part = maps.taps[tap][top + down.start : top + down.stop, left + across.start : left + across.stop]
        cells = np.ascontiguousarray(part).reshape(-1, part.shape[2])
        scored = (narrow_product(cells, layer.weight) + layer.bias[:, None]).reshape(-1, len(down), len(across))
        if fused is not None:
            for index, axis in enumerate(axes):
                up = axis.upsamplings[tap - 1]
                fused = _upsample(fused, index + 1, up, ranges[index][tap - 1], ranges[index][tap])
            scored += fused
        fused = scored
    assert fused is not None
    start = [
        axis.start + part.start - cells[-1].start * axis.upsamplings[-1].factor
        for axis, part, cells in zip(axes, pixels, ranges, strict=True)
    ]
    return Fused(fused, (start[0], start[1]))


def _upsample(scores: Float32, dimension: int, up: Upsampling, coarse: range, fine: range) -> Float32:
    """Upsample cells `coarse` of one dimension to the cells `fine` of the next sum."""
    kernel = np.zeros(2 * up.factor, np.float32)
    kernel[: up.kernel] = bilinear_kernel(up)
    shape = list(scores.shape)
    shape[dimension] = 1
    edge = np.zeros(shape, np.float32)
    padded = np.concatenate([edge, scores, edge], dimension)
    shape[dimension] = len(fine)
    result = np.empty(shape, np.float32)
    first = max(0, up.crop) + fine.start
    for phase in range(min(up.factor, len(fine))):
        cell, place = divmod(first + phase, up.factor)
        count = -(-(len(fine) - phase) // up.factor)
        begin = cell - coarse.start
        before, after = (_cells(padded, begin + side, count, dimension) for side in (0, 1))
        target = [slice(None)] * len(shape)
        target[dimension] = slice(phase, None, up.factor)
        if kernel[place] == 0 or kernel[place + up.factor] == 0:
            one, weight = (before, kernel[place + up.factor]) if kernel[place] == 0 else (after, kernel[place])
            np.multiply(one, weight, out=result[tuple(target)])
        else:
            np.add(before * kernel[place + up.factor], after * kernel[place], out=result[tuple(target)])
    return result


def _cells(padded: Float32, begin: int, count: int, dimension: int) -> Float32:
    """Return `count` cells of a dimension from `begin` on; beyond its ends, the first or last one."""
    last = padded.shape[dimension] - 1
    if begin >= 0 and begin + count - 1 <= last:
        window = [slice(None)] * padded.ndim
        window[dimension] = slice(begin, begin + count)
        return padded[tuple(window)]
    return np.take(padded, np.clip(np.arange(begin, begin + count), 0, last), dimension)


def label(fused: Fused, metadata: ModelMetadata, size: tuple[int, int]) -> UInt8:
    """Return the class ids of the pixels, H x W uint8."""
    labels: UInt8 = full_size_labels(fused.scores[None], metadata, size, fused.start)[0]
    return labels


def logits_on_grid(fused: Fused, metadata: ModelMetadata, size: tuple[int, int], step: int) -> Float32:
    """Return the logits of every `step`th row and column of the pixels, K x h x w float32."""
    scores = fused.scores
    for index, (up, start, length) in enumerate(zip(metadata.upsamplings, fused.start, size, strict=True)):
        kernel = np.zeros(2 * up.factor, np.float32)
        kernel[: up.kernel] = bilinear_kernel(up)
        cell, phase = np.divmod(start + np.arange(0, length, step), up.factor)
        shape = [1, 1, 1]
        shape[index + 1] = -1
        pads = [(0, 0)] * 3
        pads[index + 1] = (1, 1)
        padded = np.pad(scores, pads)
        last = scores.shape[index + 1] + 1
        before, after = (np.take(padded, np.clip(cell + side, 0, last), index + 1) for side in (0, 1))
        scores = before * kernel[phase + up.factor].reshape(shape) + after * kernel[phase].reshape(shape)
    return scores

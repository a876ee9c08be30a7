"""Upsampling of an exported network's scores to logits and labels at the size of the image."""

from __future__ import annotations

import numpy as np

from fullconv.arrays import Float32, UInt8
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.products import ONE_THREAD
from fullconv.runtime.runner import largest

__all__ = ["full_size_labels", "full_size_logits"]

BAND = 64
"""The number of rows that are upsampled at a time."""

CHUNK = ONE_THREAD // 4
"""The number of logits that are computed at a time where cells disagree; each is a product of four numbers."""


def full_size_labels(
    scores: Float32, metadata: ModelMetadata, size: tuple[int, int], start: tuple[int, int] | None = None
) -> UInt8:
    """Map N x K x h x w scores to class ids at `size`, N x H x W uint8; ties go to the first class.

    `start` is the row and column of the first pixel in the transposed convolution of these scores; None means that they
    are those of a whole image.

    The result equals the arg max of `full_size_logits`, but is faster to compute. The logits of a pixel are weighted
    averages of those of the four cells around it. Where all four cells have the same best class, the pixels between
    them have it too, and their logits are not computed.
    """
    if metadata.kernel is not None:
        return largest(full_size_logits(scores, metadata, size, start))
    return np.stack([_labels(one, metadata, size, start or metadata.start) for one in scores])


def _labels(scores: Float32, metadata: ModelMetadata, size: tuple[int, int], start: tuple[int, int]) -> UInt8:
    """Map K x h x w scores to H x W labels."""
    classes, height, width = scores.shape
    rows, columns = (up.factor for up in metadata.upsamplings)
    best = np.pad(largest(scores[None])[0], 1, mode="edge")
    corner = best[:-1, :-1]
    mixed = (corner != best[:-1, 1:]) | (corner != best[1:, :-1]) | (corner != best[1:, 1:])
    whole = corner.repeat(columns, 1).repeat(rows, 0)
    blocks = whole.reshape(height + 1, rows, width + 1, columns)
    wide = width + 2
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1))).reshape(classes, -1)
    down, across = np.nonzero(mixed)
    step = max(1, CHUNK // (classes * rows * columns))
    for first in range(0, len(down), step):
        y, x = down[first : first + step], across[first : first + step]
        quads = np.stack([padded.take(y * wide + x + offset, 1).ravel() for offset in (0, 1, wide, wide + 1)])
        logits = (metadata.blocks @ quads).reshape(rows * columns, classes, -1)
        labels = largest(logits.transpose(1, 0, 2)[None])[0].reshape(rows, columns, -1)
        blocks[y, :, x, :] = labels.transpose(2, 0, 1)
    top, left = start
    return np.ascontiguousarray(whole[top : top + size[0], left : left + size[1]])


def full_size_logits(
    scores: Float32, metadata: ModelMetadata, size: tuple[int, int], start: tuple[int, int] | None = None
) -> Float32:
    """Map N x K x h x w scores to N x K x H x W logits at `size`, as the network's last upsampling layer does.

    `start` is as in `full_size_labels`.
    """
    count, classes, height, width = scores.shape
    rows, columns = (up.factor for up in metadata.upsamplings)
    (top, left), deep = start or metadata.start, max(1, BAND // rows)
    result = np.empty((count, classes, *size), np.float32)
    padded = np.zeros((count, classes, height + 2 + deep, width + 2), np.float32)
    padded[:, :, 1 : height + 1, 1 : width + 1] = scores
    for first in range(top // rows, (top + size[0] - 1) // rows + 1, deep):
        strip = padded[:, :, first : min(first + deep, height + 1) + 1]
        band = _blocks(strip, metadata).reshape(count, classes, -1, (width + 1) * columns)
        begin = max(0, first * rows - top)
        skip = begin + top - first * rows
        end = min(size[0], begin + band.shape[2] - skip)
        result[:, :, begin:end] = band[:, :, skip : skip + end - begin, left : left + size[1]]
    return result


def _blocks(strip: Float32, metadata: ModelMetadata) -> Float32:
    """Map N x K x (b + 1) x (c + 1) scores to N x K x b x rows x c x columns logits."""
    count, classes, height, width = (n - edge for n, edge in zip(strip.shape, (0, 0, 1, 1), strict=True))
    rows, columns = (up.factor for up in metadata.upsamplings)
    quads = np.stack([strip[:, :, y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)])
    if metadata.kernel is None:
        parts = np.array_split(quads.reshape(4, -1), max(1, -(-quads[0].size * metadata.blocks.size // ONE_THREAD)), 1)
        logits = np.concatenate([metadata.blocks @ part for part in parts], 1)
        return logits.reshape(rows, columns, count, classes, height, width).transpose(2, 3, 4, 0, 5, 1)
    cells = quads.transpose(1, 3, 4, 0, 2).reshape(count, height, width, -1)
    logits = (cells @ metadata.blocks).reshape(count, height, width, rows, columns, classes)
    return logits.transpose(0, 5, 1, 3, 2, 4)

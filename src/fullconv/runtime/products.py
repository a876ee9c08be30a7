"""Matrix products in blocks that numpy's BLAS computes on one thread.

Products of tall and narrow matrices gain little from more threads, and cost much: OpenBLAS's threads wait for the next
product in a loop, some 30 ms long, and take the cores from ONNX Runtime's (docs/results.md). While other work keeps the
cores busy, they wait for each other in a loop, and a product takes ten times as long.
"""

from __future__ import annotations

import numpy as np

from fullconv.arrays import Float32

__all__ = ["ONE_THREAD", "narrow_product", "tall_product"]

ONE_THREAD = 2**18
"""OpenBLAS uses one thread for products of at most so many multiplications (65536 * GEMM_MULTITHREAD_THRESHOLD)."""


def narrow_product(inputs: Float32, layer: Float32) -> Float32:
    """Return the transpose of N x D times K x D transposed: K x N."""
    count, wide = inputs.shape
    rows = max(1, ONE_THREAD // max(1, layer.size))
    whole = count // rows * rows
    result = np.empty((len(layer), count), np.float32)
    if whole:
        blocks = np.matmul(layer, inputs[:whole].reshape(-1, rows, wide).transpose(0, 2, 1))
        result[:, :whole] = blocks.transpose(1, 0, 2).reshape(len(layer), whole)
    if whole < count:
        result[:, whole:] = layer @ inputs[whole:].T
    return result


def tall_product(shares: Float32, inputs: Float32) -> Float32:
    """Return K x N times N x D: K x D."""
    count, wide = inputs.shape
    classes = len(shares)
    rows = max(1, ONE_THREAD // max(1, classes * wide))
    whole = count // rows * rows
    result = np.zeros((classes, wide), np.float32)
    if whole:
        blocks = np.ascontiguousarray(shares[:, :whole].reshape(classes, -1, rows).transpose(1, 0, 2))
        result += np.matmul(blocks, inputs[:whole].reshape(-1, rows, wide)).sum(0)
    if whole < count:
        result += shares[:, whole:] @ inputs[whole:]
    return result

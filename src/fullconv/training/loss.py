"""Cross-entropy at full resolution without full-resolution logits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fullconv.labels import IGNORE_INDEX
from fullconv.net.fcn.network import FCN
from fullconv.net.fcn.upsample import Upsample

__all__ = ["BandLoss", "compute_banded_loss", "iterate_banded_logits", "sum_of_bands", "sum_weights"]

BAND_BYTES = 8 * 2**20
"""Maximum bytes of logits in a band. Memory use is a few times as much while the loss of a band is computed."""

BAND_BYTES_GPU = 256 * 2**20
"""The same on a GPU, which is slow with many small operations."""

BandLoss = Callable[[Tensor, range], Tensor]
"""The loss of a band as a scalar, from its logits (N x K x rows x W) and the range of its rows."""


def compute_banded_loss(
    net: FCN, score: Tensor, target: Tensor, weights: Tensor, normalized: bool = True, *, band_bytes: int | None = None
) -> Tensor:
    """Return the cross-entropy of `net.upsample(score, ...)`, weighted by class, as a float scalar.

    score: N x K x h x w float, from `net.score`; target: N x H x W uint8, 255 ignored; weights: K floats. The loss is
    the sum over the labelled pixels, divided by the sum of their weights if `normalized`; 0 if no pixel is labelled.
    A band of logits has at most `band_bytes` bytes, or four times as many with a learned kernel; None means
    `BAND_BYTES`, or `BAND_BYTES_GPU` on a GPU.

    Value and gradient equal those of cross-entropy on the full logits. The logits are computed and discarded band by
    band. The forward pass already adds the gradient of each band to the gradient of the small score map, so memory
    never contains N x K x H x W floats.
    """

    def of_band(logits: Tensor, rows: range) -> Tensor:
        labels = target[:, rows.start : rows.stop].long()
        return functional.cross_entropy(logits, labels, weights, ignore_index=IGNORE_INDEX, reduction="sum")

    total = sum_of_bands(net, score, (target.shape[-2], target.shape[-1]), of_band, band_bytes=band_bytes)
    return total / sum_weights(target, weights).clamp_min(1e-6) if normalized else total


def sum_weights(target: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the class weights over the labelled pixels of a uint8 target, as a float scalar."""
    counts = torch.bincount(target.flatten(), minlength=IGNORE_INDEX + 1)[: len(weights)]
    return (counts * weights).sum()


def sum_of_bands(
    net: FCN, score: Tensor, size: tuple[int, int], of_band: BandLoss, *, band_bytes: int | None = None
) -> Tensor:
    """Return the sum of `of_band` over all bands of `net.upsample(score, size)`, with its gradient, as a scalar.

    The forward pass computes the gradient with respect to `score` and to a learned kernel band by band, so a band's
    logits are discarded before the next band.
    """
    final = net.get_submodule(net.upscores[-1])
    learned = tuple(p for p in final.parameters() if p.requires_grad)

    def upsample(coarse: Tensor, rows: range) -> Tensor:
        return net.upsample(coarse, size, rows)

    bands = list(_split_rows(net, (len(score), score.shape[1], *size), band_bytes))
    total: Tensor = _BandedSum.apply(upsample, of_band, bands, score, *learned)
    return total


def iterate_banded_logits(
    net: FCN, score: Tensor, size: tuple[int, int], *, band_bytes: int | None = None
) -> Iterator[tuple[range, Tensor]]:
    """Yield ranges of rows and their logits, N x K x rows x W. Together they are `net.upsample(score, size)`."""
    for rows in _split_rows(net, (len(score), score.shape[1], *size), band_bytes):
        yield rows, net.upsample(score, size, rows)


def _split_rows(net: FCN, shape: tuple[int, ...], band_bytes: int | None) -> Iterator[range]:
    """Split the rows of N x K x H x W logits into bands of at most `band_bytes`, with at least one row each.

    A learned K x K kernel is applied once per band, to whole rows of cells. Its bands are therefore four times as
    large, and all except the first start at a row of cells.
    """
    count, classes, height, width = shape
    if band_bytes is None:
        band_bytes = BAND_BYTES_GPU if next(iter(net.buffers())).is_cuda else BAND_BYTES
    final = net.get_submodule(net.upscores[-1])
    most, step, first = band_bytes, 1, 0
    if isinstance(final, Upsample) and final.mode == "learned":
        most, step = 4 * band_bytes, final.axes[0].factor
        first = -final.axes[0].crop % step
    rows = max(1, most // (4 * count * classes * width) // step) * step
    yield from (range(*edges) for edges in pairwise([0, *range(first or rows, height, rows), height]))


class _BandedSum(torch.autograd.Function):
    """The sum of the losses of the bands. Forward computes the gradients; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        upsample: Callable[[Tensor, range], Tensor],
        of_band: BandLoss,
        bands: list[range],
        score: Tensor,
        *learned: nn.Parameter,
    ) -> Tensor:
        sources = [score.detach().requires_grad_(), *learned] if any(ctx.needs_input_grad) else []
        gradients = [torch.zeros_like(source) for source in sources]
        total = score.new_zeros(())
        for rows in bands:
            with torch.set_grad_enabled(bool(sources)):
                loss = of_band(upsample(sources[0] if sources else score, rows), rows)
            total += loss.detach()
            if sources:
                for gradient, share in zip(gradients, torch.autograd.grad(loss, sources), strict=True):
                    gradient += share
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:
        score, *learned = (seed * gradient for gradient in ctx.saved_tensors)
        return None, None, None, score, *learned

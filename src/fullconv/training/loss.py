"""Cross-entropy at full resolution that never holds the full-resolution logits."""

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

__all__ = ["banded_logits", "banded_loss"]

BAND_BYTES = 8 * 2**20
"""Most bytes of logits at a time; a few times as many are alive while their loss is computed."""


def banded_loss(net: FCN, score: Tensor, target: Tensor, weights: Tensor, normalized: bool = True) -> Tensor:
    """Cross-entropy of `net.upsample(score, ...)`, weighted by class: a float scalar.

    score: N x K x h x w float, of `net.scores`; target: N x H x W uint8, 255 ignored; weights: K floats. The loss is
    the sum over the labelled pixels, divided by the sum of their weights if `normalized`; 0 if none is labelled.

    The same value and gradient as the plain way, but rows of pixels are upsampled, compared and forgotten band by
    band: in forward already, each band leaves its share of the gradient on the small score map. So memory never
    holds N x K x H x W floats.
    """
    size = (target.shape[-2], target.shape[-1])
    final = net.get_submodule(net.upscores[-1])
    learned = tuple(p for p in final.parameters() if p.requires_grad)

    def upsample(coarse: Tensor, rows: range) -> Tensor:
        return net.upsample(coarse, size, rows)

    bands = list(_bands(net, (len(score), score.shape[1], *size)))
    total: Tensor = _BandedLoss.apply(upsample, bands, score, target, weights, *learned)
    if not normalized:
        return total
    counts = torch.bincount(target.flatten(), minlength=IGNORE_INDEX + 1)[: len(weights)]
    return total / (counts * weights).sum().clamp_min(1e-6)


def banded_logits(net: FCN, score: Tensor, size: tuple[int, int]) -> Iterator[tuple[range, Tensor]]:
    """Rows of pixels, and their logits, N x K x rows x W: together `net.upsample(score, size)`."""
    for rows in _bands(net, (len(score), score.shape[1], *size)):
        yield rows, net.upsample(score, size, rows)


def _bands(net: FCN, shape: tuple[int, ...]) -> Iterator[range]:
    """The rows of N x K x H x W logits in bands of at most `BAND_BYTES`, at least one row each.

    A learned kernel of K x K is gone through for each band, in whole rows of cells: so its bands are fewer, four times
    as large, and all but the first begin with a row of cells.
    """
    count, classes, height, width = shape
    final = net.get_submodule(net.upscores[-1])
    most, step, first = BAND_BYTES, 1, 0
    if isinstance(final, Upsample) and final.mode == "learned":
        most, step = 4 * BAND_BYTES, final.axes[0].factor
        first = -final.axes[0].crop % step
    rows = max(1, most // (4 * count * classes * width) // step) * step
    yield from (range(*edges) for edges in pairwise([0, *range(first or rows, height, rows), height]))


class _BandedLoss(torch.autograd.Function):
    """Sum of the weighted cross-entropies; forward computes the gradients, backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        upsample: Callable[[Tensor, range], Tensor],
        bands: list[range],
        score: Tensor,
        target: Tensor,
        weights: Tensor,
        *learned: nn.Parameter,
    ) -> Tensor:
        sources = [score.detach().requires_grad_(), *learned] if any(ctx.needs_input_grad) else []
        gradients = [torch.zeros_like(source) for source in sources]
        total = score.new_zeros(())
        for rows in bands:
            with torch.set_grad_enabled(bool(sources)):
                logits = upsample(sources[0] if sources else score, rows)
                wanted = target[:, rows.start : rows.stop].long()
                loss = functional.cross_entropy(logits, wanted, weights, ignore_index=IGNORE_INDEX, reduction="sum")
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
        return None, None, score, None, None, *learned

"""Terms of a loss that depend on all pixels at once: Dice, Lovász, and the choice of hard pixels.

Each is computed in two passes over the bands of the logits. The first pass, without gradients, gathers a few numbers.
From them follow the value of the term and its slope. The second pass adds, band by band, a function with that slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fullconv.labels import IGNORE_INDEX
from fullconv.net.fcn.network import FCN
from fullconv.training.loss import BandLoss, iterate_banded_logits

__all__ = ["MOST_PIXELS", "MOST_VALUES", "Term", "keep_hard", "make_dice_term", "make_lovasz_term"]

MOST_PIXELS = 2**16
"""The largest number of pixels in a sample for the Lovász loss, which sorts them once for each class."""

MOST_VALUES = 2**22
"""The largest number of logits in such a sample: 16 MiB."""


@dataclass(frozen=True)
class Term:
    """A term of the loss: its value and gradient are those of `constant` plus the sum of `of_band` over all bands."""

    of_band: BandLoss
    constant: Tensor


def keep_hard(
    net: FCN, score: Tensor, target: Tensor, threshold: float, share: float, *, band_bytes: int | None = None
) -> Tensor:
    """Return the target, N x H x W uint8, with easy pixels ignored (online hard example mining).

    A pixel is easy if the probability of its class is at least `threshold`. At least `share` of the labelled pixels are
    kept: those with the lowest probabilities, and those with a probability equal to the highest of them. Needs one
    float for each pixel, and no gradient.
    """
    size, labelled = (target.shape[-2], target.shape[-1]), target != IGNORE_INDEX
    parts = []
    with torch.no_grad():
        for rows, logits in iterate_banded_logits(net, score, size, band_bytes=band_bytes):
            labels = target[:, rows.start : rows.stop].long().clamp_max(logits.shape[1] - 1)
            parts.append(logits.log_softmax(1).gather(1, labels[:, None])[:, 0].exp())
        probability = torch.cat(parts, 1)
        hard = labelled & (probability < threshold)
        least = int(-(-share * int(labelled.count_nonzero()) // 1))
        if int(hard.count_nonzero()) < least:
            bound = probability[labelled].kthvalue(least).values
            hard = labelled & (probability <= bound)
    return target.masked_fill(~hard, IGNORE_INDEX)


def make_dice_term(net: FCN, score: Tensor, target: Tensor, *, band_bytes: int | None = None) -> Term:
    """Return 1 - the mean Dice coefficient of the classes in `target`, from 0 to 1, over all pixels of the batch.

    The coefficient of a class is 2 sum(p t) / (sum(p) + sum(t)), with the softmax p and the target t of each labelled
    pixel. Exact: value and gradient are those on the full logits.
    """
    size = (target.shape[-2], target.shape[-1])
    sums = score.new_zeros(2, score.shape[1])
    with torch.no_grad():
        for rows, logits in iterate_banded_logits(net, score, size, band_bytes=band_bytes):
            sums += _overlaps(logits, target[:, rows.start : rows.stop])
    counts = torch.bincount(target.flatten(), minlength=IGNORE_INDEX + 1)[: score.shape[1]]
    with torch.enable_grad():
        sums.requires_grad_()
        value = _dice_loss(sums[0], sums[1], counts)
        (slope,) = torch.autograd.grad(value, sums)
    sums = sums.detach()

    def of_band(logits: Tensor, rows: range) -> Tensor:
        return (slope * _overlaps(logits, target[:, rows.start : rows.stop])).sum()

    return Term(of_band, value.detach() - (slope * sums).sum())


def make_lovasz_term(
    net: FCN, score: Tensor, target: Tensor, *, band_bytes: int | None = None, most_pixels: int = MOST_PIXELS
) -> Term:
    """Return the Lovász-softmax loss of the classes in `target`, from 0 to 1 (Berman et al., CVPR 2018, algorithm 1).

    It is computed on a random sample of at most `most_pixels` labelled pixels of the batch and `MOST_VALUES` logits,
    because it sorts the pixels. Where no more pixels are labelled, value and gradient are those on the full logits. The
    sample comes from torch's default generator, which a training seeds at each step.
    """
    size = (target.shape[-2], target.shape[-1])
    pixels = _Pixels(target, min(most_pixels, max(1, MOST_VALUES // score.shape[1])))
    with torch.no_grad():
        bands = iterate_banded_logits(net, score, size, band_bytes=band_bytes)
        values = torch.cat([pixels.of(logits, rows) for rows, logits in bands])
    with torch.enable_grad():
        values.requires_grad_()
        value = _lovasz_loss(values.softmax(1), pixels.labels)
        (slope,) = torch.autograd.grad(value, values)
    values = values.detach()

    def of_band(logits: Tensor, rows: range) -> Tensor:
        return (pixels.of(logits, rows) * slope[pixels.span(rows)]).sum()

    return Term(of_band, value.detach() - (slope * values).sum())


class _Pixels:
    """A random sample of labelled pixels, in the order of their rows."""

    def __init__(self, target: Tensor, most: int) -> None:
        image, row, column = (target != IGNORE_INDEX).nonzero(as_tuple=True)
        if len(row) > most:
            chosen = torch.randperm(len(row), device=row.device)[:most]
            image, row, column = image[chosen], row[chosen], column[chosen]
        order = row.argsort(stable=True)
        self.image, self.row, self.column = image[order], row[order], column[order]
        self.labels = target[self.image, self.row, self.column].long()

    def span(self, rows: range) -> slice:
        """Return the pixels in a range of rows."""
        edges = torch.tensor([rows.start, rows.stop], device=self.row.device)
        first, last = torch.searchsorted(self.row.contiguous(), edges).tolist()
        return slice(first, last)

    def of(self, logits: Tensor, rows: range) -> Tensor:
        """Return the logits of the pixels in a band: pixels x K."""
        part = self.span(rows)
        return logits[self.image[part], :, self.row[part] - rows.start, self.column[part]]


def _overlaps(logits: Tensor, labels: Tensor) -> Tensor:
    """Return sum(p t) and sum(p) of each class over the labelled pixels of a band: 2 x K."""
    probability = logits.softmax(1) * (labels != IGNORE_INDEX)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    true = probability * (labels[:, None] == classes)
    return torch.stack([true.sum((0, 2, 3)), probability.sum((0, 2, 3))])


def _dice_loss(true: Tensor, predicted: Tensor, counts: Tensor) -> Tensor:
    """Return 1 - the mean Dice coefficient of the classes with `counts`; 0 if there are none."""
    coefficient = 2 * true / (predicted + counts).clamp_min(1e-6)
    present = counts > 0
    return ((1 - coefficient) * present).sum() / present.count_nonzero().clamp_min(1)


def _lovasz_loss(probability: Tensor, labels: Tensor) -> Tensor:
    """Return the Lovász extension of 1 - Jaccard, the mean over the classes in `labels`; probability: pixels x K."""
    classes = torch.arange(probability.shape[1], device=labels.device)
    true = (labels[:, None] == classes).to(probability.dtype)
    errors, order = (true - probability).abs().sort(dim=0, descending=True, stable=True)
    true = true.gather(0, order)
    count = true.sum(0)
    union = count + (1 - true).cumsum(0)
    jaccard = 1 - (count - true.cumsum(0)) / union.clamp_min(1)
    gain = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    present = count > 0
    return ((errors * gain).sum(0) * present).sum() / present.count_nonzero().clamp_min(1)

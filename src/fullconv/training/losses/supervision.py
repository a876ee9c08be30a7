"""Deep supervision: the cross-entropy of scores on the coarser sums of a refined decoder, while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.geometry import Field
from fullconv.labels import IGNORE_INDEX
from fullconv.net.fcn.network import FCN

__all__ = ["compute_supervision"]


def compute_supervision(net: FCN, coarse: Sequence[Tensor], target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the maps of their cross-entropies, weighted by class, as a float scalar.

    coarse: N x K x h x w float each, the first results of `FCN.score_all`, coarse to fine; target: N x H x W uint8, 255
    ignored; weights: K floats. The label of a cell is that of the pixel at its centre; cells whose centre lies outside
    of the image are ignored. The loss is 0 if no cell is labelled.
    """
    losses = []
    for index, score in enumerate(coarse):
        labels = target
        for axis, geometry in enumerate(net.geometry):
            field = geometry.taps[0].field if index == 0 else geometry.fused[index - 1]
            labels = _read_centres(labels, axis + 1, field, geometry.lead, score.shape[axis + 2])
        total = functional.cross_entropy(
            score.float(), labels.long(), weights, ignore_index=IGNORE_INDEX, reduction="sum"
        )
        losses.append(total / weights[labels[labels != IGNORE_INDEX].long()].sum().clamp_min(1e-6))
    return torch.stack(losses).mean()


def _read_centres(labels: Tensor, axis: int, field: Field, lead: int, cells: int) -> Tensor:
    """Return the labels at the pixels nearest to the centres of `cells` cells along an axis; 255 outside."""
    centres = [round(field.offset + cell * field.stride) - lead for cell in range(cells)]
    inside = torch.tensor([0 <= centre < labels.shape[axis] for centre in centres], device=labels.device)
    index = torch.tensor(centres, device=labels.device).clamp(0, labels.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = cells
    return labels.index_select(axis, index).masked_fill(~inside.view(shape), IGNORE_INDEX)

"""The loss of a training step, as its recipe says."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fullconv.labels import IGNORE_INDEX
from fullconv.net.fcn.network import FCN
from fullconv.training.loss import compute_banded_loss, sum_of_bands, sum_weights
from fullconv.training.losses.terms import keep_hard, make_dice_term, make_lovasz_term
from fullconv.training.recipe import Recipe

__all__ = ["compute_loss"]


def compute_loss(
    net: FCN, score: Tensor, target: Tensor, weights: Tensor, recipe: Recipe, *, band_bytes: int | None = None
) -> Tensor:
    """Return the loss that `recipe.loss` names, as a float scalar; the arguments are those of `compute_banded_loss`.

    - cross-entropy: `compute_banded_loss`.
    - ohem: the same on the hard pixels only (`keep_hard`).
    - dice, lovasz: cross-entropy plus `make_dice_term` or `make_lovasz_term`. If the recipe is not `normalized`, the
      term is multiplied by the sum of the pixels' weights, as cross-entropy is.
    """
    if recipe.loss == "ohem":
        target = keep_hard(net, score, target, recipe.ohem_threshold, recipe.ohem_share, band_bytes=band_bytes)
    if recipe.loss in ("cross-entropy", "ohem"):
        return compute_banded_loss(net, score, target, weights, recipe.normalized, band_bytes=band_bytes)
    make_term = make_dice_term if recipe.loss == "dice" else make_lovasz_term
    term = make_term(net, score, target, band_bytes=band_bytes)
    scale = sum_weights(target, weights).clamp_min(1e-6)

    def of_band(logits: Tensor, rows: range) -> Tensor:
        labels = target[:, rows.start : rows.stop].long()
        entropy = functional.cross_entropy(logits, labels, weights, ignore_index=IGNORE_INDEX, reduction="sum")
        return entropy / scale + term.of_band(logits, rows)

    size = (target.shape[-2], target.shape[-1])
    total = sum_of_bands(net, score, size, of_band, band_bytes=band_bytes) + term.constant
    return total if recipe.normalized else total * scale

"""What Lightning trains: loss, learning rates, the average of the weights, and validation."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import MulticlassConfusionMatrix

from fullconv.errors import DataError, FullconvError
from fullconv.labels import IGNORE_INDEX, LabelSet
from fullconv.metrics import Scores
from fullconv.net.fcn.network import FCN
from fullconv.net.torch_runner import largest
from fullconv.training.loss import banded_logits, banded_loss
from fullconv.training.recipe import Recipe
from fullconv.training.samples import seed_of

__all__ = ["Batch", "SegmentationTask", "class_weights", "freeze_below", "scores_of"]

Batch = tuple[Tensor | list[Tensor], Tensor, list[str]]
"""Images (or the maps of `FCN.encode`), uint8 label maps, names."""


PUBLISHED_RATES = {32: 1e-10, 16: 1e-12, 8: 1e-14, 4: 1e-14}
"""Learning rates of the published solvers, by prediction stride, where each network continues from the coarser one."""

_Tensors = tuple[Tensor, ...] | list[Tensor]


class SegmentationTask(LightningModule):
    """One network in training. `step` counts optimizer steps since the very first sitting."""

    weights: Tensor

    def __init__(self, net: FCN, recipe: Recipe, labels: LabelSet, weights: Tensor, total_steps: int) -> None:
        super().__init__()
        self.net, self.recipe, self.labels, self.total_steps = net, recipe, labels, total_steps
        self.average = _averaged(net, recipe.ema) if recipe.ema else None
        self.register_buffer("weights", weights, persistent=False)
        self.confusion = MulticlassConfusionMatrix(labels.num_classes, ignore_index=IGNORE_INDEX)
        self.step = 0
        self.losses: list[float] = []
        self.scores: Scores | None = None

    @property
    def best(self) -> FCN:
        """The network that is validated and kept: the average, if there is one."""
        return self.net if self.average is None else cast(FCN, self.average.module)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """All chance of a step comes from its number, so that a resumed run repeats it."""
        torch.manual_seed(seed_of(self.recipe.seed, self.step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; a loss that is not finite stops the run and names the batch."""
        inputs, target, names = batch
        score = scores_of(self.net, inputs, target)
        loss = banded_loss(self.net, score, target, self.weights, self.recipe.normalized)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FullconvError(
                f"the loss became {value} at step {self.step}, on the batch {', '.join(names)}: look at these images "
                f"and masks, or lower the learning rate (--lr, now {self.learning_rate():.2g})"
            )
        self.losses.append(value)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Cut the gradients here: Lightning's own clipping refuses fused optimizers."""
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step; counted, and averaged, before any callback can save."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        """Begin an empty confusion matrix."""
        self.confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one image at its own resolution, in float32: the best is to be that of what is delivered."""
        inputs, target, _ = batch
        with torch.autocast(self.device.type, enabled=False):
            score = scores_of(self.best, inputs, target)
            for rows, logits in banded_logits(self.best, score, (target.shape[-2], target.shape[-1])):
                self.confusion.update(largest(logits), target[:, rows.start : rows.stop].long())

    def on_validation_epoch_end(self) -> None:
        """The scores of all processes' images together."""
        confusion = self.confusion.compute().cpu().numpy().astype(np.int64)
        self.scores = Scores.from_confusion(confusion, self.labels.class_names)

    def base_rate(self) -> float:
        """The recipe's learning rate of pretrained layers, or the default for this network."""
        if self.recipe.lr is not None:
            return self.recipe.lr
        if self.recipe.optimizer == "sgd":
            return 1e-10 if self.net.spec.at_once else PUBLISHED_RATES[self.net.spec.stride]
        normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.net.backbone.modules())
        return 5e-4 if normed else 1e-4

    def learning_rate(self) -> float:
        """The rate of pretrained layers at the current step: linear warm-up, then polynomial decay."""
        return self.base_rate() * _schedule(self.step, self.total_steps, self.recipe)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW or SGD in groups: pretrained or new layers, kernels or biases and norms."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.net.named_parameters():
            if parameter.requires_grad:
                rate = self.base_rate() * (1 if self.net.is_pretrained(name) else self.recipe.head_lr_scale)
                rate *= self.recipe.bias_lr_scale if name.endswith(".bias") else 1
                decay = self.recipe.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        settings = [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(settings, fused=True)
            if self.recipe.optimizer == "adamw"
            else torch.optim.SGD(settings, lr=self.base_rate(), momentum=self.recipe.momentum)
        )
        start = self.step
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _schedule(start + step, self.total_steps, self.recipe)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}


def scores_of(net: FCN, inputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
    """`FCN.scores` of images, or of the maps that `FCN.encode` gave, for targets N x H x W."""
    return net.score(inputs if isinstance(inputs, list) else net.encode(inputs), (target.shape[-2], target.shape[-1]))


def class_weights(counts: npt.NDArray[np.int64], power: float) -> Tensor:
    """(median frequency / frequency) ** power for each class, 1 for classes that never occur; K floats.

    Power 1 is the balancing of Eigen and Fergus (ICCV 2015). Raises DataError where no pixel has a label.
    """
    if not counts.any():
        message = "no pixel of the training masks has a label: all are ignored, so there is nothing to learn"
        raise DataError(message, code="unlabelled-split")
    frequency = counts / counts.sum()
    present = frequency > 0
    weights = np.ones(len(counts))
    weights[present] = (np.median(frequency[present]) / frequency[present]) ** power
    return torch.tensor(weights, dtype=torch.float32)


def freeze_below(net: FCN, stride: int) -> None:
    """Stop the backbone's layers that make maps finer than `stride` from learning; batch norms keep averaging."""
    for name in net.fine_modules(stride):
        net.backbone.get_submodule(name).requires_grad_(False)


def _schedule(step: int, total: int, recipe: Recipe) -> float:
    warm = max(1, round(total * recipe.warmup))
    if step < warm:
        return (step + 1) / warm
    return float(max(0.0, 1 - (step - warm) / max(1, total - warm)) ** recipe.power)


def _averaged(net: FCN, decay: float) -> AveragedModel:
    """A running average of weights and buffers, whose memory grows with the steps so that the start is forgotten."""

    @torch.no_grad()
    def update(average: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        keep = min(decay, (1 + float(count)) / (10 + float(count)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(list(average), list(current), 1 - keep)
        else:
            for averaged, value in zip(average, current, strict=True):
                averaged.copy_(value)

    average = AveragedModel(net, multi_avg_fn=update, use_buffers=True)
    average.requires_grad_(False)
    return average

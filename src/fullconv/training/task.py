"""The Lightning module: loss, learning rates, the average of the weights, and validation."""

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
from fullconv.training.loss import compute_banded_loss, iterate_banded_logits
from fullconv.training.one_value import explain_one_value
from fullconv.training.recipe import Recipe
from fullconv.training.samples import make_seed

__all__ = ["Batch", "SegmentationTask", "compute_class_weights", "compute_scores", "freeze_below"]

Batch = tuple[Tensor | list[Tensor], Tensor, list[str]]
"""Images (or the maps of `FCN.encode`), uint8 label maps, and names."""

PUBLISHED_RATES = {32: 1e-10, 16: 1e-12, 8: 1e-14, 4: 1e-14, 2: 1e-14}
"""Learning rates of the published solvers by prediction stride; each network starts from the coarser one."""

_Tensors = tuple[Tensor, ...] | list[Tensor]


class SegmentationTask(LightningModule):
    """The training of one network. `step` counts the optimizer steps since the start of the run."""

    weights: Tensor

    def __init__(self, net: FCN, recipe: Recipe, labels: LabelSet, weights: Tensor, total_steps: int) -> None:
        super().__init__()
        self.net, self.recipe, self.labels, self.total_steps = net, recipe, labels, total_steps
        self.average = _make_average(net, recipe.ema) if recipe.ema else None
        self.register_buffer("weights", weights, persistent=False)
        self.confusion = MulticlassConfusionMatrix(labels.num_classes, ignore_index=IGNORE_INDEX)
        self.step = 0
        self.losses: list[float] = []
        self.scores: Scores | None = None

    @property
    def best(self) -> FCN:
        """Return the network that is validated and saved: the average, if there is one."""
        return self.net if self.average is None else cast(FCN, self.average.module)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed all random numbers of a step by its number, so a resumed run repeats them."""
        torch.manual_seed(make_seed(self.recipe.seed, self.step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch. Raises FullconvError that names the batch if the loss is not finite."""
        inputs, target, names = batch
        score = compute_scores(self.net, inputs, target)
        loss = compute_banded_loss(self.net, score, target, self.weights, self.recipe.normalized)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FullconvError(
                f"the loss became {value} at step {self.step}, on the batch {', '.join(names)}; check these images "
                f"and masks, or lower the learning rate (--lr, now {self.learning_rate():.2g})",
                code="loss-not-finite",
            )
        self.losses.append(value)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients here, because Lightning's clipping does not support fused optimizers."""
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Run one step, count it, and update the average before any callback can save."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        """Reset the confusion matrix."""
        self.confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the labels of one image at full resolution, in float32, as prediction does."""
        inputs, target, _ = batch
        with torch.autocast(self.device.type, enabled=False):
            score = compute_scores(self.best, inputs, target)
            for rows, logits in iterate_banded_logits(self.best, score, (target.shape[-2], target.shape[-1])):
                self.confusion.update(largest(logits), target[:, rows.start : rows.stop].long())

    def on_validation_epoch_end(self) -> None:
        """Compute the scores of the images of all processes."""
        confusion = self.confusion.compute().cpu().numpy().astype(np.int64)
        self.scores = Scores.from_confusion(confusion, self.labels.class_names)

    def base_rate(self) -> float:
        """Return the learning rate of pretrained layers: the value of the recipe, or the default for this network."""
        if self.recipe.lr is not None:
            return self.recipe.lr
        if self.recipe.optimizer == "sgd":
            return 1e-10 if self.net.spec.at_once else PUBLISHED_RATES[self.net.spec.stride]
        normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.net.backbone.modules())
        return 5e-4 if normed else 1e-4

    def learning_rate(self) -> float:
        """Return the rate of pretrained layers at the current step: linear warm-up, then polynomial decay."""
        return self.base_rate() * _schedule(self.step, self.total_steps, self.recipe)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make AdamW or SGD with parameter groups: pretrained or new layers, kernels or biases and norms."""
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


def compute_scores(net: FCN, inputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
    """Return `FCN.score` of images, or of maps of `FCN.encode`, for targets N x H x W.

    Raises UsageError where a normalization layer cannot normalize one value per channel.
    """
    with explain_one_value(tuple(target.shape)):
        maps = inputs if isinstance(inputs, list) else net.encode(inputs)
        return net.score(maps, (target.shape[-2], target.shape[-1]))


def compute_class_weights(counts: npt.NDArray[np.int64], power: float) -> Tensor:
    """Return (median frequency / frequency) ** power for each class, 1 for classes that do not occur; K floats.

    Power 1 is the balancing of Eigen and Fergus (ICCV 2015, section 4.3). Raises DataError if no pixel has a label.
    """
    if not counts.any():
        message = "all pixels of the training masks are ignored, so there is nothing to learn; label some of the images"
        raise DataError(message, code="unlabelled-split")
    frequency = counts / counts.sum()
    present = frequency > 0
    weights = np.ones(len(counts))
    weights[present] = (np.median(frequency[present]) / frequency[present]) ** power
    return torch.tensor(weights, dtype=torch.float32)


def freeze_below(net: FCN, stride: int) -> None:
    """Freeze the backbone layers whose maps are finer than `stride`. Their batch norms still update their averages."""
    for name in net.fine_modules(stride):
        net.backbone.get_submodule(name).requires_grad_(False)


def _schedule(step: int, total: int, recipe: Recipe) -> float:
    warm = max(1, round(total * recipe.warmup))
    if step < warm:
        return (step + 1) / warm
    return float(max(0.0, 1 - (step - warm) / max(1, total - warm)) ** recipe.power)


def _make_average(net: FCN, decay: float) -> AveragedModel:
    """Return a running average of weights and buffers, with a smaller decay in the first steps than `decay`."""

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

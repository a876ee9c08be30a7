"""One step of a training: loss, learning rates, the average of the weights, and validation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fullconv.errors import DataError, FullconvError, is_out_of_memory
from fullconv.geometry.tiles import Cut, Window, choose_tile
from fullconv.labels import IGNORE_INDEX, LabelSet
from fullconv.metrics import Scores
from fullconv.net.fcn.network import FCN
from fullconv.net.fcn.stages import count_stages_above
from fullconv.net.torch_runner import largest
from fullconv.runtime.tiles import MAX_UNTILED_PIXELS
from fullconv.training.distill.teacher import Teacher, compute_imitation
from fullconv.training.loss import iterate_banded_logits, sum_weights
from fullconv.training.losses.objective import compute_loss
from fullconv.training.losses.supervision import compute_supervision
from fullconv.training.one_value import explain_one_value
from fullconv.training.recipe import Recipe

__all__ = [
    "Batch",
    "SegmentationTask",
    "compute_class_weights",
    "compute_scores",
    "explain_image_memory",
    "freeze_below",
    "iterate_labels",
    "sum_over_processes",
]

Batch = tuple[Tensor | list[Tensor], Tensor, list[str]]
"""Images (or the maps of `FCN.encode`), uint8 label maps, and names."""

PUBLISHED_RATES = {32: 1e-10, 16: 1e-12, 8: 1e-14, 4: 1e-14, 2: 1e-14}
"""Learning rates of the published solvers by prediction stride; each network starts from the coarser one."""

_Tensors = tuple[Tensor, ...] | list[Tensor]


class SegmentationTask(nn.Module):
    """The training of one network, without its loop. A call is `training_step`.

    `step` counts the optimizer steps since the start of the run, `losses` are those since the last validation, and
    `confusion` is the K x K int64 matrix of the current validation: rows are true classes, columns predicted ones.
    With several processes, `fabric` sums over them, and each call gets the process's share of a batch.
    """

    weights: Tensor
    confusion: Tensor

    def __init__(
        self,
        net: FCN,
        recipe: Recipe,
        labels: LabelSet,
        weights: Tensor,
        total_steps: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.net, self.recipe, self.labels, self.total_steps = net, recipe, labels, total_steps
        self.average = _make_average(net, recipe.ema) if recipe.ema else None
        self.register_buffer("weights", weights, persistent=False)
        counts = torch.zeros(labels.num_classes, labels.num_classes, dtype=torch.int64)
        self.register_buffer("confusion", counts, persistent=False)
        self.teacher = teacher
        self.step = 0
        self.losses: list[float] = []
        self.fabric: Fabric | None = None

    @property
    def processes(self) -> int:
        """Return the number of processes that train together."""
        return 1 if self.fabric is None else int(self.fabric.world_size)

    @property
    def best(self) -> FCN:
        """Return the network that is validated and saved: the average, if there is one."""
        return self.net if self.average is None else cast(FCN, self.average.module)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of `training_step`."""
        return self.training_step(batch)

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, and note it. Raises FullconvError that names the batch if it is not finite."""
        inputs, target, names = batch
        share = self._share(target) if self.processes > 1 else None
        loss = self.compute_loss(self.net, inputs, target, share)
        value = float(loss.detach())
        if self.processes > 1:
            value = float(sum_over_processes(self.fabric, loss)) / self.processes
        if not np.isfinite(value):
            raise FullconvError(
                f"the loss became {value} at step {self.step}, on the batch {', '.join(self._gather(names))}; check "
                f"these images and masks, or lower the learning rate (--lr, now {self.learning_rate():.2g})",
                code="loss-not-finite",
            )
        self.losses.append(value)
        return loss

    def compute_loss(
        self, net: FCN, inputs: Tensor | list[Tensor], target: Tensor, share: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of `net` on a batch, as the recipe says.

        With several processes, `share` is the factor of the loss of the masks, and that of the teacher has the share of
        this process's crops.
        """
        *coarse, score = compute_scores(net, inputs, target)
        weights = self.weights.to(score.device)
        loss = compute_loss(net, score, target, weights, self.recipe)
        if coarse:
            scale = 1 if self.recipe.normalized else sum_weights(target, weights)
            loss = loss + self.recipe.deep_supervision * scale * compute_supervision(net, coarse, target, weights)
        loss = loss if share is None else loss * share
        if self.teacher is None:
            return loss
        assert isinstance(inputs, Tensor)  # FCN-32s-fixed, whose inputs are maps, takes no teacher
        recipe = self.recipe
        other = compute_imitation(net, score, inputs, self.teacher, recipe.temperature, recipe.normalized)
        if share is not None:
            other = other * self.processes * (len(target) / recipe.batch_size if recipe.normalized else 1)
        return (1 - recipe.distill) * loss + recipe.distill * other

    def _share(self, target: Tensor) -> Tensor | int:
        """Return the factor of this process's loss, with which the mean over the processes is the loss of one process.

        Processes have different numbers of labelled pixels, and DDP takes the mean of their gradients. It is exact for
        the cross-entropy of all pixels. OHEM, Dice, Lovász and deep supervision are those of each process's crops.
        """
        if not self.recipe.normalized:
            return self.processes
        weight = sum_weights(target, self.weights)
        return weight * self.processes / sum_over_processes(self.fabric, weight).clamp_min(1e-6)

    def _gather(self, names: list[str]) -> list[str]:
        """Return the names of the samples of all processes."""
        shares = [names] * self.processes
        if self.processes > 1:
            torch.distributed.all_gather_object(shares, names)
        return [name for share in shares for name in share]

    def finish_step(self) -> None:
        """Count a step of the optimizer, and update the average."""
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.net)

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> None:
        """Add one image to the confusion matrix: labels at full resolution, in float32, as prediction computes them.

        Only the stored maps of FCN-32s-fixed are bfloat16.
        """
        classes = len(self.confusion)
        with torch.autocast(self.confusion.device.type, enabled=False):
            for true, predicted in iterate_labels(self.best, batch):
                counted = true != IGNORE_INDEX
                cells = true[counted] * classes + predicted[counted]
                self.confusion += torch.bincount(cells, minlength=classes**2).view(classes, classes)

    def scores(self) -> Scores:
        """Return the scores of the confusion matrix."""
        return Scores.from_confusion(self.confusion.cpu().numpy(), self.labels.class_names)

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

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW or SGD with parameter groups: pretrained or new layers, kernels or biases and norms."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        above = count_stages_above(self.net)
        for name, parameter in self.net.named_parameters():
            if parameter.requires_grad:
                rate = self.base_rate() * (1 if self.net.is_pretrained(name) else self.recipe.head_lr_scale)
                module = name.removeprefix("backbone.").rpartition(".")[0] if name.startswith("backbone.") else ""
                rate *= self.recipe.layer_decay ** above.get(module, 0)
                rate *= self.recipe.bias_lr_scale if name.endswith(".bias") else 1
                decay = self.recipe.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        settings = [
            {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(settings, fused=not self.recipe.fp16)  # the fused one cannot be clipped in fp16
        return torch.optim.SGD(settings, lr=self.base_rate(), momentum=self.recipe.momentum)

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rates of the current step."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _schedule(self.step, self.total_steps, self.recipe)


def iterate_labels(net: FCN, batch: Batch, max_pixels: int = MAX_UNTILED_PIXELS) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield true (int64) and predicted classes of parts of one image, which together are the whole image.

    An image of more than `max_pixels` is computed in tiles if these are exact, as in prediction. Raises FullconvError
    that names the image if the device has too little memory.
    """
    inputs, target, (name,) = batch
    size = height, width = target.shape[-2], target.shape[-1]
    tiled = isinstance(inputs, Tensor) and net.exact and height * width > max_pixels
    sides = choose_tile(net.windows, size, max_pixels) if tiled else size
    with explain_image_memory(name, target):
        for rows, columns in product(*map(_cut, net.windows, size, sides)):
            read = (..., slice(rows.read.start, rows.read.stop), slice(columns.read.start, columns.read.stop))
            part = target[read]
            score = compute_scores(net, inputs if isinstance(inputs, list) else inputs[read], part)[-1]
            for band, logits in iterate_banded_logits(net, score, (part.shape[-2], part.shape[-1])):
                kept = range(max(band.start, rows.inner.start), min(band.stop, rows.inner.stop))
                if kept:
                    predicted = largest(logits)[:, kept.start - band.start : kept.stop - band.start, columns.inner]
                    yield part[:, kept.start : kept.stop, columns.inner].long(), predicted


@contextmanager
def explain_image_memory(name: str, target: Tensor) -> Iterator[None]:
    """Raise FullconvError that names a validation image, with its size, for a device without enough memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = target.shape[-2], target.shape[-1]
        problem = f"has too little memory for the validation image {name} ({width} x {height} pixels)"
        if isinstance(error, torch.OutOfMemoryError) or target.device.type != "cpu":
            message = f"the GPU {problem}; cut it into smaller images, or train on the CPU (--accelerator cpu)"
            raise FullconvError(message, code="gpu-memory") from error
        message = f"this computer {problem}; cut it into smaller images"
        raise FullconvError(message, code="too-little-memory") from error


def _cut(window: Window, length: int, side: int) -> list[Cut]:
    """Return the tiles of an axis; an axis that fits into one tile may be shorter than the halo."""
    return window.cuts(length, side) if side < length else [Cut(range(length), range(length))]


def sum_over_processes(fabric: Fabric | None, value: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes of a training; the tensor itself where there is only one."""
    if fabric is None or fabric.world_size == 1:
        return value
    return cast(Tensor, fabric.all_reduce(value.detach().clone(), reduce_op="sum"))


def compute_scores(net: FCN, inputs: Tensor | list[Tensor], target: Tensor) -> list[Tensor]:
    """Return `FCN.score_all` of images, or of maps of `FCN.encode`, for targets N x H x W; the last is `FCN.score`.

    Raises UsageError where a normalization layer cannot normalize one value per channel.
    """
    with explain_one_value(tuple(target.shape)):
        maps = inputs if isinstance(inputs, list) else net.encode(inputs)
        return net.score_all(maps, (target.shape[-2], target.shape[-1]))


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

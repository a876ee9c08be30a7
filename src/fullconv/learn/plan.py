"""What a run is going to do and take, measured before it starts."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fullconv.data.dataset import DataSet
from fullconv.learn.recipe import Recipe
from fullconv.learn.task import Batch, SegmentationTask, untrained_copy, weighted_loss
from fullconv.net.fcn import FCN

__all__ = ["Plan", "has_bf16", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """The rows of the plan, and the seconds of a training step and a validation image that they rest on."""

    rows: tuple[tuple[str, str], ...]
    step_seconds: float

    def text(self) -> str:
        """One row a line, aligned."""
        width = max(len(name) for name, _ in self.rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows)


def has_bf16(recipe: Recipe) -> bool:
    """Whether the run computes in bfloat16: as the recipe says, else where the processor has instructions for it."""
    if recipe.bf16 is not None:
        return recipe.bf16
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def make_plan(dataset: DataSet, task: SegmentationTask, batch: Batch, steps: int, frozen: int, bf16: bool) -> Plan:
    """Run two steps on a copy of the network and put the plan into words."""
    recipe, net = task.recipe, task.net
    seconds = _measure(net, batch, task.weights, bf16)
    learning = sum(p.numel() for p in net.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in net.parameters())
    splits = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    left = steps * recipe.epochs - task.step
    rows = (
        ("data", f"{dataset.root} ({dataset.layout} layout): {splits}"),
        ("classes", f"{dataset.labels.num_classes}: {', '.join(dataset.labels.class_names)}"),
        ("network", f"{net.spec.name} on {net.spec.model}, {everything / 1e6:.2f} M parameters{_share(learning, frozen)}"),
        ("crops", f"{recipe.crop}x{recipe.crop}, batches of {recipe.batch_size}"),
        ("numbers", "bfloat16 where it is safe, channels last" if bf16 else "float32, channels last"),
        ("rates", f"{task.base_rate():.2g} pretrained layers, {task.base_rate() * recipe.head_lr_scale:.2g} new ones"),
        ("epochs", f"{recipe.epochs} of {steps} steps" + (f", {task.step} steps are done" if task.step else "")),
        ("time", f"{steps * seconds:.0f} s an epoch, {_duration(left * seconds)} to go, without validation "
                 "(measured on 2 steps)"),
        ("memory", f"{_memory() / 2**30:.1f} GiB at the peak of these steps"),
    )  # fmt: skip
    return Plan(rows, seconds)


def _measure(net: FCN, batch: Batch, weights: Tensor, bf16: bool) -> float:
    """Seconds of the second of two steps, forward and backward."""
    net, (inputs, target, _) = untrained_copy(net).train(), batch
    seconds = 0.0
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                size = (target.shape[-2], target.shape[-1])
                logits = net.decode(inputs, size) if isinstance(inputs, list) else net(inputs)
            weighted_loss(logits, target, weights).backward()
            seconds = time.perf_counter() - start
    return seconds


def _memory() -> int:
    """Bytes of the largest resident size so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _share(learning: int, frozen: int) -> str:
    return f", {learning / 1e6:.2f} M of them learn" if frozen else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

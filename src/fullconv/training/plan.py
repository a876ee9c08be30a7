"""The plan of a run: settings, time and memory, measured before it starts."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fullconv.data.dataset import DataSet
from fullconv.forks import native_call
from fullconv.images import image_size
from fullconv.net.fcn.network import FCN
from fullconv.training.progress import format_duration
from fullconv.training.recipe import Recipe
from fullconv.training.task import Batch, SegmentationTask, iterate_labels

__all__ = ["Plan", "best_device", "has_bf16", "make_plan"]

MOST_STEPS = 5
"""The number of training steps that the plan measures where they are fast."""

MOST_SECONDS = 3.0
"""The time after which the plan measures no third step."""


_PRECISION = {None: "float32", torch.bfloat16: "bfloat16 where it is safe", torch.float16: "float16 where it is safe"}


@dataclass(frozen=True)
class Plan:
    """The rows of the plan, and the measured seconds of a training step and of a validation of all images."""

    rows: tuple[tuple[str, str], ...]
    step_seconds: float
    validation_seconds: float

    def text(self) -> str:
        """Return one line per row, with aligned columns."""
        width = max(len(name) for name, _ in self.rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows)


def has_bf16(recipe: Recipe, device: torch.device | None = None) -> bool:
    """Return whether the run computes in bfloat16: as the recipe says, else if the device is fast with it.

    A `device` of None is `best_device`.
    """
    kind = (device or best_device()).type
    if recipe.bf16 is not None or recipe.fp16:
        return bool(recipe.bf16)
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def make_plan(
    dataset: DataSet,
    task: SegmentationTask,
    batch: Batch,
    image: Batch,
    steps: int,
    every: int,
    low: torch.dtype | None,
    device: torch.device,
    processes: int = 1,
) -> Plan:
    """Return the plan of a run of `steps` steps per epoch and `every` steps from one validation to the next.

    The measurement runs some training steps of a copy of the network on `batch`, the share of this process, and
    validates one `image`. `low` is the type of autocast, or None.
    """
    recipe, net, crop = task.recipe, task.net, "x".join(str(n) for n in batch[1].shape[-2:])
    seconds, count, image_seconds = _measure(task, batch, image, low, device)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    total = sum(p.numel() for p in net.parameters())
    splits = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    left = task.total_steps - task.step
    validation = image_seconds * -(-len(dataset.split("val")) // processes)
    scoring = validation * -(-left // every)
    until = "to go" if task.step else "in total"
    crops = f"{crop}, batches of {recipe.batch_size}" if recipe.crop != 0 else f"whole images, such as {crop}"
    rows = (
        ("data", f"{dataset.root} ({dataset.layout} layout): {splits}"),
        ("images", _sizes(dataset)),
        *([("channels", _channels(net))] if dataset.channels != 3 else []),
        ("classes", f"{dataset.labels.num_classes}: {', '.join(dataset.labels.class_names)}"),
        ("network", f"{net.spec.name} on {net.spec.model}, {_format_parameters(total, trained)}"),
        ("crops", crops),
        *([("processes", _processes(net, recipe, device, processes))] if processes > 1 else []),
        ("precision", f"{_PRECISION[low]}, channels last"),
        ("rates", f"{task.base_rate():.2g} for pretrained layers, "
                  f"{task.base_rate() * recipe.head_lr_scale:.2g} for new layers"),
        ("epochs", _epochs(task, steps)),
        ("time", f"{steps * seconds:.0f} s per epoch, {format_duration(left * seconds + scoring)} {until}, "
                 f"including {format_duration(scoring)} of validation (measured on {count} steps and one validation "
                 "image; corrected during the training)"),
        ("memory", _memory(device)),
    )  # fmt: skip
    return Plan(rows, seconds, validation)


def _epochs(task: SegmentationTask, steps: int) -> str:
    """Return the number of epochs, their steps, and those that are done, as text."""
    minutes = task.recipe.minutes
    text = f"{round(task.total_steps / steps, 2):g}, {steps} step{'s' * (steps > 1)} each"
    text += "" if minutes is None else f": {task.total_steps} steps fit into {minutes:g} minutes"
    return text + f"; {task.step} done" * (task.step > 0)


def _measure(
    task: SegmentationTask, batch: Batch, image: Batch, low: torch.dtype | None, device: torch.device
) -> tuple[float, int, float]:
    """Return the seconds of the fastest training step, the number of steps, and the seconds of a validation.

    All are measured on a copy of the network. There are two steps, and up to `MOST_STEPS` in `MOST_SECONDS`.
    """
    net = copy.deepcopy(task.net).train().to(device)
    inputs, target = _on(device, batch)
    steps: list[float] = []
    with native_call(), torch.random.fork_rng():
        while len(steps) < 2 or (len(steps) < MOST_STEPS and sum(steps) < MOST_SECONDS):
            start = time.perf_counter()
            with torch.autocast(device.type, low, enabled=low is not None):
                loss = task.compute_loss(net, inputs, target)
            torch.autograd.backward(loss)
            loss.item()
            steps.append(time.perf_counter() - start)
    image = *_on(device, image), image[2]
    for _ in range(2 if device.type == "cuda" else 1):  # a GPU prepares itself in the first pass
        start = time.perf_counter()
        with torch.no_grad():
            for _, labels in iterate_labels(net.eval(), image):
                int(labels.max())
    return min(steps), len(steps), time.perf_counter() - start


def _on(device: torch.device, batch: Batch) -> tuple[Tensor | list[Tensor], Tensor]:
    inputs = batch[0]
    return [m.to(device) for m in inputs] if isinstance(inputs, list) else inputs.to(device), batch[1].to(device)


def _processes(net: FCN, recipe: Recipe, device: torch.device, count: int) -> str:
    """Return how a batch is divided, and what that means for batch norm, as text."""
    low, high = recipe.batch_size // count, -(-recipe.batch_size // count)
    shares = low if low == high else f"{low} or {high}"
    text = f"{count}; each batch of {recipe.batch_size} is divided, {shares} for each"
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()):
        return text
    if device.type == "cuda":
        return f"{text}; batch norm is synchronized"
    return f"{text}; batch norm uses the share of its process, because torch synchronizes it on GPUs only"


def best_device() -> torch.device:
    """Return the device of --accelerator auto: a GPU of NVIDIA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _memory(device: torch.device) -> str:
    """Return the peak memory of the measured steps, as text."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory at the peak of these steps"
    if sys.platform == "win32":
        return "not measured on Windows"
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"{peak / 2**30:.1f} GiB at the peak of these steps"


def _sizes(dataset: DataSet, most: int = 200) -> str:
    """Return the range of sizes of up to `most` training images, height x width, as text."""
    sizes = sorted({image_size(sample.image) for sample in dataset.split("train")[:most]})
    (low, high), (last_low, last_high) = sizes[0], sizes[-1]
    return f"{low}x{high}" if len(sizes) == 1 else f"{len(sizes)} sizes from {low}x{high} to {last_low}x{last_high}"


def _channels(net: FCN) -> str:
    """Return the number of channels, with their means and standard deviations in 0..1, as text."""
    mean, std = (" ".join(f"{value:.2f}" for value in values.flatten().tolist()) for values in (net.mean, net.std))
    return f"{net.spec.channels}, mean {mean}, standard deviation {std}"


def _format_parameters(total: int, trained: int) -> str:
    part = f", {trained / 1e6:.2f} M of them trained" if trained < total else ""
    return f"{total / 1e6:.2f} M parameters{part}"

"""The loop of a training: steps, validations and checkpoints, on the device and in the precision of Fabric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from fullconv.training.checkpointing import Checkpointing, damaged_checkpoint
from fullconv.training.data_module import DataModule
from fullconv.training.run.reports import Reports
from fullconv.training.samples import make_seed
from fullconv.training.task import SegmentationTask

__all__ = ["fit"]


def fit(
    fabric: Fabric,
    task: SegmentationTask,
    data: DataModule,
    checkpointing: Checkpointing,
    reports: Reports,
    optimizer_states: list[dict[str, Any]],
) -> None:
    """Train from `task.step` to `task.total_steps`, and validate where it is due.

    `optimizer_states` are those of a checkpoint, or empty. Raises Interrupted after a signal, when everything is saved.
    """
    optimizer = task.make_optimizer()
    model, stepper = fabric.setup(task, optimizer)
    _restore(optimizer, optimizer_states, checkpointing)
    with checkpointing.handle_signals():
        reports.start()
        while True:
            if checkpointing.is_validation_due(task):  # also where a signal interrupted a validation
                reports.before_validation()
                _validate(fabric, task, data, checkpointing, optimizer)
                checkpointing.after_validation(task, optimizer)
                reports.after_validation()
            if task.step >= task.total_steps:
                break
            for batch in data.batches(task.step):  # the rest of the epoch
                torch.manual_seed(make_seed(task.recipe.seed, task.step, fabric.global_rank))  # so resuming repeats it
                task.set_rates(optimizer)
                loss = model(fabric.to_device(batch))
                stepper.zero_grad()
                fabric.backward(loss)
                if task.recipe.clip:
                    fabric.strategy.precision.unscale_gradients(optimizer)
                    nn.utils.clip_grad_norm_(task.net.parameters(), task.recipe.clip)
                stepper.step()
                task.finish_step()
                checkpointing.after_step(task, optimizer)
                reports.after_step()
        checkpointing.stop_after_signal(task, optimizer)


def _validate(
    fabric: Fabric, task: SegmentationTask, data: DataModule, checkpointing: Checkpointing, optimizer: Optimizer
) -> None:
    """Count the labels of all validation images."""
    task.confusion.zero_()
    with _evaluation_mode(task):
        for batch in data.images():
            task.validation_step(fabric.to_device(batch))
            checkpointing.stop_after_signal(task, optimizer)


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation, and then back to their modes."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _restore(optimizer: Optimizer, states: list[Mapping[str, Any]], checkpointing: Checkpointing) -> None:
    """Restore the state of the optimizer. Raises ModelError if it does not fit the network."""
    try:
        for values in states[:1]:
            optimizer.load_state_dict(dict(values))
        if not all(isinstance(group["initial_lr"], float) for group in optimizer.param_groups):
            raise ValueError("a learning rate is not a number")
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = "the state of its optimizer does not fit the network"
        raise damaged_checkpoint(checkpointing.out / "last.ckpt", reason) from error

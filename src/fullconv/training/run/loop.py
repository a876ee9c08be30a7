"""The loop of a training: steps, validations and checkpoints, on the device and in the precision of Fabric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from fullconv.forks import native_call
from fullconv.training.checkpointing import Checkpointing, damaged_checkpoint
from fullconv.training.data_module import DataModule
from fullconv.training.frozen_features import evaluation_mode
from fullconv.training.run.devices import average_statistics, synchronize_norms
from fullconv.training.run.reports import Reports
from fullconv.training.run.schedule import plan_again
from fullconv.training.samples import make_seed
from fullconv.training.task import Batch, SegmentationTask, sum_over_processes

__all__ = ["fit"]


def fit(
    fabric: Fabric,
    task: SegmentationTask,
    data: DataModule,
    checkpointing: Checkpointing,
    reports: Reports,
    checkpoint: Mapping[str, Any] | None,
) -> None:
    """Train from `task.step` to `task.total_steps`, and validate where it is due.

    `checkpoint` is that of a run to resume. Raises Interrupted after a signal, when everything is saved.
    """
    synchronize_norms(fabric, task.net)
    optimizer = task.make_optimizer()
    task.fabric = checkpointing.fabric = fabric
    model, stepper = fabric.setup(task, optimizer)
    if checkpoint is not None:
        _restore(fabric, optimizer, checkpoint, checkpointing)
    with checkpointing.handle_signals():
        reports.start()
        if checkpointing.is_validation_due(task):  # a signal interrupted it
            _validate(fabric, task, data, checkpointing, optimizer, reports)
        for batch in _batches(task, data):
            if checkpointing.is_finished(task):
                break
            torch.manual_seed(make_seed(task.recipe.seed, task.step, fabric.global_rank))  # so resuming repeats it
            task.set_rates(optimizer)
            with native_call():
                loss = model(fabric.to_device(batch))
                stepper.zero_grad()
                fabric.backward(loss)
                if task.recipe.clip:
                    fabric.strategy.precision.unscale_gradients(optimizer)
                    nn.utils.clip_grad_norm_(task.net.parameters(), task.recipe.clip)
                stepper.step()
                average_statistics(fabric, task.net)
            task.finish_step()
            checkpointing.after_step(task, optimizer)
            reports.after_step()
            if checkpointing.is_validation_due(task):
                _validate(fabric, task, data, checkpointing, optimizer, reports)
        checkpointing.stop_after_signal(task, optimizer)


def _batches(task: SegmentationTask, data: DataModule) -> Iterator[Batch]:
    """Yield the batches up to the last step, whose number a validation can change."""
    while task.step < task.total_steps:
        total = task.total_steps
        for batch in data.batches(task.step, total):
            yield batch
            if task.total_steps != total:
                break


def _validate(
    fabric: Fabric,
    task: SegmentationTask,
    data: DataModule,
    checkpointing: Checkpointing,
    optimizer: Optimizer,
    reports: Reports,
) -> None:
    """Count the labels of all validation images, each in one process; then save and report the scores."""
    reports.before_validation()
    task.confusion.zero_()
    with evaluation_mode(task):
        for batch in data.images():
            if checkpointing.stop:
                break
            with native_call():
                task.validation_step(fabric.to_device(batch))
    checkpointing.stop_after_signal(task, optimizer)
    task.confusion.copy_(sum_over_processes(fabric, task.confusion))
    checkpointing.after_validation(task, optimizer)
    reports.after_validation()
    if plan_again(fabric, task, data, checkpointing.state, reports.time_left):
        checkpointing.save(task, optimizer)


def _restore(fabric: Fabric, optimizer: Optimizer, checkpoint: Mapping[str, Any], checkpointing: Checkpointing) -> None:
    """Restore optimizer and gradient scaling. Raises ModelError if the optimizer's state does not fit the network."""
    try:
        for values in checkpoint["optimizer_states"][:1]:
            optimizer.load_state_dict(values)
        if not all(isinstance(group["initial_lr"], float) for group in optimizer.param_groups):
            raise ValueError("a learning rate is not a number")
        fabric.strategy.precision.load_state_dict(checkpoint.get("precision", {}))
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = "the state of its optimizer does not fit the network"
        raise damaged_checkpoint(checkpointing.out / "last.ckpt", reason) from error

"""Train one network: from a data set and a job to a run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from fullconv.cores import is_main_process, is_started_by_others
from fullconv.data.channels import measure_channels
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.documents import dump_yaml
from fullconv.files import write_text
from fullconv.net.checkpoint import Saved, load_net
from fullconv.net.classifiers.user_file import path_of_code
from fullconv.net.fcn.depthwise import speed_up_depthwise
from fullconv.net.fcn.network import FCN, build, rebuild
from fullconv.net.surgery.convolutionalize import transplant
from fullconv.report.source import read_settings
from fullconv.training.augment import GREY
from fullconv.training.checkpointing import Checkpointing, RunState, damaged_checkpoint, hold_run, load_state
from fullconv.training.crops.rare import RareClasses
from fullconv.training.data_module import DataModule
from fullconv.training.distill.teacher import load_teacher
from fullconv.training.frozen_features import freeze_all_but_score
from fullconv.training.job import Job, TrainingOptions, make_job
from fullconv.training.one_value import allow_one_value
from fullconv.training.plan import Plan, has_bf16, make_plan
from fullconv.training.progress import OnProgress, Progress, TimeLeft, TrainResult
from fullconv.training.recipe import Recipe
from fullconv.training.run.devices import (
    autocast_type,
    check_batch,
    count_devices,
    explain_failures,
    main_process_first,
    make_fabric,
)
from fullconv.training.run.loggers import make_logger
from fullconv.training.run.loop import fit
from fullconv.training.run.processes import run_in_processes
from fullconv.training.run.reports import Reports
from fullconv.training.run.result import finish, read_result, warn
from fullconv.training.run.schedule import Schedule, measure_step, schedule_by_epochs, schedule_by_minutes
from fullconv.training.run.settings import check_run, describe_settings
from fullconv.training.task import SegmentationTask, compute_class_weights, freeze_below

__all__ = ["estimate", "fit_here", "train"]

logger = logging.getLogger(__name__)


def train(
    dataset: DataSet,
    job: Job,
    out: Path,
    *,
    statistics: DataSetStatistics | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train a network and return the result of the run folder `out`.

    With `resume`, an unfinished run in `out` continues, and a finished run is only read. `statistics` are those of
    `read_statistics`; None means that they are read. The network takes the channels of the data, not those of `job`.
    The plan is logged before the first step.

    Raises UsageError if `out` contains a run and `resume` is not set, or if that run has other settings; DataError if
    the data have faults; FullconvError if another process is writing `out`; Interrupted after a signal, when everything
    is saved. With several devices, the failure of one process ends all, and the error names the rank.
    """
    with nullcontext() if resume and (out / "scores.json").is_file() else hold_run(out):  # a finished run is only read
        return _train(dataset, job, out, statistics, resume, on_progress)


def _train(
    dataset: DataSet,
    job: Job,
    out: Path,
    statistics: DataSetStatistics | None,
    resume: bool,
    on_progress: OnProgress | None,
) -> TrainResult:
    """Train in a folder that no other process writes."""
    job = _set_channels(job, dataset)
    statistics = statistics or read_statistics(dataset, "train", "val")
    settings = describe_settings(dataset, job, statistics)
    check_run(out, settings, resume)
    if (out / "scores.json").is_file():
        return warn(read_result(out, job))
    arguments = dataset, job, out, statistics, settings
    if not is_started_by_others() and (count := count_devices(job.hardware)) > 1:
        check_batch(job.recipe, count)
        seconds = run_in_processes(fit_here, arguments, count, on_progress)
        return warn(finish(dataset, job, out, seconds))
    seconds = fit_here(*arguments, on_progress)
    with main_process_first():  # the others wait until it has written the files, and read them
        return warn(finish(dataset, job, out, seconds) if is_main_process() else read_result(out, job))


def fit_here(
    dataset: DataSet,
    job: Job,
    out: Path,
    statistics: DataSetStatistics,
    settings: Mapping[str, Any],
    on_progress: OnProgress | None,
) -> float:
    """Run this process's share of all steps that are left, and return the seconds of all sittings."""
    fabric = make_fabric(job.hardware, job.recipe)
    with explain_failures(fabric, job.recipe):
        return _fit(fabric, dataset, job, out, statistics, settings, on_progress)


def _fit(
    fabric: Fabric,
    dataset: DataSet,
    job: Job,
    out: Path,
    statistics: DataSetStatistics,
    settings: Mapping[str, Any],
    on_progress: OnProgress | None,
) -> float:
    """Prepare the run, restore it from its checkpoint if it has one, and run the loop."""
    state, checkpoint = load_state(out / "last.ckpt") if (out / "last.ckpt").is_file() else (RunState(), None)
    start = time.monotonic()
    run = _prepare(fabric, dataset, job, statistics, on_progress)
    if state.total == 0:
        schedule, start = run.schedule(dataset, start), time.monotonic()
        state.total, state.every, state.available = schedule.steps, schedule.every, schedule.seconds
    run.task.total_steps = state.total
    if checkpoint is None and fabric.is_global_zero:
        _write_settings(out, settings, state)
    _restore(run.task, state, checkpoint, out / "last.ckpt")
    plan = run.plan(dataset, state.every)
    if state.step == 0 and state.available:
        state.available = max(1.0, state.available - (time.monotonic() - start))  # never 0 in one process only
    logger.info(plan.text())
    saved = Saved(run.task.net.spec, dataset.labels, {"settings": settings})
    checkpointing = Checkpointing(out, saved, state, run.steps, job.recipe.save_minutes)
    time_left = TimeLeft(plan.step_seconds, plan.validation_seconds, state.every, state.planned)
    log = make_logger(job.logger, out, run.task.step) if job.logger and fabric.is_global_zero else None
    reports = Reports(run.task, run.data, checkpointing, on_progress, time_left, log)
    try:
        fit(fabric, run.task, run.data, checkpointing, reports, checkpoint)
    finally:
        reports.finish("success" if checkpointing.is_finished(run.task) else "failed")
    if state.planned and fabric.is_global_zero:
        _write_settings(out, read_settings(out / "recipe.yaml"), state)
    return checkpointing.state.seconds


def _write_settings(out: Path, settings: Mapping[str, Any], state: RunState) -> None:
    """Write recipe.yaml, with the steps of the run."""
    schedule = {"steps": state.total, "every": state.every}
    write_text(out / "recipe.yaml", dump_yaml({**settings, "schedule": schedule}))


def estimate(dataset: DataSet) -> tuple[tuple[str, str], ...]:
    """Measure the time and memory of a training without options, and return rows of its plan. Nothing is written.

    Raises what `train` raises before its first step.
    """
    statistics = read_statistics(dataset, "train", "val")
    job = _set_channels(make_job(dataset, TrainingOptions(), statistics), dataset)
    run = _prepare(make_fabric(job.hardware, job.recipe), dataset, job, statistics)
    plan = run.plan(dataset, run.steps * job.recipe.val_every)
    return tuple(row for row in plan.rows if row[0] in ("epochs", "time", "memory"))


@dataclass(frozen=True)
class _Run:
    """A run before its first step, with `steps` per epoch."""

    task: SegmentationTask
    data: DataModule
    fabric: Fabric
    steps: int

    def plan(self, dataset: DataSet, every: int) -> Plan:
        """Measure the plan on the first batch and the first validation image."""
        fabric, batch, image = self.fabric, next(self.data.batches(0, 1)), self.data.first_image()
        low = autocast_type(self.task.recipe, fabric.device)
        return make_plan(dataset, self.task, batch, image, self.steps, every, low, fabric.device, fabric.world_size)

    def schedule(self, dataset: DataSet, start: float) -> Schedule:
        """Return the steps and validations: those of the recipe's epochs, or those that fit into its minutes.

        The time counts from `start`. The first process measures for all.
        """
        recipe = self.task.recipe
        if recipe.minutes is None:
            return schedule_by_epochs(recipe, self.steps)
        validation = self.plan(dataset, self.steps).validation_seconds
        low = autocast_type(recipe, self.fabric.device)
        step = measure_step(self.task, self.data, self.fabric, low, 60 * recipe.minutes)
        left = 60 * recipe.minutes - (time.monotonic() - start)
        return schedule_by_minutes(*self.fabric.broadcast((left, step, validation, self.data.decoding_left())))


def _prepare(
    fabric: Fabric, dataset: DataSet, job: Job, statistics: DataSetStatistics, on_progress: OnProgress | None = None
) -> _Run:
    recipe, device = job.recipe, fabric.device
    torch.manual_seed(recipe.seed)
    net = _build_network(job, dataset)
    if recipe.deep_supervision and net.decoder is not None:
        net.decoder.supervise(net.spec.num_classes)
    net = net.to(memory_format=torch.channels_last)
    allow_one_value(net)
    speed_up_depthwise(net)
    rank, processes = fabric.global_rank, fabric.world_size
    fill, rare = _mean_bytes(net), RareClasses.of(statistics)
    data = DataModule(dataset, recipe, fill, rare, device=device, rank=rank, processes=processes)
    if job.unlabelled_images is not None:
        data.mix_in(job.unlabelled_images)
    _freeze(net, recipe)
    if net.spec.fixed:
        report, bf16 = on_progress or (lambda progress: None), has_bf16(recipe, device)
        data.encode_with(net, bf16, lambda done, total: report(Progress(net.spec.name, "features", done, total)))
    weights = compute_class_weights(np.array(statistics.pixels), recipe.class_weight_power)
    steps = data.steps_per_epoch()
    teacher = None if job.teacher is None else load_teacher(job.teacher, dataset, job.hardware.runner)
    task = SegmentationTask(net, recipe, dataset.labels, weights, steps * recipe.epochs, teacher)
    return _Run(task, data, fabric, steps)


def _set_channels(job: Job, dataset: DataSet) -> Job:
    return replace(job, spec=replace(job.spec, channels=dataset.channels, value_range=dataset.value_range))


def _build_network(job: Job, dataset: DataSet) -> FCN:
    """Build the network. Channels other than RGB are normalized with the statistics of the training images."""
    if job.start is None:
        net = build(job.spec, job.weights)
        if dataset.channels != 3:
            net.set_normalization(*measure_channels(dataset))
        return net
    start, saved = load_net(job.start, path_of_code(job.spec.model))
    head = saved.spec
    net = rebuild(replace(job.spec, head_width=head.head_width, head_norm=head.head_norm, norm=head.norm))
    old, now = saved.spec.value_range, job.spec.value_range
    if old and now and old != now:
        logger.warning(
            f"{job.start} was trained on values from {old[0]:g} to {old[1]:g}, and those of {dataset.root} are read as "
            f"{now[0]:g} to {now[1]:g}, so images look brighter or darker to it; to keep its range, write "
            f"range: [{old[0]:g}, {old[1]:g}] into dataset.yaml"
        )
    copied, new = transplant(start, net)
    layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in new)) or "nothing"
    logger.info(f"start      {len(copied)} of {len(copied) + len(new)} tensors are those of {job.start}; new: {layers}")
    return net


def _mean_bytes(net: FCN) -> tuple[int, ...]:
    """Return the padding of crops: the mean of each channel, which the network normalizes to 0."""
    return GREY if net.spec.channels == 3 else tuple(round(255 * value) for value in net.mean.flatten().tolist())


def _freeze(net: FCN, recipe: Recipe) -> None:
    if net.spec.fixed:
        freeze_all_but_score(net)
    else:
        freeze_below(net, recipe.frozen_stride)


def _restore(task: SegmentationTask, state: RunState, checkpoint: Mapping[str, Any] | None, path: Path) -> None:
    if checkpoint is not None:
        try:
            task.load_state_dict(checkpoint["state_dict"])
        except (RuntimeError, AttributeError) as error:
            raise damaged_checkpoint(path, "its weights do not fit the network") from error
        if state.step > task.total_steps:
            raise damaged_checkpoint(path, f"it is at step {state.step} of {task.total_steps}")
        task.step, task.losses = state.step, list(state.losses)

"""Train one network: from a data set and a job to a run folder."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from fullconv.data.channels import measure_channels
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.documents import dump_yaml
from fullconv.errors import ModelError, UsageError
from fullconv.evaluation.measure import measure
from fullconv.files import write_text
from fullconv.net.checkpoint import Saved, load_net
from fullconv.net.classifiers.user_file import path_of_code
from fullconv.net.fcn.depthwise import speed_up_depthwise
from fullconv.net.fcn.network import FCN, build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import transplant
from fullconv.net.torch_runner import TorchRunner
from fullconv.report.page import write_report
from fullconv.report.source import read_scores, read_settings, read_source
from fullconv.training.augment import GREY
from fullconv.training.checkpointing import Checkpointing, RunState, damaged_checkpoint, hold_run, load_state
from fullconv.training.data_module import DataModule
from fullconv.training.frozen_features import freeze_all_but_score
from fullconv.training.job import Job, TrainingOptions, make_job
from fullconv.training.one_value import allow_one_value
from fullconv.training.plan import Plan, has_bf16, make_plan
from fullconv.training.progress import OnProgress, Progress, TimeLeft, TrainResult
from fullconv.training.progress_callback import ProgressCallback
from fullconv.training.recipe import Recipe
from fullconv.training.task import SegmentationTask, compute_class_weights, freeze_below

__all__ = ["estimate", "train"]

logger = logging.getLogger(__name__)

MAY_DIFFER = {"save_minutes", "workers", "choices", "range", "notes", "fullconv", "torch", "code_sha256"}
"""Settings that may differ when a run resumes, because they do not change its outcome."""


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
    is saved.
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
    settings = _describe_settings(dataset, job, statistics)
    _check_run(out, settings, resume)
    if (out / "scores.json").is_file():
        return _warn(_read_result(out, job))
    state, checkpoint = load_state(out / "last.ckpt") if (out / "last.ckpt").is_file() else (RunState(), None)
    run = _prepare(dataset, job, statistics, on_progress)
    if checkpoint is None:
        write_text(out / "recipe.yaml", dump_yaml(settings))
    _restore(run.task, state, checkpoint, out / "last.ckpt")
    plan = run.plan(dataset)
    logger.info(plan.text())
    saved = Saved(run.task.net.spec, dataset.labels, {"settings": settings})
    checkpointing = Checkpointing(out, saved, state, run.steps, job.recipe.save_minutes)
    checkpointing.optimizer_states = checkpoint["optimizer_states"] if checkpoint else []
    time_left = TimeLeft(plan.step_seconds, plan.validation_seconds, run.steps * job.recipe.val_every)
    _fit(run, checkpointing, ProgressCallback(checkpointing, job.spec.name, on_progress, time_left))
    return _warn(_finish(dataset, job, out, checkpointing.state.seconds))


def estimate(dataset: DataSet) -> tuple[tuple[str, str], ...]:
    """Measure the time and memory of a training without options, and return rows of its plan. Nothing is written.

    Raises what `train` raises before its first step.
    """
    statistics = read_statistics(dataset, "train", "val")
    job = _set_channels(make_job(dataset, TrainingOptions(), statistics), dataset)
    plan = _prepare(dataset, job, statistics).plan(dataset)
    return tuple(row for row in plan.rows if row[0] in ("epochs", "time", "memory"))


@dataclass(frozen=True)
class _Run:
    """A run before its first step, with `steps` per epoch."""

    task: SegmentationTask
    data: DataModule
    trainer: Trainer
    steps: int
    bf16: bool

    def plan(self, dataset: DataSet) -> Plan:
        """Measure the plan on the first batch and the first validation image."""
        data = self.data
        example = next(iter(data.loader(data.order(0))))
        return make_plan(dataset, self.task, example, data.val_example(), self.steps, self.bf16)


def _prepare(dataset: DataSet, job: Job, statistics: DataSetStatistics, on_progress: OnProgress | None = None) -> _Run:
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    net = _build_network(job, dataset).to(memory_format=torch.channels_last)
    allow_one_value(net)
    speed_up_depthwise(net)
    data, bf16 = DataModule(dataset, recipe, _mean_bytes(net)), has_bf16(recipe)
    _freeze(net, recipe)
    if net.spec.fixed:
        report = on_progress or (lambda progress: None)
        data.encode_with(net, bf16, lambda done, total: report(Progress(net.spec.name, "features", done, total)))
    weights = compute_class_weights(np.array(statistics.pixels), recipe.class_weight_power)
    trainer = _trainer(recipe, bf16)
    steps = data.steps_per_epoch(trainer.world_size)
    task = SegmentationTask(net, recipe, dataset.labels, weights, steps * recipe.epochs)
    return _Run(task, data, trainer, steps, bf16)


def _set_channels(job: Job, dataset: DataSet) -> Job:
    return replace(job, spec=replace(job.spec, channels=dataset.channels, value_range=dataset.value_range))


def _describe_settings(dataset: DataSet, job: Job, statistics: DataSetStatistics) -> dict[str, Any]:
    """Return the content of recipe.yaml: everything that the outcome depends on."""
    choices = {choice.name: {"value": choice.value, "reason": choice.reason} for choice in job.choices}
    return {
        "fullconv": version("fullconv"),
        "torch": version("torch"),
        "data": str(dataset.root),
        "layout": dataset.layout,
        "class_names": list(dataset.labels.class_names),
        "reading": {
            "options": dataset.options.to_dict(),
            "notes": list(dataset.notes),
            "pixels": dict(zip(statistics.class_names, statistics.pixels, strict=True)),
        },
        "samples": {name: len(samples) for name, samples in dataset.splits.items()},
        **({} if dataset.range_facts is None else {"range": vars(dataset.range_facts)}),
        "network": job.spec.to_dict(),
        "weights": job.weights,
        "start": str(job.start) if job.start else None,
        "recipe": job.recipe.to_dict(),
        **({"choices": choices} if choices else {}),
    }


def _check_run(out: Path, values: Mapping[str, Any], resume: bool) -> None:
    """Raise UsageError if the folder contains a run that cannot be resumed with these settings."""
    if not any((out / name).exists() for name in ("last.ckpt", "scores.json")):
        return
    if not resume:
        message = f"{out} already contains a run; add --resume to continue it, or name another folder with --out"
        raise UsageError(message, code="run-exists")
    before = read_settings(out / "recipe.yaml")
    try:
        before["network"] = NetSpec.from_dict(before["network"]).to_dict()  # with newer options
    except (KeyError, TypeError, ValueError) as error:
        message = f"{out / 'recipe.yaml'} is damaged ({error}); restore it, or move it away"
        raise ModelError(message, code="damaged-run-folder") from error
    differ = [
        f"{name} was {old!r}, now {new!r}"
        for name, (old, new) in _compare_settings(before, json.loads(json.dumps(dict(values)))).items()
    ]
    if differ:
        message = f"{out} was trained with other settings, so it cannot be resumed: {'; '.join(differ)}"
        raise UsageError(message, code="run-settings-differ")


def _compare_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by name, with the old and the new value."""
    differ: dict[str, tuple[Any, Any]] = {}
    for name in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(name), now.get(name)
        if name in MAY_DIFFER:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            differ |= _compare_settings(old, new)
        elif old != new:
            differ[name] = (old, new)
    return differ


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
    transplant(start, net)
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


def _trainer(recipe: Recipe, bf16: bool) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        max_epochs=recipe.epochs,
        precision="bf16-mixed" if bf16 else "32-true",
        check_val_every_n_epoch=recipe.val_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def _fit(run: _Run, checkpointing: Checkpointing, reports: ProgressCallback) -> None:
    """Run the remaining steps. If a signal interrupted a validation, repeat it first."""
    trainer, task, data = run.trainer, run.task, run.data
    recipe, steps = task.recipe, checkpointing.steps_per_epoch
    trainer.callbacks += [checkpointing, reports]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        if task.step > checkpointing.state.validated and task.step % (steps * recipe.val_every) == 0:
            trainer.validate(task, data, verbose=False)
        done = task.step // steps
        trainer.fit_loop.epoch_progress.current = _ProcessedTracker(done, done, done, done)
        if done < recipe.epochs:
            trainer.fit(task, data)


def _finish(dataset: DataSet, job: Job, out: Path, seconds: float) -> TrainResult:
    """Score the best weights as `evaluate` does, and write report.html, model.onnx and scores.json."""
    runner = TorchRunner.load(out, code=path_of_code(job.spec.model))
    measured = measure(runner, dataset, "val")
    parameters = sum(p.numel() for p in runner.net.parameters())
    alarm = write_report(out / "report.html", measured, read_source(out)).alarm
    model = None if alarm else _export(out, job)
    seconds = round(seconds, 1)  # as a resumed run reads it
    run = {"seconds": seconds, "parameters": parameters, "network": runner.net.spec.name, "alarm": alarm}
    write_text(out / "scores.json", json.dumps({**measured.scores.to_dict(), "run": run}, indent=1))
    return TrainResult(out, measured.scores, seconds, parameters, alarm, model)


def _export(out: Path, job: Job) -> Path | None:
    """Write model.onnx unless it exists. Without an ONNX form, log the reason and return None."""
    from fullconv.onnx_export import export

    target = out / "model.onnx"
    try:
        if not target.exists():
            export(out, target, code=path_of_code(job.spec.model))
    except ModelError as error:
        logger.info(f"model.onnx was not written: {error}")
        return None
    return target


def _read_result(out: Path, job: Job) -> TrainResult:
    """Return the result of a finished run. If its model.onnx is missing, write it again."""
    scores, run = read_scores(out / "scores.json")
    alarm = run.get("alarm", "")
    model = None if alarm else _export(out, job)
    return TrainResult(out, scores, run["seconds"], run["parameters"], alarm, model)


def _warn(result: TrainResult) -> TrainResult:
    if result.alarm:
        page = result.folder / "report.html"
        logger.warning(f"warning: {result.alarm} See {page} for causes and remedies. model.onnx was not written.")
    return result

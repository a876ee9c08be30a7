"""One training run: from a data set and a network's description to a run folder."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from fullconv.data.augment import GREY
from fullconv.data.channels import channel_statistics
from fullconv.data.dataset import DataSet, count_labels
from fullconv.data.fingerprint import read_fingerprint
from fullconv.errors import UsageError
from fullconv.files import write_text
from fullconv.learn.choose import Choice, choose
from fullconv.learn.fixed import freeze_all_but_score
from fullconv.learn.keeper import Keeper, RunState, load_state
from fullconv.learn.loaders import Loaders
from fullconv.learn.plan import Plan, has_bf16, make_plan
from fullconv.learn.progress import ProgressBar, counting
from fullconv.learn.recipe import Recipe, modern
from fullconv.learn.task import SegmentationTask, class_weights, freeze_below
from fullconv.metrics import Scores
from fullconv.net.checkpoint import Saved, load_net
from fullconv.net.fcn import FCN, build, rebuild
from fullconv.net.runner import TorchRunner
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import transplant
from fullconv.report.measure import measure
from fullconv.report.page import write_report
from fullconv.report.source import read_source

__all__ = ["Job", "TrainResult", "default_job", "expect", "train"]

FREE = {"save_minutes", "workers", "choices", "fullconv", "torch"}
"""Settings that may differ on resuming: the recipe's change nothing in the outcome."""


@dataclass(frozen=True)
class Job:
    """All that decides a run's outcome. `start` is a run whose weights the network begins with, where they fit.

    `choices` are why it is as it is, for the reader of the run folder.
    """

    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    start: Path | None = None
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class TrainResult:
    """The scores of the best weights on the validation images, seconds of training, parameters.

    `alarm` is why the network is not to be used, or empty: it calls nearly everything one class, or gains nothing.
    """

    scores: Scores
    seconds: float
    parameters: int
    alarm: str = ""


def train(
    dataset: DataSet, job: Job, out: Path, *, resume: bool = False, tell: Callable[[str], None] = print
) -> TrainResult:
    """Train, or go on where `out` holds an unfinished run and `resume` is set; a finished one is only read.

    The plan goes to `tell` before the first step. Raises UsageError where `out` holds a run and `resume` is
    not set, or where that run has other settings; Interrupted after a signal, with everything saved. The network takes
    the channels of the data, whatever `job` says.
    """
    job = _of_channels(job, dataset)
    settings = _settings(dataset, job)
    _check_run(out, settings, resume)
    if (out / "scores.json").is_file():
        return _read_result(out)
    state, checkpoint = load_state(out / "last.ckpt") if (out / "last.ckpt").is_file() else (RunState(), None)
    run = _prepared(dataset, job)
    if checkpoint is None:
        write_text(out / "recipe.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    _restore(run.task, state, checkpoint)
    tell(run.plan(dataset).text())
    saved = Saved(run.task.net.spec, dataset.labels, {"settings": settings})
    keeper = Keeper(out, saved, state, run.steps, job.recipe.save_minutes)
    keeper.optimizer_states = checkpoint["optimizer_states"] if checkpoint else []
    _fit(run.trainer, run.task, run.loaders, keeper)
    return _finish(dataset, out, keeper.state.seconds)


def default_job(dataset: DataSet) -> Job:
    """What the command `train` starts where nothing but the data is given."""
    chosen = choose(read_fingerprint(dataset), modern())
    spec = NetSpec(chosen.model, dataset.labels.num_classes, chosen.stride)
    return Job(spec, chosen.recipe, "pretrained", choices=chosen.choices)


def expect(dataset: DataSet) -> tuple[tuple[str, str], ...]:
    """How long `default_job` would take, and in how much memory: rows of its plan, measured; nothing is written.

    Raises what `train` raises before its first step.
    """
    plan = _prepared(dataset, _of_channels(default_job(dataset), dataset)).plan(dataset)
    return tuple(row for row in plan.rows if row[0] in ("epochs", "time", "memory"))


@dataclass(frozen=True)
class _Prepared:
    """A run before its first step: `steps` an epoch, in bfloat16 or not."""

    task: SegmentationTask
    loaders: Loaders
    trainer: Trainer
    steps: int
    bf16: bool

    def plan(self, dataset: DataSet) -> Plan:
        """What is ahead, measured on the first batch and the first validation image."""
        loaders = self.loaders
        example = next(iter(loaders.loader(loaders.order(0))))
        return make_plan(dataset, self.task, example, loaders.val_example(), self.steps, self.bf16)


def _prepared(dataset: DataSet, job: Job) -> _Prepared:
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    net = _network(job, dataset).to(memory_format=torch.channels_last)
    loaders, bf16 = Loaders(dataset, recipe, _mean_bytes(net)), has_bf16(recipe)
    _freeze(net, recipe)
    if net.spec.fixed:
        with counting("computing feature maps") as bar:
            loaders.encode_with(net, bf16, lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total))
    weights = class_weights(count_labels(dataset, "train", "val"), recipe.class_weight_power)
    trainer = _trainer(recipe, bf16)
    steps = loaders.steps_per_epoch(trainer.world_size)
    task = SegmentationTask(net, recipe, dataset.labels, weights, steps * recipe.epochs)
    return _Prepared(task, loaders, trainer, steps, bf16)


def _of_channels(job: Job, dataset: DataSet) -> Job:
    return replace(job, spec=replace(job.spec, channels=dataset.channels, value_range=dataset.value_range))


def _settings(dataset: DataSet, job: Job) -> dict[str, Any]:
    """What recipe.yaml says: everything that the outcome depends on."""
    choices = {choice.name: {"value": choice.value, "reason": choice.reason} for choice in job.choices}
    return {
        "fullconv": version("fullconv"),
        "torch": version("torch"),
        "data": str(dataset.root),
        "layout": dataset.layout,
        "class_names": list(dataset.labels.class_names),
        "samples": {name: len(samples) for name, samples in dataset.splits.items()},
        "network": job.spec.to_dict(),
        "weights": job.weights,
        "start": str(job.start) if job.start else None,
        "recipe": job.recipe.to_dict(),
        **({"choices": choices} if choices else {}),
    }


def _check_run(out: Path, values: Mapping[str, Any], resume: bool) -> None:
    """UsageError where the folder holds a run that may not be resumed with these settings."""
    if not any((out / name).exists() for name in ("last.ckpt", "scores.json")):
        return
    if not resume:
        raise UsageError(f"{out} already holds a run: add --resume to go on with it, or name another --out")
    before = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    before["network"] = NetSpec.from_dict(before["network"]).to_dict()  # what it lacks had no other value then
    differ = [
        f"{name} was {old!r}, now {new!r}"
        for name, (old, new) in _compared(before, json.loads(json.dumps(dict(values)))).items()
    ]
    if differ:
        raise UsageError(f"{out} was trained with other settings, so it cannot be resumed: {'; '.join(differ)}")


def _compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by name."""
    differ: dict[str, tuple[Any, Any]] = {}
    for name in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(name), now.get(name)
        if name in FREE:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            differ |= _compared(old, new)
        elif old != new:
            differ[name] = (old, new)
    return differ


def _network(job: Job, dataset: DataSet) -> FCN:
    """The network before the first step; other channels than RGB are normalised by the training images."""
    if job.start is None:
        net = build(job.spec, job.weights)
        if dataset.channels != 3:
            net.set_normalization(*channel_statistics(dataset))
        return net
    before, saved = load_net(job.start)
    own = saved.spec
    net = rebuild(replace(job.spec, head_width=own.head_width, head_norm=own.head_norm, norm=own.norm))
    transplant(before, net)
    return net


def _mean_bytes(net: FCN) -> tuple[int, ...]:
    """What crops are padded with: the mean of each channel, which is nothing to the network."""
    return GREY if net.spec.channels == 3 else tuple(round(255 * value) for value in net.mean.flatten().tolist())


def _freeze(net: FCN, recipe: Recipe) -> None:
    if net.spec.fixed:
        freeze_all_but_score(net)
    else:
        freeze_below(net, recipe.frozen_stride)


def _restore(task: SegmentationTask, state: RunState, checkpoint: Mapping[str, Any] | None) -> None:
    if checkpoint is not None:
        task.load_state_dict(checkpoint["state_dict"])
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


def _fit(trainer: Trainer, task: SegmentationTask, loaders: Loaders, keeper: Keeper) -> None:
    """All steps that are left; first the validation that a signal cut short, if one did."""
    recipe, steps = task.recipe, keeper.steps_per_epoch
    trainer.callbacks += [keeper, ProgressBar(keeper, task.net.spec.name, task.total_steps)]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        if task.step > keeper.state.validated and task.step % (steps * recipe.val_every) == 0:
            trainer.validate(task, loaders, verbose=False)
        done = task.step // steps
        trainer.fit_loop.epoch_progress.current = _ProcessedTracker(done, done, done, done)
        if done < recipe.epochs:
            trainer.fit(task, loaders)


def _finish(dataset: DataSet, out: Path, seconds: float) -> TrainResult:
    """Score the best weights as `evaluate` does, write the report, and close the run."""
    runner = TorchRunner.load(out)
    found = measure(runner, dataset, "val")
    scores = found.scores
    parameters = sum(p.numel() for p in runner.net.parameters())
    run: dict[str, Any] = {"seconds": round(seconds, 1), "parameters": parameters, "network": runner.net.spec.name}
    run["alarm"] = write_report(out / "report.html", found, read_source(out)).alarm
    write_text(out / "scores.json", json.dumps({**scores.to_dict(), "run": run}, indent=1))
    return TrainResult(scores, seconds, parameters, run["alarm"])


def _read_result(out: Path) -> TrainResult:
    """The result of a finished run."""
    values = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    run = values["run"]
    return TrainResult(Scores.from_dict(values), run["seconds"], run["parameters"], run.get("alarm", ""))

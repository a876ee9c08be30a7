"""The settings of a run: everything that its outcome depends on, and whether a run can be resumed with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fullconv.data.dataset import DataSet
from fullconv.data.statistics import DataSetStatistics
from fullconv.errors import ModelError, UsageError
from fullconv.net.fcn.spec import NetSpec
from fullconv.report.source import read_settings
from fullconv.training.distill.teacher import describe_teacher
from fullconv.training.distill.unlabelled import describe_unlabelled
from fullconv.training.job import Job
from fullconv.training.recipe import Recipe

__all__ = ["check_run", "describe_settings", "refuse_other_results"]

MAY_DIFFER = {
    "save_minutes", "workers", "hardware", "logger", "schedule", "choices", "range", "notes", "fullconv", "torch",
    "code_sha256", "path",
}  # fmt: skip
"""Settings that may differ when a run resumes, because they do not change its outcome."""


RESULTS = {"a run": ("last.ckpt", "scores.json"), "a ladder": ("table.json",), "folds": ("folds.json",)}
"""The kinds of results that a training command writes into a folder, by files that only this kind has."""


def describe_settings(dataset: DataSet, job: Job, statistics: DataSetStatistics) -> dict[str, Any]:
    """Return the content of recipe.yaml: everything that the outcome depends on."""
    choices = {choice.name: {"value": choice.value, "reason": choice.reason} for choice in job.choices}
    return {
        "fullconv": version("fullconv"),
        "torch": version("torch"),
        "data": str(dataset.root.absolute()),
        "layout": dataset.layout,
        "class_names": list(dataset.labels.class_names),
        "reading": {
            "options": dataset.options.to_dict(),
            "notes": list(dataset.notes),
            "pixels": dict(zip(statistics.class_names, statistics.pixels, strict=True)),
        },
        "samples": {name: len(samples) for name, samples in dataset.splits.items()},
        **({} if dataset.fold is None else {"fold": list(dataset.fold)}),
        **({} if dataset.range_facts is None else {"range": vars(dataset.range_facts)}),
        "network": job.spec.to_dict(),
        "weights": job.weights,
        "start": str(job.start) if job.start else None,
        "recipe": job.recipe.to_dict(),
        **({} if job.teacher is None else {"teacher": describe_teacher(job.teacher)}),
        **({} if job.unlabelled_images is None else {"unlabelled_images": describe_unlabelled(job.unlabelled_images)}),
        "hardware": vars(job.hardware),
        "logger": job.logger,
        **({"choices": choices} if choices else {}),
    }


def refuse_other_results(out: Path, kind: str) -> None:
    """Raise UsageError if the folder holds a result of another kind, whose report.html would be replaced."""
    for other, names in RESULTS.items():
        if other != kind and any((out / name).exists() for name in names):
            message = f"{out} already contains {other}, so it cannot hold {kind}; name another folder with --out"
            raise UsageError(message, code="holds-other-results")


def check_run(out: Path, values: Mapping[str, Any], resume: bool) -> None:
    """Raise UsageError if the folder contains a run that cannot be resumed with these settings."""
    refuse_other_results(out, "a run")
    if not any((out / name).exists() for name in RESULTS["a run"]):
        return
    if not resume:
        message = f"{out} already contains a run; add --resume to continue it, or name another folder with --out"
        raise UsageError(message, code="run-exists")
    before = {"fold": values.get("fold"), **read_settings(out / "recipe.yaml")}  # older versions did not write it
    try:
        before["data"] = str(Path(before["data"]).absolute())  # older versions wrote paths as the user did
        for name in ("start", "weights"):
            if isinstance(path := before.get(name), str) and (name == "start" or os.path.isfile(path)):
                before[name] = os.path.abspath(path)
        before["network"] = NetSpec.from_dict(before["network"]).to_dict()  # with newer options
        before["recipe"] = Recipe.from_dict(before["recipe"]).to_dict()
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
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

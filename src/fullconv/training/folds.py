"""Cross-validation: one network for each fold of the images, and the scores of all of them together."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fullconv.cores import is_main_process
from fullconv.data.dataset import DataSet
from fullconv.data.division import divide_into_folds
from fullconv.data.statistics import read_statistics
from fullconv.errors import UsageError
from fullconv.evaluation.intervals import Bootstrap, bootstrap
from fullconv.evaluation.measure import Measurement, measure
from fullconv.files import write_text
from fullconv.metrics import Scores
from fullconv.pages.parts import percent
from fullconv.report.folds import write_folds_page
from fullconv.report.runs import Run
from fullconv.report.verdict import find_majority_class
from fullconv.training.checkpointing import hold_run
from fullconv.training.job import Job
from fullconv.training.progress import OnProgress, TrainResult
from fullconv.training.run.result import load_best
from fullconv.training.run.settings import refuse_other_results
from fullconv.training.train import train

__all__ = ["cross_validate", "make_folds_table"]

logger = logging.getLogger(__name__)


def cross_validate(
    dataset: DataSet,
    job: Job,
    out: Path,
    count: int,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train a network for each of `count` folds of train and val, and score each on its fold.

    Each fold has a run folder below `out`. folds.json and report.html hold the scores of each fold, their spread, and
    the scores of all images with bootstrap intervals. With `resume`, finished folds are only read.

    Raises UsageError for a number of folds that the data do not have, or if `out` contains folds and `resume` is not
    set; and all errors of `train`.
    """
    with hold_run(out):
        return _cross_validate(dataset, job, out, count, resume, on_progress)


def _cross_validate(
    dataset: DataSet, job: Job, out: Path, count: int, resume: bool, on_progress: OnProgress | None
) -> TrainResult:
    """Cross-validate in a folder that no other process writes."""
    divided = divide_into_folds(dataset, count)
    refuse_other_results(out, "folds")
    if not resume and any(out.glob("*/recipe.yaml")):
        message = f"{out} already contains folds; add --resume to continue them, or name another folder with --out"
        raise UsageError(message, code="run-exists")
    counts = [read_statistics(fold, "train", "val") for fold in divided]  # before any training, as they may raise
    results, measured = [], []
    for number, (fold, counted) in enumerate(zip(divided, counts, strict=True), 1):
        folder = out / f"fold-{number}"
        logger.info(f"\nfold {number} of {count}: {folder}")
        result = train(fold, job, folder, statistics=counted, resume=resume, on_progress=on_progress)
        results.append(result)
        measured.append(result.measured or measure(load_best(folder, job), fold.read_as(fold.input), "val"))
    return _summarize(dataset, out, results, measured)


def make_folds_table(result: TrainResult) -> list[list[str]]:
    """Return head and rows: the scores of each fold in percent, their spread, and the scores of all images."""
    rows = [["", "pixel acc.", "mean acc.", "mIoU", "f.w. IU"]]
    values = [_percent(fold.scores) for fold in result.folds]
    rows += [[f"fold {number}", *_format(fold)] for number, fold in enumerate(values, 1)]
    spread = [statistics.stdev(column) for column in zip(*values, strict=True)]
    rows.append(["standard deviation", *_format(spread)])
    rows.append(["all images", *_format(_percent(result.scores))])
    return rows


def _percent(scores: Scores) -> list[float]:
    values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
    return [100 * value for value in values]


def _format(values: Sequence[float]) -> list[str]:
    return [f"{value:.1f}" for value in values]


def _summarize(
    dataset: DataSet, out: Path, results: Sequence[TrainResult], measured: Sequence[Measurement]
) -> TrainResult:
    confusion = np.sum([measurement.scores.confusion for measurement in measured], axis=0)
    scores = Scores.from_confusion(confusion, dataset.labels.class_names)
    counts = np.concatenate([measurement.counts() for measurement in measured])
    series = [name for measurement in measured for name in measurement.series()]
    intervals = bootstrap(counts, find_majority_class(confusion), series=series)
    result = TrainResult(out, scores, sum(run.seconds for run in results), results[0].parameters, folds=tuple(results))
    interval = intervals.mean_iou
    values = {
        "folds": [run.scores.to_dict() for run in results],
        "all_images": scores.to_dict(),
        "images": [
            {"name": image.sample.name, "fold": number, "mean_iou": image.mean_iou}
            for number, measurement in enumerate(measured, 1)
            for image in measurement.images
        ],
        "mean_iou_interval": None if interval is None else [interval.low, interval.high],
        "series": intervals.series if intervals.in_series else None,
    }
    if not is_main_process():
        return result
    write_text(out / "folds.json", json.dumps(values, indent=1))
    folds = [Run(f"fold {number}", run.folder, run.alarm) for number, run in enumerate(results, 1)]
    name, rows = dataset.root.resolve().name, make_folds_table(result)
    write_folds_page(out / "report.html", name, folds, rows, _class_rows(scores, intervals), intervals)
    return result


def _class_rows(scores: Scores, intervals: Bootstrap) -> list[list[str]]:
    """Return the rows of the table of classes: name, IoU in percent, and its interval."""
    rows = []
    named = zip(scores.class_names, scores.per_class_iou, intervals.per_class, strict=True)
    for name, iou, interval in [("mIoU", scores.mean_iou, intervals.mean_iou), *named]:
        bounds = "–" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"
        rows.append([name, percent(iou), bounds])
    return rows

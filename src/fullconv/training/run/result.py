"""The end of a run: scores of the best weights, report.html, model.onnx and scores.json."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.errors import ModelError
from fullconv.evaluation.measure import measure
from fullconv.files import write_text
from fullconv.net.classifiers.user_file import path_of_code
from fullconv.net.torch_runner import TorchRunner, find_device
from fullconv.report.page import write_report
from fullconv.report.source import read_scores, read_source
from fullconv.training.job import Job
from fullconv.training.progress import TrainResult

__all__ = ["finish", "load_best", "read_result", "warn"]

logger = logging.getLogger(__name__)


def finish(dataset: DataSet, job: Job, out: Path, seconds: float) -> TrainResult:
    """Score the best weights as `evaluate` does, and write report.html, model.onnx and scores.json."""
    runner = load_best(out, job)
    measured = measure(runner, dataset, "val")
    parameters = sum(p.numel() for p in runner.net.parameters())
    alarm = write_report(out / "report.html", measured, read_source(out)).alarm
    model = None if alarm else _export(out, job)
    seconds = round(seconds, 1)  # as a resumed run reads it
    run = {"seconds": seconds, "parameters": parameters, "network": runner.net.spec.name, "alarm": alarm}
    write_text(out / "scores.json", json.dumps({**measured.scores.to_dict(), "run": run}, indent=1))
    return TrainResult(out, measured.scores, seconds, parameters, alarm, model, measured=measured)


def load_best(out: Path, job: Job) -> TorchRunner:
    """Load the best weights of a run, on the CPU if it trained there."""
    return TorchRunner.load(out, find_device(job.hardware.runner), code=path_of_code(job.spec.model))


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


def read_result(out: Path, job: Job) -> TrainResult:
    """Return the result of a finished run. If its model.onnx is missing, write it again."""
    scores, run = read_scores(out / "scores.json")
    alarm = run.get("alarm", "")
    model = None if alarm else _export(out, job)
    return TrainResult(out, scores, run["seconds"], run["parameters"], alarm, model)


def warn(result: TrainResult) -> TrainResult:
    """Log a warning if the network must not be used, and return the result."""
    if result.alarm:
        page = result.folder / "report.html"
        logger.warning(f"warning: {result.alarm} See {page} for causes and remedies. model.onnx was not written.")
    return result

"""The command `fullconv report`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fullconv.cli.console import emit, progress_bar, say
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import ModelCode, RangeText, ScoredSplitName, Trained
from fullconv.cli.values import refuse_overwriting
from fullconv.data.reading import Reading
from fullconv.errors import UsageError

__all__ = ["report"]


@reads_data
def report(
    model: Trained,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Labelled images, as for evaluate.",
            show_default="the data that the run was trained on",
        ),
    ] = None,
    split: ScoredSplitName = "val",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .html file to write.",
            show_default="report.html in the run folder for its data, otherwise <model>-report.html in the current "
            "folder; with the name of the split if it is not val",
        ),
    ] = None,
    value_range: RangeText = None,
    model_code: ModelCode = None,
    *,
    reading: Reading,
) -> None:
    """Write a report on a model as one HTML page that needs no internet.

    The page compares the scores, with confidence intervals, with those of predicting the most frequent class
    everywhere. It shows the IoU of each class; which classes are confused; the errors at boundaries and in small
    regions; the worst, median and best images; and the curves, settings and time of the training. Training writes this
    page, too: RUN/report.html. DATA are read as for evaluate.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: name a file that ends in .html", code="not-html")
    from fullconv.evaluation.measure import measure
    from fullconv.labels import check_classes
    from fullconv.predict.ranges import parse_range
    from fullconv.report.page import write_report
    from fullconv.report.source import find_run_data, read_source
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.runner import RangedRunner, Runner

    bounds = None if value_range is None else parse_range(value_range)
    path = model_path(model)
    runner: Runner = load_runner(path, code=model_code)
    source = read_source(path, runner)
    root = data or source.settings.get("data")
    if root is None:
        command = f"fullconv report {shlex.quote(model)} DATA"
        message = f"{model} does not record the data that it was trained on; name the data: {command}"
        raise UsageError(message, code="data-not-recorded")
    refuse_overwriting(out, data=Path(root))
    dataset = find_run_data(path, root, reading)
    for note in dataset.notes:
        say(f"{root}: {note}")
    check_classes(model, runner.info.labels, root, dataset.labels)
    if bounds is not None:
        runner = RangedRunner(runner, bounds)
    dataset = dataset.read_as(runner.info.input)
    with progress_bar() as bar:
        measurement = measure(runner, dataset, split, lambda samples: bar.track(samples, description="measuring"))
    if measurement.misfit is not None:
        say(str(measurement.misfit))
    target = out or _default_target(path, split, source.trained_on(measurement.dataset.root))
    write_report(target, measurement, source)
    emit(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(measurement.images)} images")


def _default_target(model: Path, split: str, is_own_data: bool) -> Path:
    """Return report.html in the run folder for the data of the run, or <model>-report.html in the current folder.

    For other splits than val, the name ends with the split.
    """
    name = "report.html" if split == "val" else f"report-{split}.html"
    if not model.is_dir():
        return Path(f"{model.stem}-{name}")
    return model / name if is_own_data else Path(f"{model.resolve().name}-{name}")

"""The report: one HTML page that needs no other file, no network and no script."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.cores import usable_cores
from fullconv.evaluation.intervals import DRAWS, LEVEL, SEED
from fullconv.evaluation.measure import Measured
from fullconv.files import write_text
from fullconv.pages.parts import Table, legend_of, percent
from fullconv.pages.render import render_page
from fullconv.report.charts import Chart, Curve, interval_chart, line_chart
from fullconv.report.findings import Findings
from fullconv.report.pictures import chosen, sheet_of
from fullconv.report.sections import (
    classes_table,
    confusions_table,
    interval_text,
    matrix_table,
    scores_table,
    size_table,
    zone_table,
)
from fullconv.report.source import Source
from fullconv.report.verdict import Verdict

__all__ = ["render", "write_report"]

FOLDED = 30
"""Classes, above which the page folds the confusion matrix."""

SCORES = {
    "mean_iou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "fw_iou": "f.w. IoU",
}
"""Columns of metrics.csv by their names on the page."""


def write_report(path: Path, measured: Measured, source: Source) -> Verdict:
    """Write the page and return its verdict. FullconvError if it cannot be written, DataError if an image is gone."""
    found = Findings(measured, source)
    write_text(path, render(found))
    return found.verdict


def render(found: Findings) -> str:
    """Return the whole page."""
    measured, interval = found.measured, found.bootstrap.mean_iou
    choices, settings = _choices(found), _settings(found)
    nav = {
        "scores": "Scores",
        "classes": "Classes",
        "confusions": "Confusions",
        "places": "Errors",
        "pictures": "Pictures",
        "curves": "Training" if found.source.curves else "",
        "about": "Data",
        "choices": "Choices" if choices else "",
        "settings": "Settings" if settings else "",
    }
    return render_page(
        "report.html",
        title=f"{found.source.network}: {found.data}, {measured.split}",
        nav=[(id, name) for id, name in nav.items() if name],
        verdict=found.verdict,
        mean_iou=percent(found.scores.mean_iou),
        interval=f"{LEVEL}\u00a0% interval {interval_text(interval)}" if interval else "one image: no interval",
        images=len(measured.images),
        split=measured.split,
        data=found.data,
        scores=scores_table(found),
        classes=classes_table(found),
        classes_chart=_classes_chart(found),
        bootstrap={"draws": f"{DRAWS:,}", "level": LEVEL, "seed": SEED},
        confusions=confusions_table(found),
        matrix=matrix_table(found),
        folded=len(found.scores.class_names) > FOLDED,
        zones=zone_table(found),
        sizes=size_table(found),
        legend=legend_of(measured.labels.class_names, measured.labels.palette),
        pictures={name: [sheet_of(measured, counts) for counts in group]
                  for name, group in chosen(measured.images).items()},
        curves=_curves(found.source),
        about=_about(found),
        chosen_here=found.chosen_here,
        choices=choices,
        settings=settings,
    )  # fmt: skip


def _classes_chart(found: Findings) -> Chart:
    scores = found.scores
    rows = list(zip(scores.class_names, scores.per_class_iou, found.bootstrap.per_class, strict=True))
    return interval_chart("chart-classes", f"IoU of each class with its {LEVEL} % interval, percent", rows)


def _curves(source: Source) -> dict[str, Any] | None:
    """Loss and scores over the epochs, as charts and as a table; None where no validation is known."""
    rows = source.curves
    if not rows:
        return None
    epochs = [row["epoch"] for row in rows]
    loss = Curve("loss", epochs, [row["train_loss"] for row in rows], 1)
    scores = [
        Curve(name, epochs, [100 * row[key] for row in rows], look) for look, (key, name) in enumerate(SCORES.items())
    ]
    cells = [
        [f"{row['epoch']:g}", f"{row['train_loss']:.4f}", *(percent(row[key], 2) for key in SCORES)] for row in rows
    ]
    return {
        "best": f"{max(rows, key=lambda row: row['mean_iou'])['epoch']:g}",
        "validations": len(rows),
        "charts": [
            line_chart("chart-loss", "Training loss", "", [loss]),
            line_chart("chart-scores", "Scores on the validation images, percent", " %", scores),
        ],
        "table": Table(
            "One row for each validation; scores in percent", ["epoch", "training loss", *SCORES.values()], cells
        ),
    }


def _about(found: Findings) -> Table:
    """What the scores were measured on, and how long that took."""
    measured = found.measured
    shapes = sorted({image.shape for image in measured.images})
    sizes = " to ".join(f"{height} x {width}" for height, width in dict.fromkeys((shapes[0], shapes[-1])))
    seconds = [image.seconds for image in measured.images]
    labelled = int(found.scores.confusion.sum())
    rows = [
        ["data", f"{measured.dataset.root} ({measured.dataset.layout} layout), split {measured.split}"],
        ["splits", measured.dataset.about],
        ["images", f"{len(measured.images)}, of {sizes} pixels (height x width)"],
        ["labelled pixels", f"{labelled:,}; {measured.ignored:,} ignored"],
        ["model", str(found.source.model)],
        ["time", f"{1000 * statistics.median(seconds):.0f} ms an image (median, without reading it; "
                 f"{1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"],
        ["machine", f"{platform.system()} {platform.machine()}, {usable_cores()} cores for this process, "
                    f"Python {platform.python_version()}"],
    ]  # fmt: skip
    return Table("Data, model and time", ["what", "value"], [row for row in rows if row[1]], "words")


def _choices(found: Findings) -> Table | None:
    """What was chosen before the first step, by the data or by hand, and why."""
    choices = found.source.settings.get("choices")
    if not isinstance(choices, Mapping):
        return None
    rows = [
        [name, str(choice.get("value")), str(choice.get("reason"))]
        for name, choice in choices.items()
        if isinstance(choice, Mapping)
    ]
    return Table("What was chosen, and why", ["what", "value", "why"], rows, "words") if rows else None


def _settings(found: Findings) -> Table | None:
    settings = {name: value for name, value in found.source.settings.items() if name != "choices"}
    rows = _flat(settings)
    return Table("Every setting of the run", ["setting", "value"], rows, "words") if rows else None


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names, with dots for what is nested, and values as JSON; texts as they are."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows

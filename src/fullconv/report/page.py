"""Write the report: one HTML page that needs no other file, no network and no script."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.cores import usable_cores
from fullconv.evaluation.intervals import DRAWS, FEW, FEWEST_SERIES, LEVEL, SEED
from fullconv.evaluation.measure import Measurement
from fullconv.files import write_text
from fullconv.pages.parts import Table, legend_of, percent
from fullconv.pages.render import render_page
from fullconv.report.charts import Chart, Curve, interval_chart, line_chart
from fullconv.report.findings import Findings
from fullconv.report.pictures import choose_images, draw_row
from fullconv.report.sections import (
    classes_table,
    confusions_table,
    matrix_table,
    scores_table,
    size_table,
    summarize_interval,
    zone_table,
)
from fullconv.report.source import Source
from fullconv.report.verdict import Verdict

__all__ = ["render", "write_report"]

FOLDED = 30
"""The largest number of classes whose confusion matrix the page shows unfolded."""

SCORES = {
    "mean_iou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "fw_iou": "f.w. IoU",
}
"""The columns of metrics.csv, with their names on the page."""


def write_report(path: Path, measurement: Measurement, source: Source) -> Verdict:
    """Write the page and return its verdict.

    Raises FullconvError if the page cannot be written, and DataError if an image cannot be read again.
    """
    findings = Findings(measurement, source)
    write_text(path, render(findings))
    return findings.verdict


def render(findings: Findings) -> str:
    """Return the whole page."""
    measurement, intervals = findings.measurement, findings.bootstrap
    choices, settings = _choices_table(findings), _settings_table(findings)
    nav = {
        "scores": "Scores",
        "classes": "Classes",
        "confusions": "Confusions",
        "places": "Errors",
        "pictures": "Pictures",
        "curves": "Training" if findings.source.curves else "",
        "about": "Data",
        "choices": "Choices" if choices else "",
        "settings": "Settings" if settings else "",
    }
    return render_page(
        "report.html",
        title=f"{findings.source.network}: {findings.data}, {measurement.split}",
        nav=[(id, name) for id, name in nav.items() if name],
        verdict=findings.verdict,
        mean_iou=percent(findings.scores.mean_iou),
        interval=summarize_interval(intervals),
        images=len(measurement.images),
        split=measurement.split,
        data=findings.data,
        scores=scores_table(findings),
        classes=classes_table(findings),
        classes_chart=_classes_chart(findings),
        intervals=intervals,
        bootstrap={"draws": f"{DRAWS:,}", "level": LEVEL, "seed": SEED, "few": FEW, "fewest": FEWEST_SERIES},
        confusions=confusions_table(findings),
        matrix=matrix_table(findings),
        folded=len(findings.scores.class_names) > FOLDED,
        zones=zone_table(findings),
        sizes=size_table(findings),
        legend=legend_of(measurement.labels.class_names, measurement.labels.palette),
        pictures={name: [draw_row(measurement, counts) for counts in group]
                  for name, group in choose_images(measurement.images).items()},
        curves=_curves(findings.source),
        about=_about_table(findings),
        chosen_here=findings.chosen_here,
        choices=choices,
        settings=settings,
    )  # fmt: skip


def _classes_chart(findings: Findings) -> Chart:
    scores = findings.scores
    rows = list(zip(scores.class_names, scores.per_class_iou, findings.bootstrap.per_class, strict=True))
    return interval_chart("chart-classes", f"IoU of each class with its {LEVEL} % interval, percent", rows)


def _curves(source: Source) -> dict[str, Any] | None:
    """Return loss and scores over the epochs, as charts and as a table; None without validations."""
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


def _about_table(findings: Findings) -> Table:
    """Build the table of data, model and time of the measurement."""
    measurement = findings.measurement
    shapes = sorted({image.shape for image in measurement.images})
    sizes = " to ".join(f"{height} x {width}" for height, width in dict.fromkeys((shapes[0], shapes[-1])))
    seconds = [image.seconds for image in measurement.images]
    labelled = int(findings.scores.confusion.sum())
    rows = [
        ["data", f"{measurement.dataset.root} ({measurement.dataset.layout} layout), split {measurement.split}"],
        *(["read as", note] for note in measurement.dataset.notes),
        ["images", f"{len(measurement.images)}, of {sizes} pixels (height x width)"],
        ["range", _describe_range(findings)],
        ["labelled pixels", f"{labelled:,} ({_share(labelled, measurement.ignored)}); {measurement.ignored:,} ignored"],
        ["model", str(findings.source.model)],
        ["time", f"{1000 * statistics.median(seconds):.0f} ms an image (median, without reading it; "
                 f"{1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"],
        ["machine", f"{platform.system()} {platform.machine()}, {usable_cores()} cores for this process, "
                    f"Python {platform.python_version()}"],
    ]  # fmt: skip
    return Table("Data, model and time", ["what", "value"], [row for row in rows if row[1]], "words")


def _share(labelled: int, ignored: int) -> str:
    return f"{100 * labelled / (labelled + ignored):.3g} % of the pixels are labelled"


def _describe_range(findings: Findings) -> str:
    """Return which numbers of the images become 0 to 255; empty if that is unknown, and for 8 bits."""
    bounds, values = findings.measurement.dataset.value_range, findings.source.settings.get("range")
    known = values if isinstance(values, Mapping) else {}
    if bounds is None and known.get("source") == "type":
        bounds = known["low"], known["high"]
    if bounds is None:
        return ""
    source = "by the type" if known.get("source") == "type" else f"from {known.get('source', 'the model')}"
    origin = ", by --range" if findings.measurement.range_is_given else f", {source}"
    return f"values {bounds[0]:.10g} to {bounds[1]:.10g} become 0 to 255{origin}"


def _choices_table(findings: Findings) -> Table | None:
    """Build the table of the choices before the first step, by data or by hand, with their reasons."""
    choices = findings.source.settings.get("choices")
    if not isinstance(choices, Mapping):
        return None
    rows = [
        [name, str(choice.get("value")), str(choice.get("reason"))]
        for name, choice in choices.items()
        if isinstance(choice, Mapping)
    ]
    return Table("What was chosen, and why", ["what", "value", "why"], rows, "words") if rows else None


def _settings_table(findings: Findings) -> Table | None:
    settings = {name: value for name, value in findings.source.settings.items() if name != "choices"}
    rows = _flatten(settings)
    return Table("Every setting of the run", ["setting", "value"], rows, "words") if rows else None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names, with dots for nested values, and values as JSON without those of None; texts are not quoted."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows

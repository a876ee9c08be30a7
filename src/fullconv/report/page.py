"""The report as one HTML page that needs no other file, no network and no script."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv import __version__
from fullconv.cores import usable_cores
from fullconv.files import write_text
from fullconv.report.charts import Line, line_chart
from fullconv.report.findings import Findings
from fullconv.report.intervals import LEVEL
from fullconv.report.markup import class_name, details, esc, points, section, table
from fullconv.report.measure import Measured
from fullconv.report.pictures import Sheet, chosen, sheet_of
from fullconv.report.sections import (
    classes_section,
    confusions_section,
    interval_text,
    places_section,
    scores_section,
)
from fullconv.report.source import Source
from fullconv.report.style import STYLE
from fullconv.report.verdict import Verdict

__all__ = ["render", "write_report"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(path: Path, measured: Measured, source: Source) -> Verdict:
    """Write the page; its verdict. FullconvError if it cannot be written, DataError where an image has gone since."""
    found = Findings(measured, source)
    write_text(path, render(found))
    return found.verdict


def render(found: Findings) -> str:
    """The whole page."""
    title = f"{found.source.network}: {found.data}, {found.measured.split}"
    sections = {
        "scores": scores_section(found),
        "classes": classes_section(found),
        "confusions": confusions_section(found),
        "places": places_section(found),
        "pictures": _pictures(found),
        "curves": _curves(found),
        "about": _about(found),
        "choices": _choices(found),
        "settings": _settings(found),
    }
    links = "".join(f'<li><a href="#{name}">{name}</a></li>' for name, text in sections.items() if text)
    body = "\n".join(text for text in sections.values() if text)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{esc(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">To the report</a>
<header>
<h1>{esc(title)}</h1>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="main">
{_headline(found)}
{body}
</main>
<footer>Written by fullconv {esc(__version__)}.</footer>
</body>
</html>
"""


def _headline(found: Findings) -> str:
    interval, images = found.bootstrap.mean_iou, len(found.measured.images)
    spread = f"{LEVEL}\u00a0%\u00a0interval {interval_text(interval)}" if interval else "one image: no interval"
    parts = []
    if found.verdict.alarm:
        remedies = "".join(f"<li>{esc(text)}</li>" for text in found.verdict.remedies)
        parts += [
            '<aside class="alarm" role="note" aria-labelledby="alarm-title">',
            '<h2 id="alarm-title">This model does not work</h2>',
            f"<p><strong>{esc(found.verdict.alarm)}</strong></p>",
            f"<p>Likely causes, and what to do:</p><ul>{remedies}</ul></aside>",
        ]
    parts.append(f'<p class="big">{points(found.scores.mean_iou)} % mean IU <small>{spread}</small></p>')
    parts.append(f"<p>{esc(found.verdict.headline)}</p>")
    parts += [f"<p>{esc(note)}</p>" for note in found.verdict.notes]
    parts.append(
        f'<p class="soft">Measured on the {images} image{"s" * (images > 1)} of split '
        f"“{esc(found.measured.split)}” of {esc(found.data)}.</p>"
    )
    return "\n".join(parts)


def _pictures(found: Findings) -> str:
    labels = found.measured.labels
    legend = "".join(
        f"<li>{class_name(name, color)}</li>" for name, color in zip(labels.class_names, labels.palette, strict=True)
    )
    parts = [
        "<p>From left to right: image, truth, prediction, error. Sorted by mean IU over the classes of each image. "
        "Lines part the classes, and what is of a black class is not tinted.</p>",
        f'<ul class="legend" aria-label="Colours of the classes">{legend}</ul>',
        '<p><span class="key wrong"></span>wrong <span class="key ignored"></span>not labelled, not counted</p>',
    ]
    for group, images in chosen(found.measured.images).items():
        parts.append(f"<h3>{group}</h3>")
        parts += [_figure(sheet_of(found.measured, counts)) for counts in images]
    return section("pictures", "Pictures", *parts)


def _figure(sheet: Sheet) -> str:
    name, score = esc(sheet.name), f"mean IU {points(sheet.mean_iou)} %"
    wrong = f"{points(sheet.wrong)} % of the labelled pixels wrong"
    shown = (
        (sheet.image, f"Image {name}"),
        (sheet.truth, f"Truth of {name}: {esc(', '.join(sheet.true_classes))}"),
        (sheet.prediction, f"Prediction for {name}, {score}: {esc(', '.join(sheet.predicted_classes))}"),
        (sheet.error, f"Errors on {name}: {wrong}, dark on the grey image"),
    )
    pictures = "".join(f'<img src="{uri}" alt="{alt}" loading="lazy">' for uri, alt in shown)
    return f'<figure class="sheet"><div>{pictures}</div><figcaption>{name}: {score}, {wrong}</figcaption></figure>'


def _curves(found: Findings) -> str:
    rows = found.source.curves
    if not rows:
        return ""
    epochs = [row["epoch"] for row in rows]
    loss = Line("loss", [row["train_loss"] for row in rows], 1)
    scores = [
        Line("mean IU", [100 * row["mean_iou"] for row in rows], 0),
        Line("pixel accuracy", [100 * row["pixel_accuracy"] for row in rows], 1),
    ]
    best = max(rows, key=lambda row: row["mean_iou"])
    cells = [
        [f"{row['epoch']:g}", f"{row['train_loss']:.4f}", points(row["mean_iou"], 2), points(row["pixel_accuracy"], 2)]
        for row in rows
    ]
    head = ["epoch", "training loss", "mean IU, %", "pixel accuracy, %"]
    return section(
        "curves",
        "Training",
        f"<p>The weights are those of epoch {best['epoch']:g}, the best of {len(rows)} "
        f"validation{'s' * (len(rows) > 1)} by mean IU. The scores above are of these weights, measured anew.</p>",
        '<div class="charts">',
        line_chart("chart-loss", "Training loss", "", epochs, [loss]),
        line_chart("chart-scores", "Validation, percent", " %", epochs, scores),
        "</div>",
        details("The validations as a table", table("One row a validation", head, cells)),
    )


def _about(found: Findings) -> str:
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
    optimistic = (
        "<p>The best weights were chosen by their mean IU on these very images, which makes the scores a little "
        "optimistic; images that had no part in the training tell more.</p>"
    )
    shown = [[esc(name), esc(value)] for name, value in rows if value]
    return section(
        "about",
        "What was measured",
        table("Data, model and time", ["what", "value"], shown, "words"),
        optimistic if found.chosen_here else "",
    )


def _choices(found: Findings) -> str:
    """What was decided before the first step, by the data or by hand, and why."""
    choices = found.source.settings.get("choices")
    if not isinstance(choices, Mapping):
        return ""
    rows = [
        [esc(text) for text in (name, choice.get("value"), choice.get("reason"))]
        for name, choice in choices.items()
        if isinstance(choice, Mapping)
    ]
    return section("choices", "Choices", table("What was chosen, and why", ["what", "value", "why"], rows, "words"))


def _settings(found: Findings) -> str:
    told = {name: value for name, value in found.source.settings.items() if name != "choices"}
    rows = [[esc(name), esc(value)] for name, value in _flat(told)]
    if not rows:
        return ""
    return section("settings", "Settings", table("Every setting of the run", ["setting", "value"], rows, "words"))


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names, with dots for what is nested, and values as JSON; texts as they are."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows

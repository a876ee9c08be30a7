"""Build the tables of the report: scores, classes, confusions, and the location of the errors."""

from __future__ import annotations

import numpy as np

from fullconv.evaluation.error_location import LEAST, RADIUS
from fullconv.evaluation.evaluate import PIECE_PIXELS
from fullconv.evaluation.intervals import FEW, LEVEL, Bootstrap, Interval
from fullconv.pages.parts import Cell, Row, Table, css_color, percent
from fullconv.report.findings import Findings

__all__ = [
    "classes_table",
    "confusions_table",
    "format_interval",
    "matrix_table",
    "scores_table",
    "size_table",
    "summarize_interval",
    "zone_table",
]

CONFUSIONS = 10
"""The largest number of rows in the table of confusions."""


def format_interval(interval: Interval | None) -> str:
    """Return the bounds of an interval in percent; a dash for None."""
    return "–" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def summarize_interval(intervals: Bootstrap) -> str:
    """Return the interval of the mIoU, with the series if these were drawn; or why there is none."""
    of_series = f"{intervals.images} images of {intervals.series} series"
    if intervals.mean_iou is None:
        return f"{of_series}: no interval" if intervals.in_series else "one image: no interval"
    text = f"{LEVEL}\u00a0% interval {format_interval(intervals.mean_iou)}"
    return f"{text}, {of_series}" if intervals.in_series else text


def scores_table(findings: Findings) -> Table:
    """Build the table of the four scores, of the model and of the majority class."""
    names = {
        "pixel_accuracy": "Pixel accuracy",
        "mean_accuracy": "Mean accuracy",
        "mean_iou": "mIoU",
        "fw_iou": "Frequency-weighted IoU",
    }
    rows = []
    for key, name in names.items():
        score, base = getattr(findings.scores, key), getattr(findings.baseline, key)
        rows.append([name, percent(score, 2), percent(base, 2), f"{100 * (score - base):+.2f}"])
    count, images = int(findings.scores.confusion.sum()), len(findings.measurement.images)
    return Table(
        f"Percent, over all {count:,} labelled pixels of {images} image{'s' * (images > 1)} together",
        ["score", "model", f"every pixel “{findings.majority}”", "gain"],
        rows,
    )


def classes_table(findings: Findings) -> Table:
    """Build the table of the IoU of each class with its interval, recall and frequency."""
    scores, intervals, with_it = findings.scores, findings.bootstrap, findings.images_with.tolist()
    true, predicted, hit = scores.confusion.sum(1), scores.confusion.sum(0), scores.confusion.diagonal()
    total = scores.confusion.sum()
    unit = "series" if intervals.in_series else "image"
    few = min(FEW, intervals.series) if intervals.in_series else FEW  # of few series, the page says so once
    notes = [_note(*of, unit, few) for of in zip(findings.series_with.tolist(), scores.per_class_iou, strict=True)]
    rows: list[Row] = []
    for k, (iou, interval) in enumerate(zip(scores.per_class_iou, intervals.per_class, strict=True)):
        rows.append([
            _class(findings, k), "absent" if iou is None else percent(iou), format_interval(interval),
            percent(hit[k] / true[k] if true[k] else None), percent(true[k] / total, 2),
            percent(predicted[k] / total, 2), str(with_it[k]), Cell(notes[k], kind="note"),
        ])  # fmt: skip
    spread = f"{LEVEL}\u00a0% interval"
    columns = ["class", "IoU", spread, "recall", "share of truth", "share predicted", "images", "note"]
    if not any(notes):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table("Percent; “images” counts the images that have the class in their truth", columns, rows)


def _class(findings: Findings, k: int, kind: str = "") -> Cell:
    return Cell(findings.scores.class_names[k], css_color(findings.measurement.labels.palette[k]), kind=kind)


def _note(count: int, iou: float | None, unit: str, few: int) -> str:
    if iou is None:
        return "neither in the truth nor predicted; not part of the mean"
    if not count:
        return "predicted, but never in the truth"
    if count < few:
        plural = "s" * (count > 1 and unit != "series")
        return f"in {count} {unit}{plural} only: the IoU and its interval are rough"
    return ""


def confusions_table(findings: Findings) -> Table | None:
    """Build the table of the largest confusions; return None if no pixel is wrong."""
    scores = findings.scores
    true = scores.confusion.sum(1)
    wrong = scores.confusion - np.diag(scores.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    rows: list[Row] = [
        [
            _class(findings, i),
            _class(findings, j, "text"),
            percent(wrong[i, j] / true[i]),
            percent(wrong[i, j] / wrong.sum()),
        ]
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    head = ["true class", "predicted as", "of the class, %", "of all wrong pixels, %"]
    return Table("The largest confusions, by pixels", head, rows) if rows else None


def matrix_table(findings: Findings) -> Table:
    """Build the confusion matrix; classes without a pixel in the truth have no row."""
    scores = findings.scores
    shares = scores.confusion / np.maximum(scores.confusion.sum(1, keepdims=True), 1)
    rows: list[Row] = [
        [name, *(_share(share, i == j) for j, share in enumerate(shares[i].tolist()))]
        for i, name in enumerate(scores.class_names)
        if scores.confusion[i].any()
    ]
    caption = "Rows are true classes, columns predicted ones; percent of the row’s pixels, with a shade to match"
    return Table(caption, ["true class", *scores.class_names], rows, "matrix")


def _share(share: float, diagonal: bool) -> Cell:
    """Return one cell of the matrix; the style sheet has twenty shades, `s1` to `s20`."""
    text = "0" if share == 0 else "<0.1" if share < 0.0005 else percent(share)
    shade = round(20 * share)
    return Cell(text, kind=" ".join(["diagonal"] * diagonal + [f"s{shade}"] * (shade > 0)))


def zone_table(findings: Findings) -> Table:
    """Build the table of the errors near boundaries and inside regions."""
    boundary, interior = findings.measurement.boundary, findings.measurement.interior
    pixels, wrong = boundary.pixels + interior.pixels, boundary.wrong + interior.wrong
    rows = []
    for name, zone in (("at a boundary", boundary), ("inside", interior)):
        accuracy = 1 - zone.wrong / zone.pixels if zone.pixels else None
        errors = zone.wrong / wrong if wrong else None
        rows.append([name, percent(zone.pixels / pixels), percent(accuracy), percent(errors)])
    head = ["where", "share of pixels", "pixel accuracy", "share of wrong pixels"]
    caption = f"Percent; a pixel is at a boundary where another label is at most {RADIUS} rows and columns away"
    return Table(caption + _without_regions(findings.measurement.without_regions), head, rows)


def size_table(findings: Findings) -> Table | None:
    """Build the table of the errors in small regions and in large ones; return None without regions."""
    regions = findings.measurement.regions
    groups, rows = regions.thirds(), []
    for name, group in zip(_names(len(groups)), groups, strict=True):
        extent = f"{group.least:,} to {group.most:,}" if group.most > group.least else f"{group.least:,}"
        share = percent(group.mostly_right / group.regions)
        rows.append([name, extent, f"{group.regions:,}", percent(group.recall), share])
    head = ["regions of the truth", "pixels each", "regions", "recall, %", "mostly right, %"]
    caption = (
        "The truth’s connected regions by size, in thirds. Recall is the share of a region’s pixels that are right, "
        "averaged over regions; a region is mostly right if at least half of it is. "
        f"{regions.tiny:,} regions of fewer than {LEAST} pixels are left out: they are mostly noise in the masks"
    )
    return Table(caption, head, rows) if rows else None


def _without_regions(images: int) -> str:
    if not images:
        return ""
    which = f"{images} image{'s' * (images > 1)} of more than {PIECE_PIXELS:,} pixels"
    return f". The regions of {which} are not counted"


def _names(groups: int) -> list[str]:
    return {0: [], 1: ["all"], 2: ["smaller", "larger"]}.get(groups, ["small", "medium", "large"])

"""The sections of the report that are numbers: scores, classes, confusions, places."""

from __future__ import annotations

import numpy as np

from fullconv.report.charts import interval_chart
from fullconv.report.findings import Findings
from fullconv.report.intervals import DRAWS, LEVEL, SEED, Interval
from fullconv.report.markup import class_name, details, esc, points, section, table
from fullconv.report.places import LEAST, RADIUS
from fullconv.run.evaluate import PIECE_PIXELS

__all__ = ["classes_section", "confusions_section", "interval_text", "places_section", "scores_section"]

FEW = 10
"""Images, below which an interval over them is rough itself."""

CONFUSIONS = 10
FOLDED = 30
"""Classes, above which the matrix is folded."""


def interval_text(interval: Interval | None) -> str:
    """Low to high in percent; a dash where there is none."""
    return "–" if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def scores_section(found: Findings) -> str:
    """The four scores of the model and of the majority class."""
    names = {
        "pixel_accuracy": "Pixel accuracy",
        "mean_accuracy": "Mean accuracy",
        "mean_iou": "Mean IU",
        "fw_iou": "Frequency-weighted IU",
    }
    rows = []
    for key, name in names.items():
        ours, base = getattr(found.scores, key), getattr(found.baseline, key)
        rows.append([name, points(ours, 2), points(base, 2), f"{100 * (ours - base):+.2f}"])
    head = ["score", "model", f"every pixel “{esc(found.majority)}”", "gain"]
    count = int(found.scores.confusion.sum())
    caption = f"Percent, over {count:,} labelled pixels of {len(found.measured.images)} images counted together"
    return section(
        "scores",
        "Scores",
        table(caption, head, rows),
        "<p>The baseline is told the truth's most frequent class and calls every pixel that: a model that does not "
        "beat it has learnt nothing that the frequencies do not say.</p>",
    )


def classes_section(found: Findings) -> str:
    """IU of each class with its interval, and how much of it there is."""
    scores, labels, with_it = found.scores, found.measured.labels, found.images_with.tolist()
    true, predicted, hit = scores.confusion.sum(1), scores.confusion.sum(0), scores.confusion.diagonal()
    total, rows, chart = scores.confusion.sum(), [], []
    for k, (name, iou) in enumerate(zip(scores.class_names, scores.per_class_iou, strict=True)):
        interval = found.bootstrap.per_class[k]
        recall = hit[k] / true[k] if true[k] else None
        rows.append([
            class_name(name, labels.palette[k]), "absent" if iou is None else points(iou), interval_text(interval),
            points(recall), points(true[k] / total, 2), points(predicted[k] / total, 2), str(with_it[k]),
            f'<td class="soft">{_note(with_it[k], iou)}</td>',
        ])  # fmt: skip
        chart.append((name, iou, interval))
    spread = f"{LEVEL}\u00a0%\u00a0interval"
    columns = ["class", "IU", spread, "recall", "share of truth", "share predicted", "images", "note"]
    if not any(map(_note, with_it, scores.per_class_iou)):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return section(
        "classes",
        "Classes",
        table("Percent; images are those with the class in their truth", columns, rows),
        f"<p>Intervals: the images are drawn {DRAWS:,} times with replacement (seed {SEED}), their confusion matrices "
        f"are summed, and the middle {LEVEL} % of the scores are given. They say how far the scores would move with "
        "other images of the same kind, not with another training; images that resemble each other, as frames of one "
        "video do, make them too narrow.</p>",
        interval_chart("chart-classes", f"IU of each class with its {LEVEL} % interval, percent", chart),
    )


def _note(images: int, iou: float | None) -> str:
    if iou is None:
        return "neither there nor predicted; not in the mean"
    if not images:
        return "predicted, but never there"
    if images < FEW:
        return f"in {images} image{'s' * (images > 1)} only: take the IU and its interval as rough"
    return ""


def confusions_section(found: Findings) -> str:
    """The largest confusions in words, and the whole matrix."""
    scores, palette = found.scores, found.measured.labels.palette
    true = scores.confusion.sum(1)
    wrong = scores.confusion - np.diag(scores.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j]:
            pair = [class_name(scores.class_names[k], palette[k]) for k in (i, j)]
            rows.append([pair[0], f'<td class="text">{pair[1]}</td>', points(wrong[i, j] / true[i]),
                         points(wrong[i, j] / wrong.sum())])  # fmt: skip
    head = ["true class", "taken for", "of the class, %", "of all wrong pixels, %"]
    largest = table("The largest confusions, by pixels", head, rows) if rows else "<p>No pixel is wrong.</p>"
    matrix = _matrix(found)
    if len(scores.class_names) > FOLDED:
        matrix = details(f"The confusion matrix of all {len(scores.class_names)} classes", matrix)
    return section("confusions", "Confusions", largest, matrix)


def _matrix(found: Findings) -> str:
    scores = found.scores
    shares = scores.confusion / np.maximum(scores.confusion.sum(1, keepdims=True), 1)
    rows = []
    for i, name in enumerate(scores.class_names):
        if scores.confusion[i].any():
            rows.append([esc(name), *(_cell(share, i == j) for j, share in enumerate(shares[i].tolist()))])
    caption = "Rows are the true class, columns the predicted one; percent of the row’s pixels, shaded by it"
    return table(caption, ["true class", *(esc(name) for name in scores.class_names)], rows, "matrix")


def _cell(share: float, diagonal: bool) -> str:
    label = ' class="diagonal"' if diagonal else ""
    text = "0" if share == 0 else "&lt;0.1" if share < 0.0005 else points(share)
    shade = f' style="--s:{share:.2f}"' if share >= 0.005 else ""
    return f"<td{label}{shade}>{text}</td>"


def places_section(found: Findings) -> str:
    """Boundary against interior, and small regions against large ones."""
    measured = found.measured
    boundary, interior = measured.boundary, measured.interior
    pixels, wrong = boundary.pixels + interior.pixels, boundary.wrong + interior.wrong
    rows = []
    for name, zone in (("at a boundary", boundary), ("inside", interior)):
        accuracy = 1 - zone.wrong / zone.pixels if zone.pixels else None
        errors = zone.wrong / wrong if wrong else None
        rows.append([name, points(zone.pixels / pixels), points(accuracy), points(errors)])
    head = ["where", "share of pixels", "pixel accuracy", "share of wrong pixels"]
    caption = f"Percent; a boundary is where another label lies within {RADIUS} pixels, along rows and columns"
    sizes, groups = [], measured.regions.thirds()
    for name, group in zip(_names(len(groups)), groups, strict=True):
        extent = f"{group.least:,} to {group.most:,}" if group.most > group.least else f"{group.least:,}"
        share = points(group.found / group.regions)
        sizes.append([name, extent, f"{group.regions:,}", points(group.recall), share])
    size_head = ["regions of the truth", "pixels each", "regions", "recall, %", "mostly right, %"]
    size_caption = (
        "The truth’s connected regions by size, in thirds; recall is the share of a region’s pixels that are right, "
        "averaged over regions, and mostly right are those with at least half. "
        f"{measured.regions.tiny:,} regions of fewer than {LEAST} pixels, mostly noise of the masks, are left out"
    )
    left_out = measured.without_regions
    images = f"{left_out} image{'s' * (left_out > 1)} of more than {PIECE_PIXELS:,} pixels"
    note = f"<p>The regions of {images} are not counted.</p>"
    return section(
        "places",
        "Where the errors sit",
        table(caption, head, rows),
        table(size_caption, size_head, sizes) if sizes else "",
        note if left_out else "",
    )


def _names(groups: int) -> list[str]:
    return {0: [], 1: ["all"], 2: ["smaller", "larger"]}.get(groups, ["small", "middle", "large"])

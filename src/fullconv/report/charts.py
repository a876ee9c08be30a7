"""Compute the coordinates of SVG charts: lines over epochs, and a dot with its interval for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fullconv.evaluation.intervals import Interval
from fullconv.pages.parts import percent

__all__ = ["MARKS", "Chart", "ChartText", "Curve", "DrawnLine", "interval_chart", "line_chart"]

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 40, 122, 14, 38
ROW, NAMES = 22, 120

MARKS = (
    "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "m-3.2 -3.2h6.4v6.4h-6.4z",
    "m0 -4.2l4 7h-8z",
    "m0 -4.4l4.4 4.4l-4.4 4.4l-4.4 -4.4z",
)
"""SVG paths of a disc, a square, a triangle and a diamond around the current point, one for each look."""

MARKED = 12
"""The largest number of markers on a line; the last point always has one."""


@dataclass(frozen=True)
class Curve:
    """The values of one line over epochs, and its name; `look`, 0 to 3, selects colour, dashes and markers."""

    name: str
    epochs: Sequence[float]
    values: Sequence[float]
    look: int = 0


@dataclass(frozen=True)
class ChartText:
    """A text and its position; `kind` holds its CSS classes."""

    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class DrawnLine:
    """A line and its markers as SVG paths."""

    path: str
    marks: str
    look: int


@dataclass(frozen=True)
class Chart:
    """The parts of a chart for the template; `description` is its content in words, for screen readers."""

    id: str
    title: str
    description: str
    height: float
    grid: Sequence[str]
    lines: Sequence[DrawnLine]
    texts: Sequence[ChartText]
    width: float = WIDTH


def line_chart(id: str, title: str, unit: str, curves: Sequence[Curve], marked: Sequence[float] = ()) -> Chart:
    """Draw curves over epochs, each with its name on the right, and a vertical line at each `marked` epoch.

    Curves without values are left out.
    """
    curves = [curve for curve in curves if curve.values]
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    last = max((epoch for curve in curves for epoch in curve.epochs), default=1.0)
    ticks = _ticks(min(finite, default=0.0), max(finite, default=1.0))
    across, up = _Scale(0, last, LEFT, WIDTH - RIGHT), _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    grid = [f"M{LEFT} {up(tick)}H{WIDTH - RIGHT}" for tick in ticks]
    grid += [f"M{across(epoch)} {TOP}V{HEIGHT - BOTTOM}" for epoch in marked]
    texts = [ChartText(LEFT - 6, up(tick) + 4, f"{tick:g}", "end") for tick in ticks]
    texts += [ChartText(across(tick), HEIGHT - BOTTOM + 16, str(tick), "middle") for tick in _epoch_ticks(last)]
    texts.append(ChartText((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", "middle"))
    drawn, ends = [], []
    for curve in curves:
        points = [(across(x), up(y)) for x, y in zip(curve.epochs, curve.values, strict=True) if math.isfinite(y)]
        drawn.append(_line(points, curve.look))
        ends.append(points[-1][1] if points else float(TOP))
    for curve, y in zip(curves, _separate(ends), strict=True):
        drawn.append(DrawnLine("", f"M{WIDTH - RIGHT + 12} {y}{MARKS[curve.look]}", curve.look))
        texts.append(ChartText(WIDTH - RIGHT + 20, y + 4, curve.name, "name"))
    spans = [f"{curve.name} from {curve.values[0]:.4g} to {curve.values[-1]:.4g}{unit}" for curve in curves]
    return Chart(id, title, f"{'; '.join(spans) or 'no values'}, over {last:g} epochs", HEIGHT, grid, drawn, texts)


def interval_chart(id: str, title: str, rows: Sequence[tuple[str, float | None, Interval | None]]) -> Chart:
    """Draw a row for each class: its IoU, 0 to 100, as a dot on a line over its interval."""
    height = ROW * len(rows) + BOTTOM
    across = _Scale(0, 100, NAMES + 8, WIDTH - 50)
    grid = [f"M{across(tick)} 4V{height - BOTTOM + 4}" for tick in range(0, 101, 25)]
    texts = [ChartText(across(tick), height - BOTTOM + 20, str(tick), "middle") for tick in range(0, 101, 25)]
    drawn = []
    for number, (name, value, interval) in enumerate(rows):
        y = ROW * number + ROW / 2 + 4
        texts.append(ChartText(NAMES, y + 4, name if len(name) <= 18 else f"{name[:17]}…", "end"))
        texts.append(ChartText(WIDTH - 42, y + 4, percent(value), "name"))
        low, high = (across(100 * end) for end in (interval.low, interval.high)) if interval else (0.0, 0.0)
        whisker = f"M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8" if interval else ""
        marks = "" if value is None else f"M{across(100 * value)} {y}{MARKS[0]}"
        drawn.append(DrawnLine(whisker, marks, 0))
    best = max((value or 0.0 for _, value, _ in rows), default=0.0)
    description = f"{len(rows)} classes, the best at {percent(best)}; the table has the numbers"
    return Chart(id, title, description, height, grid, drawn, texts)


@dataclass(frozen=True)
class _Scale:
    """A map from values (`low` to `high`) to coordinates (`start` to `end`), rounded to a tenth."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 1)


def _line(points: Sequence[tuple[float, float]], look: int) -> DrawnLine:
    path = "M" + "L".join(f"{x} {y}" for x, y in points) if points else ""
    marked = points[:: -max(1, math.ceil(len(points) / MARKED))]
    return DrawnLine(path, "".join(f"M{x} {y}{MARKS[look]}" for x, y in marked), look)


def _separate(heights: Sequence[float], distance: float = 15) -> list[float]:
    """Move names down until they do not overlap, and all of them up if the last one leaves the chart."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + distance)
    excess = max([*moved, 0.0]) - (HEIGHT - BOTTOM)
    return [height - excess for height in moved] if excess > 0 else moved


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round values that enclose both; they start at zero if `low` is less than half of `high`."""
    low = 0.0 if 0 <= low < high / 2 else low
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _epoch_ticks(most: float) -> list[int]:
    """Return whole epochs for the axis: zero and at most six others."""
    step = max(1, math.ceil(most / 6))
    return list(range(0, math.floor(most) + 1, step))

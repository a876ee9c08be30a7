"""Charts as SVG inside the page: lines over epochs, and a dot with its interval for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fullconv.report.intervals import Interval
from fullconv.report.markup import esc, points

__all__ = ["Line", "interval_chart", "line_chart"]

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 104, 14, 38
ROW, NAMES = 22, 120


@dataclass(frozen=True)
class Line:
    """A series with its name; `look` is 0 or 1: colour, dashes and markers go together."""

    name: str
    values: Sequence[float]
    look: int = 0


def line_chart(ident: str, title: str, unit: str, epochs: Sequence[float], lines: Sequence[Line]) -> str:
    """Lines over epochs, each named at its end; the table of the same numbers belongs beside it."""
    finite = [value for line in lines for value in line.values if math.isfinite(value)]
    ticks = _ticks(min(finite, default=0.0), max(finite, default=1.0))
    across, up = _Scale(0, max(epochs), LEFT, WIDTH - RIGHT), _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in _whole(max(epochs)):
        parts.append(f'<text x="{across(tick)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    ends = _apart([up(line.values[-1]) if math.isfinite(line.values[-1]) else TOP for line in lines])
    for line, end in zip(lines, ends, strict=True):
        places = [(across(x), up(y)) for x, y in zip(epochs, line.values, strict=True) if math.isfinite(y)]
        parts.append(f'<polyline class="line look{line.look}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
        parts += [_marker(x, y, line.look) for x, y in places]
        parts.append(f'<text class="name" x="{WIDTH - RIGHT + 8}" y="{end + 4}">{esc(line.name)}</text>')
    told = "; ".join(f"{line.name} from {line.values[0]:.4g} to {line.values[-1]:.4g}{unit}" for line in lines)
    return _svg(ident, title, f"{told}, over {max(epochs):g} epochs", HEIGHT, parts)


def interval_chart(ident: str, title: str, rows: Sequence[tuple[str, float | None, Interval | None]]) -> str:
    """A row for each class: its IU as a dot on a line from the low to the high end of its interval, 0 to 100."""
    height = ROW * len(rows) + BOTTOM
    across = _Scale(0, 100, NAMES + 8, WIDTH - 50)
    parts = []
    for tick in range(0, 101, 25):
        parts.append(f'<path class="grid" d="M{across(tick)} 4V{height - BOTTOM + 4}"/>')
        parts.append(f'<text x="{across(tick)}" y="{height - BOTTOM + 20}" text-anchor="middle">{tick}</text>')
    for number, (name, value, interval) in enumerate(rows):
        y = ROW * number + ROW / 2 + 4
        shown = name if len(name) <= 18 else f"{name[:17]}…"
        parts.append(f'<text x="{NAMES}" y="{y + 4}" text-anchor="end">{esc(shown)}</text>')
        if interval is not None:
            low, high = across(100 * interval.low), across(100 * interval.high)
            parts.append(f'<path class="whisker" d="M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"/>')
        if value is not None:
            parts.append(_marker(across(100 * value), y, 0))
        parts.append(f'<text class="name" x="{WIDTH - 42}" y="{y + 4}">{points(value)}</text>')
    best = max((value or 0.0 for _, value, _ in rows), default=0.0)
    return _svg(
        ident, title, f"{len(rows)} classes, the best at {points(best)}; the table has the numbers", height, parts
    )


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high` onto coordinates from `start` to `end`, to a tenth."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 1)


def _marker(x: float, y: float, look: int) -> str:
    """A disc or a square."""
    if look == 0:
        return f'<circle class="mark look0" cx="{x}" cy="{y}" r="3.5"/>'
    return f'<rect class="mark look1" x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4"/>'


def _apart(places: Sequence[float], room: float = 15) -> list[float]:
    """Heights of labels, moved down as far as they would cover the one above."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda index: places[index])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + room)
    return moved


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round values, which enclose both, from zero where that is not far below."""
    low = 0.0 if 0 <= low < high / 2 else low
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _whole(most: float) -> list[int]:
    """Whole epochs for the axis, six at most beside zero."""
    step = max(1, math.ceil(most / 6))
    return list(range(0, math.floor(most) + 1, step))


def _svg(ident: str, title: str, told: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{ident}-t {ident}-d">'
    names = f'<title id="{ident}-t">{esc(title)}</title><desc id="{ident}-d">{esc(told)}</desc>'
    caption = f"<figcaption>{esc(title)}</figcaption>"
    return f'<figure class="chart">{caption}{head}{names}{"".join(parts)}</svg></figure>'

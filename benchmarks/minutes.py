"""Print after how many minutes trainings reached a share of their final mIoU on the validation images.

    python benchmarks/minutes.py RUN [RUN ...] [--share 0.95]

RUN is a folder that `fullconv train` wrote, by any version: it reads the folder's metrics.csv. Between two validations
the mIoU is taken to change in a straight line; before the first it grows from zero. The last column has the minutes to
the goal of the first run, so that trainings of two versions, or of two options, are compared by the same score.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path


def read_curve(run: Path) -> list[tuple[float, float]]:
    """Return minutes and mIoU (a fraction) of each validation of a run."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mean_iou"]]
    return [(float(row["seconds"]) / 60, float(row["mean_iou"])) for row in rows]


def minutes_to(goal: float, curve: list[tuple[float, float]]) -> float | None:
    """Return when a curve first reaches a goal; None if it never does."""
    before, low = 0.0, 0.0
    for minutes, score in curve:
        if score >= goal and score == low:
            return minutes
        if score >= goal:
            return before + (minutes - before) * (goal - low) / (score - low)
        before, low = minutes, score
    return None


def make_table(curves: list[tuple[str, list[tuple[float, float]]]], share: float) -> str:
    """Return a Markdown table with a row for each run, from names and curves."""
    first = share * curves[0][1][-1][1]
    lines = [
        f"| run | minutes | final mIoU | minutes to {share:g} of it | minutes to {100 * first:.1f} |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, curve in curves:
        minutes, final = curve[-1]
        reached = (minutes_to(goal, curve) for goal in (share * final, first))
        times = " | ".join("not reached" if one is None else f"{one:.1f}" for one in reached)
        lines.append(f"| {name} | {minutes:.1f} | {100 * final:.1f} | {times} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--share", type=float, default=0.95)
    options = parser.parse_args()
    curves = [(str(run), read_curve(run)) for run in options.runs]
    if empty := [name for name, curve in curves if not curve]:
        raise SystemExit(f"{empty[0]} has no validation yet")
    print(make_table(curves, options.share))


if __name__ == "__main__":
    main()

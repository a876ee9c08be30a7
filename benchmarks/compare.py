"""Train one network several times, each time with a different value of one option, and print a table of the scores.

    python benchmarks/compare.py --vary upsample fixed learned unpool resize --out runs/upsample -- DATA --epochs 6 ...
    python benchmarks/compare.py --vary recipe default paper --out runs/recipe -- DATA --epochs 4 ...

All arguments after `--` go to `fullconv train`. Each value has a run folder below --out. If the script is run again, it
resumes unfinished trainings and only reads finished ones. The table is also written to OUT/table.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fullconv.files import write_text

SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")


def train(option: str, value: str, out: Path, rest: list[str]) -> dict[str, Any]:
    """Start or resume one training, unless it is finished, and return its scores.json."""
    folder = out / value
    command = [sys.executable, "-c", "from fullconv.cli.app import main; main()", "train", *rest]
    subprocess.run([*command, f"--{option}", value, "--out", str(folder), "--resume"], check=True)
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return scores


def make_table(option: str, results: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table of the four scores in percent, the parameters and the seconds of training."""
    lines = [f"| {option} | pixel acc. | mean acc. | mIoU | f.w. IU | parameters | seconds |", "|---|" + 6 * "---:|"]
    for value, scores in results.items():
        cells = [f"{100 * scores[name]:.1f}" for name in SCORES]
        run = scores["run"]
        lines.append(f"| {value} | {' | '.join(cells)} | {run['parameters']:,} | {run['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not finished, and print the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vary", nargs="+", required=True, metavar=("OPTION", "VALUE"))
    parser.add_argument("--out", type=Path, required=True)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    option, *values = arguments.vary
    results: dict[str, dict[str, Any]] = {}
    for value in values:
        results[value] = train(option, value, arguments.out, sys.argv[split + 1 :])
        text = make_table(option, results)
        write_text(arguments.out / "table.md", text)
        print(text, flush=True)


if __name__ == "__main__":
    main()

"""Train one network several times, with another value of one option each time, and print the table.

    python benchmarks/compare.py --vary upsample fixed learned unpool resize --out runs/upsample -- DATA --epochs 6 ...
    python benchmarks/compare.py --vary recipe default paper --out runs/recipe -- DATA --epochs 4 ...

What stands behind `--` goes to `fullconv train` as it is. Each value has its run folder below --out; run again, the
script goes on where it was stopped, and what is finished is only read. The table is written to OUT/table.md, too.
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
    """The scores.json of one run, which is started, gone on with, or finished already."""
    folder = out / value
    command = [sys.executable, "-c", "from fullconv.cli import main; main()", "train", *rest]
    subprocess.run([*command, f"--{option}", value, "--out", str(folder), "--resume"], check=True)
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return scores


def table(option: str, found: dict[str, dict[str, Any]]) -> str:
    """Markdown: the four scores in percent, parameters, and seconds of training."""
    lines = [f"| {option} | pixel acc. | mean acc. | mean IU | f.w. IU | parameters | seconds |", "|---|" + 6 * "---:|"]
    for value, scores in found.items():
        cells = [f"{100 * scores[name]:.1f}" for name in SCORES]
        run = scores["run"]
        lines.append(f"| {value} | {' | '.join(cells)} | {run['parameters']:,} | {run['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is left to train, printing the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vary", nargs="+", required=True, metavar=("OPTION", "VALUE"))
    parser.add_argument("--out", type=Path, required=True)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    option, *values = arguments.vary
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        found[value] = train(option, value, arguments.out, sys.argv[split + 1 :])
        text = table(option, found)
        write_text(arguments.out / "table.md", text)
        print(text, flush=True)


if __name__ == "__main__":
    main()

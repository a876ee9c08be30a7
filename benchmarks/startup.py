"""Measure how long `fullconv --help` takes, compared with Python alone and with importing torch.

    python benchmarks/startup.py [RUNS]

Prints the fastest of RUNS (5) runs of each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

HELP = "import sys; from fullconv.cli.app import main; sys.argv = {!r}; main()"
PROGRAMS = {
    "python -c pass": "pass",
    "import torch": "import torch",
    "fullconv --help": HELP.format(["fullconv", "--help"]),
    "fullconv train --help": HELP.format(["fullconv", "train", "--help"]),
}


def measure(code: str, runs: int) -> tuple[float, float]:
    """Run a Python program several times; return the least wall-clock and the least processor seconds."""
    walls, processors = [], []
    for _ in range(runs):
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        walls.append(time.perf_counter() - start)
        processors.append(sum(after[2:4]) - sum(before[2:4]))
    return min(walls), min(processors)


def main() -> None:
    """Measure, and print one line for each program."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for name, code in PROGRAMS.items():
        wall, processor = measure(code, runs)
        print(f"{name:<24}{wall:6.2f} s, {processor:5.2f} s of processor time")


if __name__ == "__main__":
    main()

"""Measure how the memory of a process grows while it runs an exported file on images of random sizes.

    python benchmarks/memory_runner.py FILE.onnx [CALLS] [LARGEST] [onnx|openvino]

There are CALLS (10,000) calls; images have 1 to LARGEST (256) pixels per side. Prints the resident memory after call
100 and after every thousandth call. The growth is from call 100, after the largest sizes were seen, to the highest
value after it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from fullconv.choices import Backend
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.load import load_runner

WARM = 100


def read_resident() -> float:
    """Return the physical memory that this process holds now, in megabytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure; print one line for every thousand calls, then the growth."""
    kind: Backend = "openvino" if "openvino" in sys.argv[4:] else "onnx"
    runner = load_runner(Path(sys.argv[1]), kind)
    assert isinstance(runner, ExportedRunner)
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    largest = int(sys.argv[3]) if len(sys.argv) > 3 else 256
    random, start, first, most = np.random.default_rng(0), time.perf_counter(), 0.0, 0.0
    for call in range(1, calls + 1):
        height, width = random.integers(1, largest + 1, 2)
        images = random.integers(0, 256, (1, height, width, runner.info.input.channels), np.uint8)
        if call % 10:
            runner.label_maps(images)
        else:
            runner.logits(images)
        now = read_resident()
        first, most = (now, now) if call <= WARM else (first, max(most, now))
        if call == WARM or call % 1000 == 0:
            print(f"{call:>6} calls  {now:7.1f} MB  {time.perf_counter() - start:6.0f} s", flush=True)
    print(f"growth after call {WARM}: {most - first:.1f} MB")


if __name__ == "__main__":
    main()

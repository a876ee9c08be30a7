"""What 10,000 calls of random sizes do to the memory of a process that runs an exported file.

    python benchmarks/memory_runner.py FILE.onnx [CALLS] [LARGEST] [onnx|openvino]

Images have 1 to LARGEST (256) pixels a side. Prints the resident memory after calls 100, 1,000, 2,000, ...; the
growth is from the hundredth call, when the largest sizes have been seen, to the highest value after it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from fullconv.choices import Backend
from fullconv.run.exported import ExportedRunner
from fullconv.run.load import load_runner

WARM = 100


def resident() -> float:
    """Megabytes of physical memory that the process holds now (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """One line for every thousand calls, and the growth."""
    backend: Backend = "openvino" if "openvino" in sys.argv[4:] else "onnx"
    runner = load_runner(Path(sys.argv[1]), backend)
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
        now = resident()
        first, most = (now, now) if call <= WARM else (first, max(most, now))
        if call == WARM or call % 1000 == 0:
            print(f"{call:>6} calls  {now:7.1f} MB  {time.perf_counter() - start:6.0f} s", flush=True)
    print(f"growth after call {WARM}: {most - first:.1f} MB")


if __name__ == "__main__":
    main()

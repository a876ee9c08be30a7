"""Compare ONNX Runtime sessions: free against fixed image sizes, with and without memory arena and memory pattern.

    python benchmarks/sessions.py [FILE.onnx] [--size 360x480] [--rounds 15]

Without FILE the bundled `street` is measured. The first row is how fullconv runs: any size, an arena that keeps the
memory of the largest call, no memory pattern per size. All sessions take turns; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np

from fullconv.cores import usable_cores
from fullconv.runtime.models import bundled

# isort: split
import onnxruntime  # after fullconv, which switches its telemetry off


def open_session(path: Path, size: tuple[int, int] | None, arena: bool, pattern: bool) -> onnxruntime.InferenceSession:
    """Open a session as `run.onnx` does, except for the settings that are compared.

    `size` (height, width) fixes the shape of the input; None leaves it free.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.enable_cpu_mem_arena, options.enable_mem_pattern = arena, pattern
    for name, length in zip("NHW", (1, *size) if size else (), strict=False):
        options.add_free_dimension_override_by_name(name, length)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=bundled("street"))
    parser.add_argument("--size", default="360x480", help="height x width")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    kinds = [(fixed, arena, pattern) for fixed, pattern, arena in product((False, True), (False, True), (True, False))]
    ways = [(fixed, arena, pattern) for fixed, arena, pattern in kinds if arena or not pattern]
    sessions = [open_session(options.file, (height, width) if fixed else None, *settings) for fixed, *settings in ways]
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    seconds = np.empty((options.rounds + 1, len(ways)))
    for number in range(options.rounds + 1):
        for index in np.roll(range(len(ways)), -number):
            start = time.perf_counter()
            sessions[index].run(["logits"], {"images": image})
            seconds[number, index] = time.perf_counter() - start
    measured = seconds[1:]
    ratios = np.percentile(measured / measured[:, :1], (25, 50, 75), axis=0)
    print("| shape | keeps | ms | x ours |\n|---|---|---:|---:|")
    for index, (fixed, arena, pattern) in enumerate(ways):
        low, middle, high = ratios[:, index]
        shape = "fixed" if fixed else "any"
        memory = "arena, pattern" if pattern else "arena" if arena else "nothing"
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"| {shape} | {memory} | {1000 * np.median(measured[:, index]):.1f} | {spread} |")


if __name__ == "__main__":
    main()

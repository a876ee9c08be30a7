"""Measure each layer of an exported network on ONNX Runtime, against the rates that the machine reaches.

    python benchmarks/layers.py [FILE.onnx] [--image FILE] [--threads N] [--rounds 30] [--rows 20]

Without FILE the bundled `street` is measured. Times are those of ONNX Runtime's profiler, the smallest of all rounds,
so that other work on the machine counts little. The rates of the machine are those of a float32 matrix product of 512 x
512, with as many threads, and of a copy of 16 MB (bytes read and written), with one thread; they are the fastest of 200
calls. A layer's bytes are those of its input, weights and output, as if each moved once. A bound that a layer beats is
that of the memory: its input was still in a cache.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tiling import draw_picture

from fullconv.arrays import UInt8
from fullconv.cores import usable_cores
from fullconv.images import read_image
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes.cut import read_for

# isort: split
import onnxruntime  # after fullconv, which switches its telemetry off

GEMM, COPIED, CALLS = 512, 2**22, 200


@dataclass(frozen=True)
class Layer:
    """A layer: its name, kind, input and output shapes, smallest time in seconds, multiply-accumulates and bytes."""

    name: str
    kind: str
    shapes: str
    seconds: float
    macs: int
    moved: int


def measure_layers(path: Path, image: UInt8, threads: int, rounds: int) -> list[Layer]:
    """Return the layers, the slowest first."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        options.enable_mem_pattern, options.enable_profiling = False, True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(read_for(path, "logits"), options, providers=["CPUExecutionProvider"])
        for _ in range(rounds):
            session.run(["logits"], {"images": image[None]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    fastest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            before = fastest.get(event["name"])
            if before is None or event["dur"] < before["dur"]:
                fastest[event["name"]] = event
    layers = [describe(event) for event in fastest.values()]
    return sorted(layers, key=lambda layer: -layer.seconds)


def describe(event: dict[str, Any]) -> Layer:
    """Return the layer of an event of the profiler."""
    about = event["args"]
    shapes_in, shapes_out = (
        [next(iter(one.values())) for one in about[f"{way}_type_shape"]] for way in ("input", "output")
    )
    inputs, outputs = shapes_in[0], shapes_out[0]
    weights = shapes_in[1] if about["op_name"] == "Conv" else []
    macs = math.prod(outputs) * math.prod(weights[1:]) if weights else 0
    moved = 4 * sum(math.prod(shape) for shape in (inputs, outputs, weights) if shape)
    shapes = f"{'x'.join(map(str, inputs[1:]))} -> {'x'.join(map(str, outputs[1:]))}"
    name = event["name"].removesuffix("_kernel_time").removesuffix("_nchwc").removesuffix("_output_0")
    return Layer(name, about["op_name"], shapes, event["dur"] / 1e6, macs, moved)


def measure_fastest(job: Callable[[], object], rounds: int) -> float:
    """Return the smallest seconds of a job."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=bundled("street"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rows", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    factor, numbers = torch.rand(GEMM, GEMM), np.ones(COPIED, np.float32)
    target = np.empty_like(numbers)
    rate = GEMM**3 / measure_fastest(lambda: factor @ factor, CALLS)
    width = 2 * numbers.nbytes / measure_fastest(lambda: np.copyto(target, numbers), CALLS)
    image = read_image(options.image).pixels if options.image else draw_picture(360, 480)
    layers = measure_layers(options.file, image, options.threads, options.rounds)
    total = sum(layer.seconds for layer in layers)
    print(f"Matrix product: {rate / 1e9:.0f} G multiply-accumulates a second; copy: {width / 1e9:.1f} GB a second.")
    print(f"All layers: {1e3 * total:.1f} ms, {options.threads} threads.\n")
    print("| layer | kind | shapes | ms | share | G MAC/s | GB/s | x the slower bound |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for layer in layers[: options.rows]:
        bound = max(layer.macs / rate, layer.moved / width)
        rates = f"{layer.macs / layer.seconds / 1e9:.0f} | {layer.moved / layer.seconds / 1e9:.1f}"
        cells = (
            f"{1e3 * layer.seconds:.2f} | {100 * layer.seconds / total:.1f} % | {rates} | {layer.seconds / bound:.1f}"
        )
        print(f"| {layer.name.split('backbone/')[-1]} | {layer.kind} | {layer.shapes} | {cells} |")


if __name__ == "__main__":
    main()

"""Measure the stages of a prediction on ONNX Runtime, and compare its sessions.

    python benchmarks/sessions.py [FILE.onnx] [--size 360x480] [--rounds 15] [--threads N] [--image FILE] [--busy]

Without FILE the bundled `street` is measured. All take turns; ratios are taken within a round, and are medians (first
to third quartile).

The first table has the stages from a decoded image to its label map: preprocessing (uint8 to normalised, padded
floats), everything up to the logits, and the label map. It also has the whole with products of the label map that
NumPy's BLAS computes on all threads, the whole file, as it ran before `onnx_bytes.cut`
(ONNX Runtime then computes the file's own label map, too), a file in which the gain of the normalisation is part of
the first convolution, and one with ReLU for ReLU6.

The second table compares sessions: free against fixed image sizes, with and without memory arena and memory pattern.
The first row is how fullconv runs: any size, an arena that keeps the memory of the largest call, no memory pattern per
size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fullconv.arrays import UInt8
from fullconv.cores import usable_cores
from fullconv.images import read_image
from fullconv.runtime import full_size
from fullconv.runtime.full_size import full_size_labels
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.onnx_bytes.cut import cut_to_output, read_for

# isort: split
import onnxruntime  # after fullconv, which switches its telemetry off

Clock = Callable[[], float]


def open_session(
    model: Path | bytes, threads: int, size: tuple[int, int] | None = None, arena: bool = True, pattern: bool = False
) -> Any:
    """Open a session as `runtime.onnx` does, except for the settings that are compared.

    `size` (height, width) fixes the shape of the input; None leaves it free.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.enable_cpu_mem_arena, options.enable_mem_pattern = arena, pattern
    for name, length in zip("NHW", (1, *size) if size else (), strict=False):
        options.add_free_dimension_override_by_name(name, length)
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def cut_preprocessing(content: bytes) -> bytes:
    """Return the nodes from the images to the padded, normalised floats."""
    model = onnx.load_from_string(content)
    model.graph.output.append(helper.make_tensor_value_info("padded", TensorProto.FLOAT, None))
    cut = cut_to_output(model.SerializeToString(), "padded")
    assert cut is not None
    return cut


def unclip(content: bytes) -> bytes:
    """Replace ReLU6 by ReLU, which changes labels unless the network was trained that way (--activation relu)."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Relu"
            del node.input[1:]
    return bytes(model.SerializeToString())


def alternate(jobs: dict[str, Callable[[], object]], rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Return the seconds of each job in each round, after one that does not count; each job runs twice in a row."""
    names, samples = list(jobs), {name: list[float]() for name in jobs}
    for number in range(rounds + 1):
        for index in np.roll(range(len(names)), -number):
            jobs[names[index]]()
            start = clock()
            jobs[names[index]]()
            samples[names[index]].append(clock() - start)
    return {name: seconds[1:] for name, seconds in samples.items()}


def print_table(samples: dict[str, list[float]], title: str) -> None:
    """Print a Markdown table; ratios are those to the first row."""
    print(f"| {title} | ms | x the first row |\n|---|---:|---:|")
    base = np.array(next(iter(samples.values())))
    for name, seconds in samples.items():
        low, middle, high = np.percentile(np.array(seconds) / base, (25, 50, 75))
        print(f"| {name} | {1000 * np.median(seconds):.2f} | {middle:.3f} ({low:.3f} to {high:.3f}) |")
    print(flush=True)


def label_with_large_products(file: OnnxFile, batch: UInt8) -> UInt8:
    """Return label maps as before `runtime/products.py`: NumPy's BLAS uses all of its threads, which then spin."""
    usual, full_size.CHUNK = full_size.CHUNK, 2**22
    try:
        return full_size_labels(file.scores(batch), file.metadata, (batch.shape[1], batch.shape[2]))
    finally:
        full_size.CHUNK = usual


def measure_stages(path: Path, image: UInt8, threads: int, rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Return the seconds of the stages; the first is a prediction as fullconv does it."""
    batch, content, file = image[None], read_for(path, "logits"), OnnxFile.load(path, threads)
    assert isinstance(content, bytes)
    scores, size = file.scores(batch), image.shape[:2]
    models: dict[str, tuple[Path | bytes, str]] = {
        "preprocessing": (cut_preprocessing(content), "padded"),
        "up to the logits": (content, "logits"),
        "up to the logits, the whole file in the session": (path, "logits"),
    }
    if all(node.op_type != "QuantizeLinear" for node in onnx.load(path).graph.node):
        models["up to the logits, ReLU for ReLU6"] = (unclip(content), "logits")
    jobs: dict[str, Callable[[], object]] = {
        "image to label map": lambda: full_size_labels(file.scores(batch), file.metadata, (size[0], size[1])),
        "image to label map, products on all threads": lambda: label_with_large_products(file, batch),
        "label map": lambda: full_size_labels(scores, file.metadata, (size[0], size[1])),
    }
    for name, (model, output) in models.items():
        session = open_session(model, threads)
        jobs[name] = lambda session=session, output=output: session.run([output], {"images": batch})  # type: ignore[misc]
    return alternate(jobs, rounds, clock)


def measure_sessions(path: Path, image: UInt8, threads: int, rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Return the seconds of the same network in sessions with other settings."""
    content = read_for(path, "logits")
    model = content if isinstance(content, bytes) else path
    jobs: dict[str, Callable[[], object]] = {}
    for fixed, pattern, arena in product((False, True), (False, True), (True, False)):
        if arena or not pattern:
            session = open_session(model, threads, (image.shape[0], image.shape[1]) if fixed else None, arena, pattern)
            memory = "arena, pattern" if pattern else "arena" if arena else "nothing"
            name = f"{'fixed' if fixed else 'any'} size, keeps {memory}"
            jobs[name] = lambda session=session: session.run(["logits"], {"images": image[None]})  # type: ignore[misc]
    return alternate(jobs, rounds, clock)


def main() -> None:
    """Measure, and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=bundled("street"))
    parser.add_argument("--size", default="360x480", help="height x width of random pixels, if there is no image")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--busy", action="store_true", help="processor time of all threads, for a busy machine")
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    if options.image:
        image = read_image(options.image).pixels
    settings = options.threads, options.rounds, time.process_time if options.busy else time.perf_counter
    print_table(measure_stages(options.file, image, *settings), "stage")
    print_table(measure_sessions(options.file, image, *settings), "session")


if __name__ == "__main__":
    main()

"""Compare four implementations of bilinear upsampling, forward and backward.

    python benchmarks/upsample.py [--rounds 15] [--threads 1]

Prints the median processor time of each, and the median over rounds of its ratio to banded matrices, which is the
implementation in `fullconv.net.fcn.upsample`. Processor time is measured, implementations take turns, and ratios are
taken within a round, so that other work on the machine affects all of them equally.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from fractions import Fraction
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.geometry import Field, aligned_crop, bilinear_kernel
from fullconv.net.fcn.upsample import Upsample

FACTOR, CELLS, BATCH = 8, 44, 4
SIZE = (FACTOR * CELLS, FACTOR * CELLS)
UP = aligned_crop(Field(FACTOR, ((0, 0),), Fraction(FACTOR - 1, 2)), Field())
CROP = (..., slice(UP.crop, UP.crop + SIZE[0]), slice(UP.crop, UP.crop + SIZE[1]))


def list_ways(classes: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the implementations by name, the banded matrices first."""
    taps = torch.tensor(bilinear_kernel(UP))
    kernel = torch.outer(taps, taps)[None, None]
    banded = Upsample(classes, UP, UP)
    full = Upsample(classes, UP, UP, "learned").weight.detach()

    def grouped(x: Tensor) -> Tensor:
        weight = kernel.expand(classes, 1, -1, -1)
        return functional.conv_transpose2d(x, weight, stride=FACTOR, groups=classes)[CROP]

    def as_batch(x: Tensor) -> Tensor:
        out = functional.conv_transpose2d(x.reshape(-1, 1, CELLS, CELLS), kernel, stride=FACTOR)
        return out.view(len(x), classes, *out.shape[2:])[CROP]

    return {
        "banded matrices (fixed)": lambda x: banded(x, SIZE),
        "conv_transpose2d, groups = K": grouped,
        "conv_transpose2d, K x K kernel": lambda x: functional.conv_transpose2d(x, full, stride=FACTOR)[CROP],
        "conv_transpose2d, channels as batch": as_batch,
    }


def measure_once(way: Callable[[Tensor], Tensor], coarse: Tensor) -> float:
    """Return the processor seconds of one forward and backward pass."""
    begin = time.process_time()
    out = way(coarse)
    torch.autograd.backward(out, torch.ones_like(out))
    return time.process_time() - begin


def measure(classes: int, rounds: int) -> list[tuple[str, float, float]]:
    """Return name, median seconds and median ratio to the first implementation, for each."""
    torch.manual_seed(0)
    coarse = torch.randn(BATCH, classes, CELLS, CELLS, requires_grad=True)
    candidates = list_ways(classes)
    first, *others = (way(coarse) for way in candidates.values())
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, way in candidates.items():
            times[name].append(measure_once(way, coarse))
    base = next(iter(times.values()))
    return [
        (name, median(values), median(t / b for t, b in zip(values, base, strict=True)))
        for name, values in times.items()
    ]


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = f"{BATCH} x K x {CELLS} x {CELLS} to {SIZE[0]} x {SIZE[1]}"
    print(f"{size}, forward and backward, torch {torch.__version__}")
    print(f"{options.threads} thread(s), {options.rounds} rounds\n")
    print("| K | way | CPU ms | ratio |\n|---:|---|---:|---:|")
    for classes in (11, 21):
        for name, duration, ratio in measure(classes, options.rounds):
            print(f"| {classes} | {name} | {1000 * duration:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()

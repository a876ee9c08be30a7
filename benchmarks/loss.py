"""Compare the banded losses with plain cross-entropy: time and peak memory, forward and backward.

    python benchmarks/loss.py [--classes 150] [--size 512] [--batch 4] [--rounds 15] [--threads N]

A loss is upsampling by 8 and cross-entropy, or another value of --loss, from a score map to its gradient. All losses
take turns in one process, and ratios to the plain loss are taken within a round. Memory is measured in a new process
for each: the peak, minus the memory before the loss.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.loss import compute_banded_loss
from fullconv.training.losses.objective import compute_loss
from fullconv.training.recipe import Recipe

WAYS = ("plain", "banded", "ohem", "dice", "lovasz")


def make_problem(arguments: argparse.Namespace) -> tuple[FCN, Tensor, Tensor, Tensor]:
    """Return network (only its last upsampling is used), score map, target and class weights."""
    torch.manual_seed(0)
    size, classes = arguments.size, arguments.classes
    net = rebuild(NetSpec("resnet18", classes, 8, upsample=arguments.upsample))
    score = torch.randn(arguments.batch, classes, -(-size // 8), -(-size // 8), requires_grad=True)
    target = torch.randint(0, classes, (arguments.batch, size, size)).to(torch.uint8)
    return net, score, target, torch.ones(classes)


def run(way: str, net: FCN, score: Tensor, target: Tensor, weights: Tensor) -> tuple[float, Tensor]:
    """Compute the loss and its gradients once; return the loss and the gradient of the score map.

    The gradient of a learned kernel is computed, too.
    """
    if way == "banded":
        loss = compute_banded_loss(net, score, target, weights)
    elif way != "plain":
        loss = compute_loss(net, score, target, weights, Recipe.from_dict({"loss": way}))
    else:
        logits = net.upsample(score, (target.shape[1], target.shape[2]))
        loss = functional.cross_entropy(logits, target.long(), weights, ignore_index=255)
    learned = net.get_submodule(net.upscores[-1]).parameters()
    gradient, *_ = torch.autograd.grad(loss, [score, *learned])
    return loss.item(), gradient


def read_peak() -> float:
    """Return the largest resident memory of this process so far, in MiB; ru_maxrss would include its parent."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measure_memory(way: str, arguments: argparse.Namespace) -> float:
    """Return the MiB that one loss takes, measured in a new process."""
    command = [sys.executable, __file__, "--memory-of", way]
    for name in ("classes", "size", "batch", "upsample"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--upsample", choices=["fixed", "learned"], default="fixed")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    parts = make_problem(arguments)
    if arguments.memory_of:
        before = read_peak()
        run(arguments.memory_of, *parts)
        print(read_peak() - before)
        return
    (value, gradient), (other, other_gradient) = (run(way, *parts) for way in WAYS[:2])
    torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-7)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter  # fair on a busy machine
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            begin = clock()
            run(way, *parts)
            times[way].append(clock() - begin)
    peaks = {way: median(measure_memory(way, arguments) for _ in range(3)) for way in WAYS}
    print("| loss | time | time / plain | peak memory | memory / plain |\n|---|---:|---:|---:|---:|")
    for way in WAYS:
        ratios = [other / plain for plain, other in zip(times["plain"], times[way], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        print(f"| {way} | {1000 * median(times[way]):.0f} ms | {median(ratios):.2f} ({low:.2f} .. {high:.2f}) | "
              f"{peaks[way]:.0f} MiB | {peaks[way] / peaks['plain']:.3f} |")  # fmt: skip
    print(f"\n{arguments.classes} classes, {arguments.size}x{arguments.size}, batch {arguments.batch}, "
          f"{arguments.upsample} kernels, {torch.get_num_threads()} threads, {arguments.rounds} rounds")  # fmt: skip


if __name__ == "__main__":
    main()

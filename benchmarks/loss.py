"""The banded loss against the plain one: time and peak memory of the loss, forward and backward.

    python benchmarks/loss.py [--classes 150] [--size 512] [--batch 4] [--rounds 15] [--threads N]

Upsampling by 8 and cross-entropy, from a score map to its gradient. Times alternate in one process, and the ratio is
taken within each round. Memory is the peak of a process of its own for each way, less what it had before the loss.
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

from fullconv.learn.loss import banded_loss
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.spec import NetSpec

WAYS = ("plain", "banded")


def problem(arguments: argparse.Namespace) -> tuple[FCN, Tensor, Tensor, Tensor]:
    """Network (its last upsampling is all that is used), score map, target, class weights."""
    torch.manual_seed(0)
    size, classes = arguments.size, arguments.classes
    net = rebuild(NetSpec("resnet18", classes, 8, upsample=arguments.upsample))
    score = torch.randn(arguments.batch, classes, -(-size // 8), -(-size // 8), requires_grad=True)
    target = torch.randint(0, classes, (arguments.batch, size, size)).to(torch.uint8)
    return net, score, target, torch.ones(classes)


def run(way: str, net: FCN, score: Tensor, target: Tensor, weights: Tensor) -> tuple[float, Tensor]:
    """Loss and gradients of the score map and of a learned kernel, once; that of the score map."""
    if way == "banded":
        loss = banded_loss(net, score, target, weights)
    else:
        logits = net.upsample(score, (target.shape[1], target.shape[2]))
        loss = functional.cross_entropy(logits, target.long(), weights, ignore_index=255)
    learned = net.get_submodule(net.upscores[-1]).parameters()
    gradient, *_ = torch.autograd.grad(loss, [score, *learned])
    return loss.item(), gradient


def peak() -> float:
    """Largest resident memory of this program so far, MiB; ru_maxrss would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def memory(way: str, arguments: argparse.Namespace) -> float:
    """MiB that one loss takes, in a new process."""
    command = [sys.executable, __file__, "--memory-of", way]
    for name in ("classes", "size", "batch", "upsample"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print a markdown table."""
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
    parts = problem(arguments)
    if arguments.memory_of:
        before = peak()
        run(arguments.memory_of, *parts)
        print(peak() - before)
        return
    (value, gradient), (other, other_gradient) = (run(way, *parts) for way in WAYS)
    torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-7)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter  # fair on a busy machine
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            begin = clock()
            run(way, *parts)
            times[way].append(clock() - begin)
    ratios = [banded / plain for plain, banded in zip(times["plain"], times["banded"], strict=True)]
    low, _, high = quantiles(ratios, n=4)
    taken = {way: median(memory(way, arguments) for _ in range(3)) for way in WAYS}
    print("| loss | time | peak memory |\n|---|---:|---:|")
    for way in WAYS:
        print(f"| {way} | {1000 * median(times[way]):.0f} ms | {taken[way]:.0f} MiB |")
    share = taken["banded"] / taken["plain"]
    print(f"| banded / plain | {median(ratios):.2f} ({low:.2f} .. {high:.2f}) | {share:.3f} |")
    print(f"\n{arguments.classes} classes, {arguments.size}x{arguments.size}, batch {arguments.batch}, "
          f"{arguments.upsample} kernels, {torch.get_num_threads()} threads, {arguments.rounds} rounds")  # fmt: skip


if __name__ == "__main__":
    main()

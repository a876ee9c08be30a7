"""Compare FCN-8s with networks of torchvision and segmentation_models.pytorch: training time, memory and latency.

    pip install -e ".[train,bench]"
    python benchmarks/peers.py [--rounds 5] [--sizes 480x360,1024x1024] [--batch 4] [--threads N] [--json FILE]
                               [--parts train,memory,latency] [--only Unet,FCN-8s] [--quick]

Prints Markdown tables. Each network of other libraries runs twice: as its users run it, and with our settings (bfloat16
and channels last in training, channels last in prediction). This separates the effects of network and settings.
`peer_nets.py` documents what runs exactly. All take turns in one process, each round begins with a different network,
and ratios are taken within a round, so that other work on the machine affects all equally. Time is wall-clock time.

Peak memory is that of two training steps in a new process, minus the memory before the network was built. It is read
from VmHWM (Linux), not from `ru_maxrss`, which a child process inherits from its parent.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_nets import CLASSES, NETS, Labelling, Net
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

PARTS = ("train", "memory", "latency")


@dataclass(frozen=True)
class Contender:
    """A network, by its index in `NETS`, and whether it runs with our settings. Our networks always do."""

    index: int
    our_settings: bool

    @property
    def net(self) -> Net:
        """The network itself."""
        return NETS[self.index]

    def __str__(self) -> str:
        """Return name, backbone and settings."""
        return f"{self.net.name} on {self.net.backbone}, {'our' if self.our_settings else 'its own'} settings"


Samples = dict[Contender, list[float]]


@dataclass(frozen=True)
class Plan:
    """The measurements at one size (height, width)."""

    contenders: tuple[Contender, ...]
    size: tuple[int, int]
    batch: int
    rounds: int
    threads: int

    @property
    def title(self) -> str:
        """The size as width x height."""
        return f"{self.size[1]}x{self.size[0]}"


def print_progress(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def alternate(jobs: dict[Contender, Callable[[], object]], rounds: int) -> Samples:
    """Return the seconds of each job in each round, after one call that does not count."""
    order = list(jobs)
    for contender in order:
        start = time.perf_counter()
        jobs[contender]()
        print_progress(f"  first call {time.perf_counter() - start:8.2f} s  {contender}")
    samples: Samples = {contender: [] for contender in order}
    for number in range(rounds):
        first = number % len(order)
        for contender in order[first:] + order[:first]:
            start = time.perf_counter()
            jobs[contender]()
            samples[contender].append(time.perf_counter() - start)
        print_progress(f"  round {number + 1} of {rounds}")
    return samples


def make_batch(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return random images, N x 3 x H x W uint8, and labels, N x H x W uint8, of which a tenth are ignored."""
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=chance)
    target = torch.randint(0, CLASSES, (count, *size), dtype=torch.uint8, generator=chance)
    target[torch.rand(target.shape, generator=chance) < 0.1] = 255
    return images, target


def measure_training(plan: Plan) -> Samples:
    """Return the seconds of one training step."""
    images, target = make_batch(plan.batch, plan.size)

    def job(contender: Contender) -> Callable[[], object]:
        training = contender.net.training(contender.our_settings)
        return lambda: training.step(images, target)

    return alternate({contender: job(contender) for contender in plan.contenders}, plan.rounds)


def measure_latency(plan: Plan) -> tuple[Samples, Samples]:
    """Return the seconds from one image to its logits, and to its label map."""
    images = np.ascontiguousarray(make_batch(1, plan.size)[0].permute(0, 2, 3, 1).numpy())
    ready: dict[Contender, Labelling] = {c: c.net.labelling(c.our_settings) for c in plan.contenders}

    def logits(labelling: Labelling) -> Callable[[], object]:
        return lambda: labelling.logits(images)

    def labels(labelling: Labelling) -> Callable[[], object]:
        return lambda: labelling.labels(images)

    to_logits = alternate({contender: logits(one) for contender, one in ready.items()}, plan.rounds)
    return to_logits, alternate({contender: labels(one) for contender, one in ready.items()}, plan.rounds)


def measure_memory(plan: Plan, runs: int) -> Samples:
    """Return the bytes of two training steps; each run is a new process."""
    samples: Samples = {contender: [] for contender in plan.contenders}
    context = multiprocessing.get_context("spawn")
    for number in range(runs):
        for contender in plan.contenders:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                peak = pool.submit(_measure_peak, contender, plan.size, plan.batch, plan.threads).result()
            samples[contender].append(peak)
            print_progress(f"  run {number + 1} of {runs}: {peak / 2**20:7.0f} MiB  {contender}")
    return samples


def _measure_peak(contender: Contender, size: tuple[int, int], batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    images, target = make_batch(batch, size)
    small = torch.nn.Linear(2, 2)
    torch.autograd.backward(small(torch.zeros(1, 2)).sum())
    torch.optim.AdamW(small.parameters()).step()  # the first step imports further parts of torch
    before = _read_resident("VmRSS")
    training = contender.net.training(contender.our_settings)
    for _ in range(2):
        training.step(images, target)
    return _read_resident("VmHWM") - before


def _read_resident(field: str) -> float:
    """Return a memory field of this process in bytes: VmRSS is the current value, VmHWM the peak so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert match is not None
    return 1024.0 * int(match[1])


def count_macs(net: Net, size: tuple[int, int]) -> float:
    """Count the multiply-accumulates of one image with torch, padding included, as `fullconv inspect` does."""
    with torch.device("meta"):
        built, image = net.build().eval(), torch.zeros(1, 3, *net.forward_shape(size))
        with FlopCounterMode(display=False) as counter:  # not the builder, which runs our classifier for its geometry
            built(image)
    return float(counter.get_total_flops()) / 2


def format_spread(values: Iterable[float], digits: int, scale: float = 1.0) -> str:
    """Format median (first quartile to third quartile)."""
    low, middle, high = (float(scale * q) for q in np.percentile(list(values), (25, 50, 75)))
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def format_ratio(samples: Samples, contender: Contender) -> str:
    """Format the ratio to our network on the same backbone, taken within rounds."""
    ours = next((c for c in samples if c.net.ours and c.net.backbone == contender.net.backbone), None)
    if ours is None or ours == contender:
        return "1" if ours else ""
    return format_spread((a / b for a, b in zip(samples[contender], samples[ours], strict=True)), 2)


def make_table(columns: dict[str, tuple[Samples, int, float]], our_settings: bool) -> list[str]:
    """Return the lines of a Markdown table.

    `columns` maps names to values, digits and scale. The ratios to our network are those of the last column.
    """
    *_, (last, _, _) = columns.values()
    lines = [f"| network | backbone | {' | '.join(columns)} | x ours |", f"|---|---|{'---:|' * (len(columns) + 1)}"]
    for contender in last:
        if contender.net.ours or contender.our_settings == our_settings:
            values = (format_spread(samples[contender], digits, scale) for samples, digits, scale in columns.values())
            cells = (contender.net.name, contender.net.backbone, *values, format_ratio(last, contender))
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def print_report(title: str, columns: dict[str, tuple[Samples, int, float]], matched: str) -> None:
    """Print two tables: each network as its users run it, and all with our settings."""
    print(f"### {title}\n\nEach as its users run it:\n")
    print("\n".join(make_table(columns, our_settings=False)))
    if any(c.our_settings and not c.net.ours for samples, _, _ in columns.values() for c in samples):
        print(f"\nAll with {matched}:\n")
        print("\n".join(make_table(columns, our_settings=True)))
    print(flush=True)


def print_sizes(plan: Plan) -> None:
    """Print a table of parameters and multiply-accumulates."""
    print(f"## {plan.title}\n\n| network | backbone | parameters | GMACs an image |\n|---|---|---:|---:|")
    for net in dict.fromkeys(contender.net for contender in plan.contenders):
        params, cost = net.count_params() / 1e6, count_macs(net, plan.size) / 1e9
        print(f"| {net.name} | {net.backbone} | {params:.2f} M | {cost:.1f} |")
    print(flush=True)


def measure(plan: Plan, parts: list[str], runs: int) -> dict[str, Samples]:
    """Measure everything at one size, and print each table when it is ready."""
    print_sizes(plan)
    results: dict[str, Samples] = {}
    matched = "bfloat16 and channels last"
    if "train" in parts:
        print_progress(f"{plan.title}: training")
        results["train"] = measure_training(plan)
        print_report(f"Training step, batches of {plan.batch}", {"ms": (results["train"], 0, 1e3)}, matched)
    if "memory" in parts:
        print_progress(f"{plan.title}: memory")
        results["memory"] = measure_memory(plan, runs)
        column = {"MiB": (results["memory"], 0, 2**-20)}
        print_report(f"Peak memory of training, batches of {plan.batch}, {runs} runs", column, matched)
    if "latency" in parts:
        print_progress(f"{plan.title}: latency")
        results["logits"], results["labels"] = measure_latency(plan)
        columns = {"logits, ms": (results["logits"], 0, 1e3), "label map, ms": (results["labels"], 0, 1e3)}
        print_report("Latency, one image", columns, "channels last")
    return results


def describe_environment(options: argparse.Namespace) -> str:
    """Return the versions and settings that the numbers depend on."""
    libraries = ("fullconv", "torch", "torchvision", "segmentation-models-pytorch")
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{versions}, Python {platform.python_version()}, {options.threads} threads, {options.rounds} rounds"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; `--quick` sets small defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="number of rounds; default: 5")
    parser.add_argument("--runs", type=int, help="runs of each network for its memory; default: 3")
    parser.add_argument("--sizes", help="width x height; default: 480x360,1024x1024")
    parser.add_argument(
        "--batch", type=int, default=4, help="images at 480x360; other sizes get as many pixels, at least 2 images"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", default=",".join(PARTS), help="any of train, memory and latency, with commas")
    parser.add_argument("--only", default="", help="only networks with one of these words in name or backbone")
    parser.add_argument("--json", type=Path, help="write every measurement, in seconds or bytes, to this file")
    parser.add_argument("--quick", action="store_true", help="2 rounds, 1 run, 160x120, to check that everything runs")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.runs = options.runs or (1 if options.quick else 3)
    options.sizes = options.sizes or ("160x120" if options.quick else "480x360,1024x1024")
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return options


def make_plans(options: argparse.Namespace) -> Iterable[Plan]:
    """Yield the plan for each size, with at least two images.

    DeepLabV3+ cannot train on one image, because of a batch norm over a single cell.
    """
    words = options.only.split(",")
    chosen = [i for i, net in enumerate(NETS) if any(word in f"{net.name} {net.backbone}" for word in words)]
    contenders = [Contender(i, NETS[i].ours) for i in chosen]
    contenders += [Contender(i, True) for i in chosen if not NETS[i].ours]
    for text in options.sizes.split(","):
        width, height = (int(side) for side in text.split("x"))
        batch = max(2, min(options.batch, round(options.batch * 480 * 360 / (width * height))))
        yield Plan(tuple(contenders), (height, width), batch, options.rounds, options.threads)


def main() -> None:
    """Measure, and print Markdown tables."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{describe_environment(options)}; median (first to third quartile)\n", flush=True)
    records: list[dict[str, Any]] = []
    for plan in make_plans(options):
        for part, samples in measure(plan, options.parts, options.runs).items():
            for contender, values in samples.items():
                about = {"size": plan.title, "part": part, "network": contender.net.name, "values": values}
                records.append({**about, "backbone": contender.net.backbone, "our_settings": contender.our_settings})
        if options.json:
            content = {"environment": describe_environment(options), "measured": records}
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

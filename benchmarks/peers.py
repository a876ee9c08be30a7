"""Our FCN-8s against torchvision's and segmentation_models.pytorch's networks: seconds, memory, latency, in one run.

    pip install -e ".[train,bench]"
    python benchmarks/peers.py [--rounds 5] [--sizes 480x360,1024x1024] [--batch 4] [--threads N] [--json FILE]
                               [--parts train,memory,latency] [--only Unet,FCN-8s] [--quick]

Prints markdown tables. Every network runs twice: as its users run it, and, where it is not ours, with our settings
(bfloat16 and channels last in training, channels last in prediction), so that networks and settings can be told
apart; `peer_nets.py` says what exactly runs. All take turns in one process, each round begins with another one, and
ratios are taken within a round, so that a busy machine disturbs all alike. Time is the clock's.

Peak memory is that of two training steps in a process of their own, less what the process held before the network
was built. It is read from VmHWM (Linux), not from `ru_maxrss`, which a child inherits from its parent.
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
    """A network of `NETS` by its index there, and whether it runs with our settings, as ours always does."""

    index: int
    our_settings: bool

    @property
    def net(self) -> Net:
        """The network."""
        return NETS[self.index]

    def __str__(self) -> str:
        return f"{self.net.name} on {self.net.backbone}, {'our' if self.our_settings else 'its own'} settings"


Samples = dict[Contender, list[float]]


@dataclass(frozen=True)
class Plan:
    """What is measured at one size (height, width)."""

    contenders: tuple[Contender, ...]
    size: tuple[int, int]
    batch: int
    rounds: int
    threads: int

    @property
    def title(self) -> str:
        """Width x height, as cameras are named."""
        return f"{self.size[1]}x{self.size[0]}"


def tell(text: str) -> None:
    """Progress, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def alternate(jobs: dict[Contender, Callable[[], object]], rounds: int) -> Samples:
    """Seconds of each job in each round, after one call that does not count."""
    order = list(jobs)
    for contender in order:
        start = time.perf_counter()
        jobs[contender]()
        tell(f"  first call {time.perf_counter() - start:8.2f} s  {contender}")
    samples: Samples = {contender: [] for contender in order}
    for number in range(rounds):
        first = number % len(order)
        for contender in order[first:] + order[:first]:
            start = time.perf_counter()
            jobs[contender]()
            samples[contender].append(time.perf_counter() - start)
        tell(f"  round {number + 1} of {rounds}")
    return samples


def random_batch(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """uint8 N x 3 x H x W and N x H x W, a tenth of the labels ignored."""
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=chance)
    target = torch.randint(0, CLASSES, (count, *size), dtype=torch.uint8, generator=chance)
    target[torch.rand(target.shape, generator=chance) < 0.1] = 255
    return images, target


def training_seconds(plan: Plan) -> Samples:
    """Of one step."""
    images, target = random_batch(plan.batch, plan.size)

    def job(contender: Contender) -> Callable[[], object]:
        training = contender.net.training(contender.our_settings)
        return lambda: training.step(images, target)

    return alternate({contender: job(contender) for contender in plan.contenders}, plan.rounds)


def latencies(plan: Plan) -> tuple[Samples, Samples]:
    """Seconds from one image to its logits, and to its label map."""
    images = np.ascontiguousarray(random_batch(1, plan.size)[0].permute(0, 2, 3, 1).numpy())
    ready: dict[Contender, Labelling] = {c: c.net.labelling(c.our_settings) for c in plan.contenders}

    def logits(one: Labelling) -> Callable[[], object]:
        return lambda: one.logits(images)

    def labels(one: Labelling) -> Callable[[], object]:
        return lambda: one.labels(images)

    to_logits = alternate({contender: logits(one) for contender, one in ready.items()}, plan.rounds)
    return to_logits, alternate({contender: labels(one) for contender, one in ready.items()}, plan.rounds)


def peak_memory(plan: Plan, runs: int) -> Samples:
    """Bytes of two training steps, each run in a new process."""
    samples: Samples = {contender: [] for contender in plan.contenders}
    context = multiprocessing.get_context("spawn")
    for number in range(runs):
        for contender in plan.contenders:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                taken = pool.submit(_peak, contender, plan.size, plan.batch, plan.threads).result()
            samples[contender].append(taken)
            tell(f"  run {number + 1} of {runs}: {taken / 2**20:7.0f} MiB  {contender}")
    return samples


def _peak(contender: Contender, size: tuple[int, int], batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    images, target = random_batch(batch, size)
    small = torch.nn.Linear(2, 2)
    torch.autograd.backward(small(torch.zeros(1, 2)).sum())
    torch.optim.AdamW(small.parameters()).step()  # torch imports more of itself at the first step
    before = _resident("VmRSS")
    training = contender.net.training(contender.our_settings)
    for _ in range(2):
        training.step(images, target)
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """Bytes of this process in memory: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return 1024.0 * int(found[1])


def macs(net: Net, size: tuple[int, int]) -> float:
    """Multiply-accumulates of one image, as torch counts them, padding included; `fullconv inspect` gives the same."""
    with torch.device("meta"):
        built, image = net.build().eval(), torch.zeros(1, 3, *net.forward_shape(size))
        with FlopCounterMode(display=False) as counter:  # only this: our builder runs the classifier for its geometry
            built(image)
    return float(counter.get_total_flops()) / 2


def spread(values: Iterable[float], digits: int, scale: float = 1.0) -> str:
    """Median (first quartile to third quartile)."""
    low, middle, high = (float(scale * q) for q in np.percentile(list(values), (25, 50, 75)))
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(samples: Samples, contender: Contender) -> str:
    """To ours on the same backbone, round by round."""
    ours = next((c for c in samples if c.net.ours and c.net.backbone == contender.net.backbone), None)
    if ours is None or ours == contender:
        return "1" if ours else ""
    return spread((own / our for own, our in zip(samples[contender], samples[ours], strict=True)), 2)


def table(columns: dict[str, tuple[Samples, int, float]], our_settings: bool) -> list[str]:
    """Lines of markdown. `columns`: name to values, digits and scale; the last one is put in relation to ours."""
    *_, (last, _, _) = columns.values()
    lines = [f"| network | backbone | {' | '.join(columns)} | x ours |", f"|---|---|{'---:|' * (len(columns) + 1)}"]
    for contender in last:
        if contender.net.ours or contender.our_settings == our_settings:
            own = (spread(samples[contender], digits, scale) for samples, digits, scale in columns.values())
            cells = (contender.net.name, contender.net.backbone, *own, ratios(last, contender))
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(title: str, columns: dict[str, tuple[Samples, int, float]], matched: str) -> None:
    """Two tables: each as its users run it, and all with our settings."""
    print(f"### {title}\n\nEach as its users run it:\n")
    print("\n".join(table(columns, our_settings=False)))
    if any(c.our_settings and not c.net.ours for samples, _, _ in columns.values() for c in samples):
        print(f"\nAll with {matched}:\n")
        print("\n".join(table(columns, our_settings=True)))
    print(flush=True)


def sizes_of_nets(plan: Plan) -> None:
    """A table of parameters and multiply-accumulates."""
    print(f"## {plan.title}\n\n| network | backbone | parameters | GMACs an image |\n|---|---|---:|---:|")
    for net in dict.fromkeys(contender.net for contender in plan.contenders):
        params, cost = net.params() / 1e6, macs(net, plan.size) / 1e9
        print(f"| {net.name} | {net.backbone} | {params:.2f} M | {cost:.1f} |")
    print(flush=True)


def measure(plan: Plan, parts: list[str], runs: int) -> dict[str, Samples]:
    """Everything at one size, printed as it comes."""
    sizes_of_nets(plan)
    found: dict[str, Samples] = {}
    matched = "bfloat16 and channels last"
    if "train" in parts:
        tell(f"{plan.title}: training")
        found["train"] = training_seconds(plan)
        report(f"Training step, batches of {plan.batch}", {"ms": (found["train"], 0, 1e3)}, matched)
    if "memory" in parts:
        tell(f"{plan.title}: memory")
        found["memory"] = peak_memory(plan, runs)
        column = {"MiB": (found["memory"], 0, 2**-20)}
        report(f"Peak memory of training, batches of {plan.batch}, {runs} runs", column, matched)
    if "latency" in parts:
        tell(f"{plan.title}: latency")
        found["logits"], found["labels"] = latencies(plan)
        columns = {"logits, ms": (found["logits"], 0, 1e3), "label map, ms": (found["labels"], 0, 1e3)}
        report("Latency, one image", columns, "channels last")
    return found


def environment(options: argparse.Namespace) -> str:
    """What the numbers depend on."""
    libraries = ("fullconv", "torch", "torchvision", "segmentation-models-pytorch")
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{versions}, Python {platform.python_version()}, {options.threads} threads, {options.rounds} rounds"


def arguments() -> argparse.Namespace:
    """The command line; `--quick` shrinks what was not asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="5")
    parser.add_argument("--runs", type=int, help="of each network for its memory; 3")
    parser.add_argument("--sizes", help="width x height; 480x360,1024x1024")
    parser.add_argument("--batch", type=int, default=4, help="at 480x360; other sizes get as many pixels, but 2 images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", default=",".join(PARTS), help="some of train,memory,latency")
    parser.add_argument("--only", default="", help="networks whose name or backbone holds one of these words")
    parser.add_argument("--json", type=Path, help="file for all single measurements: seconds and bytes")
    parser.add_argument("--quick", action="store_true", help="2 rounds, 1 run, 160x120: proves that all of it runs")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.runs = options.runs or (1 if options.quick else 3)
    options.sizes = options.sizes or ("160x120" if options.quick else "480x360,1024x1024")
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def plans(options: argparse.Namespace) -> Iterable[Plan]:
    """One for each size. Two images at least: DeepLabV3+ cannot train on one (batch norm of a single cell)."""
    words = options.only.split(",")
    chosen = [i for i, net in enumerate(NETS) if any(word in f"{net.name} {net.backbone}" for word in words)]
    contenders = [Contender(i, NETS[i].ours) for i in chosen]
    contenders += [Contender(i, True) for i in chosen if not NETS[i].ours]
    for text in options.sizes.split(","):
        width, height = (int(side) for side in text.split("x"))
        batch = max(2, min(options.batch, round(options.batch * 480 * 360 / (width * height))))
        yield Plan(tuple(contenders), (height, width), batch, options.rounds, options.threads)


def main() -> None:
    """Measure and print."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{environment(options)}; median (first to third quartile)\n", flush=True)
    records: list[dict[str, Any]] = []
    for plan in plans(options):
        for part, samples in measure(plan, options.parts, options.runs).items():
            for contender, values in samples.items():
                about = {"size": plan.title, "part": part, "network": contender.net.name, "values": values}
                records.append({**about, "backbone": contender.net.backbone, "our_settings": contender.our_settings})
        if options.json:
            everything = {"environment": environment(options), "measured": records}
            options.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

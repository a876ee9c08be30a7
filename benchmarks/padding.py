"""Measure the cost of the published padding: FCN-8s on VGG16 with `minimal` padding and with 100 pixels (`reference`).

    python benchmarks/padding.py [--size 500] [--rounds 5] [--threads 1]

Both networks have the same weights and take turns. Processor time is measured, and each ratio is taken within a round,
so that other work on the machine affects both equally. Multiply-accumulates are those of the forward pass, as `fullconv
inspect` counts them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_fcn

CLASSES = 21
SPECS = (NetSpec("vgg16", CLASSES, 8, norm=False), NetSpec("vgg16", CLASSES, 8, norm=False, padding="reference"))


def build_networks() -> tuple[FCN, FCN]:
    """Return the networks with minimal and with reference padding, which share their tensors."""
    torch.manual_seed(0)
    minimal = rebuild(SPECS[0])
    with torch.device("meta"):
        reference = rebuild(SPECS[1])
    reference.load_state_dict(minimal.state_dict(keep_vars=True), assign=True)
    return minimal, reference


def forward(net: FCN, image: Tensor, target: Tensor) -> None:
    """Compute the logits of one image."""
    with torch.inference_mode():
        net.eval()(image)


def step(net: FCN, image: Tensor, target: Tensor) -> None:
    """Compute logits, loss and gradients for one image, without the optimizer, which does not depend on padding."""
    loss = functional.cross_entropy(net.train()(image), target)
    torch.autograd.backward(loss)
    net.zero_grad()


def measure_once(work: Callable[[FCN, Tensor, Tensor], None], net: FCN, image: Tensor, target: Tensor) -> float:
    """Return the processor seconds of one call of `work`."""
    begin = time.process_time()
    work(net, image, target)
    return time.process_time() - begin


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.size, options.size
    image, target = torch.rand(1, 3, *size), torch.randint(0, CLASSES, (1, *size))
    nets = build_networks()
    print(f"FCN-8s on VGG16, 1 x 3 x {size[0]} x {size[1]}, float32, torch {torch.__version__}")
    print(f"{options.threads} thread(s), {options.rounds} rounds after one that does not count\n")
    print("| | minimal | reference | reference / minimal | lowest to highest |\n|---|---:|---:|---:|---:|")
    macs = [inspect_fcn(spec, size).macs / 1e9 for spec in SPECS]
    print(f"| GMAC, forward | {macs[0]:.1f} | {macs[1]:.1f} | {macs[1] / macs[0]:.2f} | |")
    for name, work in (("CPU s, forward", forward), ("CPU s, forward and backward", step)):
        times = [[measure_once(work, net, image, target) for net in nets] for _ in range(options.rounds + 1)][1:]
        ratios = sorted(pair[1] / pair[0] for pair in times)
        minimal, reference = (median(column) for column in zip(*times, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {name} | {minimal:.2f} | {reference:.2f} | {median(ratios):.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()

"""What the published padding of 100 costs: FCN-8s on VGG16 with `minimal` and `reference` padding, in turns.

    python benchmarks/padding.py [--size 500] [--rounds 5] [--threads 1]

Both networks have the same weights. Time is the processor's, not the clock's, and each ratio is taken within a round,
so that a busy machine disturbs both sides alike. Multiply-accumulates are those of `fullconv inspect`, forward.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.net.fcn import FCN, rebuild
from fullconv.net.inspect import inspect_fcn
from fullconv.net.spec import NetSpec

CLASSES = 21
SPECS = (NetSpec("vgg16", CLASSES, 8, norm=False), NetSpec("vgg16", CLASSES, 8, norm=False, padding="reference"))


def networks() -> tuple[FCN, FCN]:
    """Minimal and reference, on the same tensors."""
    torch.manual_seed(0)
    minimal = rebuild(SPECS[0])
    with torch.device("meta"):
        reference = rebuild(SPECS[1])
    reference.load_state_dict(minimal.state_dict(keep_vars=True), assign=True)
    return minimal, reference


def forward(net: FCN, image: Tensor, target: Tensor) -> None:
    """Logits for one image."""
    with torch.inference_mode():
        net.eval()(image)


def step(net: FCN, image: Tensor, target: Tensor) -> None:
    """Logits, loss and gradients for one image; no optimizer, whose work does not depend on the padding."""
    loss = functional.cross_entropy(net.train()(image), target)
    torch.autograd.backward(loss)
    net.zero_grad()


def seconds(work: Callable[[FCN, Tensor, Tensor], None], net: FCN, image: Tensor, target: Tensor) -> float:
    """Processor time of `work`, once."""
    begin = time.process_time()
    work(net, image, target)
    return time.process_time() - begin


def main() -> None:
    """Measure and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.size, options.size
    image, target = torch.rand(1, 3, *size), torch.randint(0, CLASSES, (1, *size))
    nets = networks()
    print(f"FCN-8s on VGG16, 1 x 3 x {size[0]} x {size[1]}, float32, torch {torch.__version__}")
    print(f"{options.threads} thread(s), {options.rounds} rounds after one that does not count\n")
    print("| | minimal | reference | reference / minimal | lowest to highest |\n|---|---:|---:|---:|---:|")
    macs = [inspect_fcn(spec, size).macs / 1e9 for spec in SPECS]
    print(f"| GMAC, forward | {macs[0]:.1f} | {macs[1]:.1f} | {macs[1] / macs[0]:.2f} | |")
    for name, work in (("CPU s, forward", forward), ("CPU s, forward and backward", step)):
        times = [[seconds(work, net, image, target) for net in nets] for _ in range(options.rounds + 1)][1:]
        ratios = sorted(reference / minimal for minimal, reference in times)
        ours, theirs = (median(column) for column in zip(*times, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {name} | {ours:.2f} | {theirs:.2f} | {median(ratios):.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()

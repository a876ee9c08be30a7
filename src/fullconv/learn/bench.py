"""A classifier on every window of an image, patch by patch and in one dense pass: time and bytes of each.

The paper's claim (section 3.1): AlexNet takes 22 ms for a 10 x 10 map of outputs from a 500 x 500 image, and 120 ms for
the 100 patches in batches (1.2 ms each), 540 ms one by one (5.4 ms each); backward, 37 ms against 2.4 ms a patch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.net.backbones import classifier, input_size
from fullconv.net.inspect import Inspection, inspect_classifier
from fullconv.net.skips import taps_of
from fullconv.net.surgery import Surgery, convolutionalize

__all__ = ["BATCHES", "DenseBench", "Storage", "Way", "bench_dense", "cut_windows", "flop_bound", "storage"]

logger = logging.getLogger(__name__)

Pair = tuple[int, int]

BATCHES = (8, 32, 128)
"""The numbers of patches at a time that are tried."""

PAPER = {("batched", "forward"): 1.2 * 100 / 22, ("single", "forward"): 5.4 * 100 / 22,
         ("batched", "backward"): 2.4 * 100 / 37}  # fmt: skip
PAPER_CASE = ("caffenet", (500, 500))
"""Its AlexNet is CaffeNet, with 10 x 10 cells on 500 x 500 pixels; torchvision's has fewer channels and cells."""


@dataclass(frozen=True)
class Way:
    """One way to the same outputs in one direction: milliseconds per cell, and its ratio to the dense pass.

    `ratio` is the median over rounds of the ratio within a round; `bound` that of the multiply-accumulates; `paper`
    what the paper measured on its GPU, where this is its case.
    """

    way: str
    direction: str
    milliseconds: float
    ratio: float
    bound: float
    paper: float | None


@dataclass(frozen=True)
class Storage:
    """Patches `step` pixels apart and the image that they are cut from, as uint8 RGB; float32 takes four times both."""

    step: int
    patches: int
    patch_bytes: int
    image_bytes: int


@dataclass(frozen=True)
class DenseBench:
    """What was measured, and on what: `cells` of the map, `window` and `stride` in pixels, patches in a `batch`."""

    model: str
    size: Pair
    cells: Pair
    window: Pair
    stride: Pair
    batch: int
    rounds: int
    threads: int
    torch: str
    ways: tuple[Way, ...]
    storage: tuple[Storage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def bench_dense(model: str, size: Pair, rounds: int = 5) -> DenseBench:
    """Measure the classifier `model`, with random weights, for images of `size` (height, width), in float32.

    A round takes each way once, forward (without gradients) and backward (the backward pass alone, to the weights).
    Raises ModelError for a classifier without a dense form and for images smaller than its own.
    """
    net = classifier(model)[0].eval().to(memory_format=torch.channels_last)
    dense = convolutionalize(net, input_size(model))
    whole, patch = inspect_classifier(model, size), inspect_classifier(model)
    image = torch.rand(1, 3, *size)
    windows = cut_windows(dense, image)
    cells, stride = _grid(dense, size)
    batch = _best_batch(net, windows)
    ways: dict[str, tuple[nn.Module, Sequence[Tensor]]] = {
        "dense": (
            dense.module.to(memory_format=torch.channels_last),
            [image.contiguous(memory_format=torch.channels_last)],
        ),
        "batched": (net, torch.split(windows, batch)),
        "single": (net, torch.split(windows, 1)),
    }
    with torch.inference_mode():
        ways["dense"][0](image)  # as warm as the patches
    logger.info(f"{len(windows)} patches in batches of {batch}, {rounds} rounds")
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for direction, run in (("forward", _forward), ("backward", _backward)):
            for way, (module, inputs) in ways.items():
                times.setdefault((way, direction), []).append(run(module, inputs))
        logger.info(f"round {number + 1} of {rounds} done")
    paper = PAPER if (model, size) == PAPER_CASE else {}
    measured = []
    for (way, direction), seconds in times.items():
        ratio = median(own / base for own, base in zip(seconds, times["dense", direction], strict=True))
        bound = 1.0 if way == "dense" else flop_bound(patch, whole, len(windows), backward=direction == "backward")
        each = 1000 * median(seconds) / len(windows)
        measured.append(Way(way, direction, each, ratio, bound, paper.get((way, direction))))
    window = input_size(model)
    stored = storage(size, window, len(windows), stride[0]), storage(size, window, size[0] * size[1], 1)
    return DenseBench(
        model, size, cells, window, stride, batch, rounds, torch.get_num_threads(), torch.__version__,
        tuple(measured), stored,
    )  # fmt: skip


def cut_windows(dense: Surgery, image: Tensor) -> Tensor:
    """The crop that each cell of the dense map of `image`, 1 x C x H x W, stands for: cells x C x h x w, row by row.

    Crops have the classifier's size. The last ones may reach beyond the image where padding lets a cell be there that
    lacks some pixels; they are filled up with zeros, as padding is.
    """
    taps, (height, width) = taps_of(list(dense.nodes.values())[-1]), dense.size
    down, right = (
        [tap.field.first(cell) - tap.field.first(0) for cell in range(tap.size(n))]
        for tap, n in zip(taps, image.shape[2:], strict=True)
    )
    over = [max(0, right[-1] + width - image.shape[3]), max(0, down[-1] + height - image.shape[2])]
    padded = functional.pad(image, (0, over[0], 0, over[1]))
    crops = torch.cat([padded[:, :, y : y + height, x : x + width] for y in down for x in right])
    return crops.contiguous(memory_format=torch.channels_last)


def flop_bound(patch: Inspection, whole: Inspection, patches: int, backward: bool = False) -> float:
    """How many times the multiply-accumulates of the dense pass the patches take.

    Backward, each convolution takes its own twice, for its weights and for its input, but the first one only once:
    nothing asks for the gradient of the image.
    """

    def macs(found: Inspection) -> int:
        own = [row.macs for row in found.rows if row.macs]
        return 2 * sum(own) - own[0] if backward else sum(own)

    return patches * macs(patch) / macs(whole)


def storage(size: Pair, window: Pair, patches: int, step: int) -> Storage:
    """Bytes of `patches` RGB patches of `window` pixels beside those of an image of `size`."""
    return Storage(step, patches, patches * 3 * window[0] * window[1], 3 * size[0] * size[1])


def _grid(dense: Surgery, size: Pair) -> tuple[Pair, Pair]:
    """Cells of the dense map of an image of `size`, and pixels from cell to cell."""
    vertical, horizontal = taps_of(list(dense.nodes.values())[-1])
    cells = vertical.size(size[0]), horizontal.size(size[1])
    return cells, (int(vertical.field.stride), int(horizontal.field.stride))


def _best_batch(net: nn.Module, windows: Tensor) -> int:
    """The quickest forward of those in `BATCHES`, each tried once after a warm-up."""
    tried = sorted({min(batch, len(windows)) for batch in BATCHES})
    _forward(net, torch.split(windows, tried[-1])[:1])
    return min(tried, key=lambda batch: _forward(net, torch.split(windows, batch)))


def _forward(net: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Seconds for all inputs, one after the other."""
    begin = time.perf_counter()
    with torch.inference_mode():
        for batch in inputs:
            net(batch)
    return time.perf_counter() - begin


def _backward(net: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Seconds of the backward passes, whose gradients add up; their forward passes are not counted."""
    net.zero_grad(set_to_none=True)
    seconds = 0.0
    for batch in inputs:
        logits = net(batch)
        ones = torch.ones_like(logits)
        begin = time.perf_counter()
        torch.autograd.backward(logits, ones)
        seconds += time.perf_counter() - begin
    net.zero_grad(set_to_none=True)
    return seconds

"""A benchmark of patch-wise classification against one dense pass: time and memory of both.

The paper's claim (section 3.1): for a 10 x 10 map of outputs from a 500 x 500 image, AlexNet takes 22 ms in one pass.
The 100 patches take 120 ms in batches (1.2 ms each) and 540 ms one by one (5.4 ms each). The backward pass takes 37 ms,
against 2.4 ms per patch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.inspect.inspection import Inspection
from fullconv.net.inspect.network import inspect_classifier
from fullconv.net.surgery.convolutionalize import Surgery, convolutionalize
from fullconv.net.trace.nodes import geometry_of

__all__ = [
    "BATCHES",
    "DenseBench",
    "Storage",
    "Way",
    "bench_dense",
    "compute_storage",
    "cut_windows",
    "flop_bound",
    "time_backward",
    "time_forward",
]

logger = logging.getLogger(__name__)

Pair = tuple[int, int]
Timer = Callable[[nn.Module, Sequence[Tensor]], float]
"""Returns the seconds that a network takes for all inputs."""

BATCHES = (8, 32, 128)
"""The batch sizes that are tried."""

PAPER = {("batched", "forward"): 1.2 * 100 / 22, ("single", "forward"): 5.4 * 100 / 22,
         ("batched", "backward"): 2.4 * 100 / 37}  # fmt: skip
"""The paper's ratios to the dense pass, by way and direction: milliseconds per patch, times 100, by milliseconds."""

PAPER_CASE = ("caffenet", (500, 500))
"""The paper's classifier and image size. Its AlexNet is CaffeNet; torchvision's has fewer channels and cells."""


@dataclass(frozen=True)
class Way:
    """The measurement of one way to compute the outputs, in one direction: milliseconds per cell.

    `ratio` is the time relative to the dense pass: the median over rounds of the ratio within a round. `bound` is the
    same ratio for multiply-accumulates. `paper` is the ratio that the paper measured on its GPU, for its case only.
    """

    way: str
    direction: str
    milliseconds: float
    ratio: float
    bound: float
    paper: float | None


@dataclass(frozen=True)
class Storage:
    """Bytes of patches `step` pixels apart and of their image, as uint8 RGB. float32 takes four times as much."""

    step: int
    patches: int
    patch_bytes: int
    image_bytes: int


@dataclass(frozen=True)
class DenseBench:
    """The result of `bench_dense`.

    `cells` is the size of the dense map, `window` and `stride` are in pixels, `batch` is the number of patches per
    batch.
    """

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
        """Return plain values for JSON."""
        return asdict(self)


def time_forward(net: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Return the seconds of the forward passes for all inputs, one after the other, without gradients."""
    begin = time.perf_counter()
    with torch.inference_mode():
        for batch in inputs:
            net(batch)
    return time.perf_counter() - begin


def time_backward(net: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Return the seconds of the backward passes for all inputs. Their gradients add up; forward passes do not count."""
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


TIMERS: Mapping[str, Timer] = {"forward": time_forward, "backward": time_backward}


def bench_dense(
    model: str,
    size: Pair,
    rounds: int = 5,
    *,
    batch: int | None = None,
    timers: Mapping[str, Timer] = TIMERS,
) -> DenseBench:
    """Measure the classifier `model`, with random weights, for images of `size` (height, width), in float32.

    Each round runs each way once in each direction of `timers`. `batch` None means the fastest of `BATCHES`.

    Raises ModelError if the classifier has no dense form, or the images are smaller than its input.
    """
    net = build_classifier(model)[0].eval().to(memory_format=torch.channels_last)
    dense = convolutionalize(net, input_size(model))
    whole, patch = inspect_classifier(model, size), inspect_classifier(model)
    image = torch.rand(1, 3, *size)
    windows = cut_windows(dense, image)
    cells, stride = _grid(dense, size)
    batch = batch or _find_best_batch(net, windows)
    ways: dict[str, tuple[nn.Module, Sequence[Tensor]]] = {
        "dense": (
            dense.module.to(memory_format=torch.channels_last),
            [image.contiguous(memory_format=torch.channels_last)],
        ),
        "batched": (net, torch.split(windows, batch)),
        "single": (net, torch.split(windows, 1)),
    }
    with torch.inference_mode():
        ways["dense"][0](image)  # warm up, as the patches were while the batch was chosen
    logger.info(f"{len(windows)} patches in batches of {batch}, {rounds} rounds")
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for direction, measure in timers.items():
            for way, (module, inputs) in ways.items():
                times.setdefault((way, direction), []).append(measure(module, inputs))
        logger.info(f"round {number + 1} of {rounds} done")
    paper = PAPER if (model, size) == PAPER_CASE else {}
    measured = []
    for (way, direction), seconds in times.items():
        dense_seconds = times["dense", direction]
        ratio = median(one / base for one, base in zip(seconds, dense_seconds, strict=True))
        bound = 1.0 if way == "dense" else flop_bound(patch, whole, len(windows), backward=direction == "backward")
        each = 1000 * median(seconds) / len(windows)
        measured.append(Way(way, direction, each, ratio, bound, paper.get((way, direction))))
    window = input_size(model)
    every_cell = compute_storage(size, window, len(windows), stride[0])
    every_pixel = compute_storage(size, window, size[0] * size[1], 1)
    return DenseBench(
        model, size, cells, window, stride, batch, rounds, torch.get_num_threads(), torch.__version__,
        tuple(measured), (every_cell, every_pixel),
    )  # fmt: skip


def cut_windows(dense: Surgery, image: Tensor) -> Tensor:
    """Cut the crop that each cell of the dense map of `image` stands for.

    `image` is 1 x C x H x W, the result cells x C x h x w, row by row, with the input size of the classifier. If
    padding creates cells whose crops reach beyond the image, these crops are filled with zeros, as padding is.
    """
    taps, (height, width) = geometry_of(list(dense.nodes.values())[-1]), dense.size
    down, right = (
        [tap.field.first(cell) - tap.field.first(0) for cell in range(tap.size(n))]
        for tap, n in zip(taps, image.shape[2:], strict=True)
    )
    over = [max(0, right[-1] + width - image.shape[3]), max(0, down[-1] + height - image.shape[2])]
    padded = functional.pad(image, (0, over[0], 0, over[1]))
    crops = torch.cat([padded[:, :, y : y + height, x : x + width] for y in down for x in right])
    return crops.contiguous(memory_format=torch.channels_last)


def flop_bound(patch: Inspection, whole: Inspection, patches: int, backward: bool = False) -> float:
    """Return the ratio of multiply-accumulates: all patches together, relative to the dense pass.

    The backward pass computes each convolution twice, for its weights and for its input, but the first one only once,
    because the gradient of the image is not needed.
    """

    def macs(inspection: Inspection) -> int:
        layers = [row.macs for row in inspection.rows if row.macs]
        return 2 * sum(layers) - layers[0] if backward else sum(layers)

    return patches * macs(patch) / macs(whole)


def compute_storage(size: Pair, window: Pair, patches: int, step: int) -> Storage:
    """Return the bytes of `patches` RGB patches of `window` pixels, and of their image of `size`."""
    return Storage(step, patches, patches * 3 * window[0] * window[1], 3 * size[0] * size[1])


def _grid(dense: Surgery, size: Pair) -> tuple[Pair, Pair]:
    """Return the size of the dense map for an image of `size`, and its stride in pixels."""
    vertical, horizontal = geometry_of(list(dense.nodes.values())[-1])
    cells = vertical.size(size[0]), horizontal.size(size[1])
    return cells, (int(vertical.field.stride), int(horizontal.field.stride))


def _find_best_batch(net: nn.Module, windows: Tensor) -> int:
    """Return the batch size of `BATCHES` with the fastest forward pass; each is tried once after a warm-up."""
    tried = sorted({min(batch, len(windows)) for batch in BATCHES})
    time_forward(net, torch.split(windows, tried[-1])[:1])
    return min(tried, key=lambda batch: time_forward(net, torch.split(windows, batch)))

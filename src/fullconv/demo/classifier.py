"""The classifier of digits of the demo: train it, and compare its dense form with a sliding window."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_linear_bn_eval

from fullconv.arrays import UInt8
from fullconv.demo.digits import DIGIT_LABELS, make_digit_patches
from fullconv.errors import ModelError
from fullconv.geometry import Field
from fullconv.net import checkpoint
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD, input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.surgery.convolutionalize import Surgery, convolutionalize
from fullconv.net.trace.nodes import trace
from fullconv.training.plan import best_device

__all__ = [
    "Comparison",
    "add_frame",
    "compare",
    "compute_dense_map",
    "find_cell_fields",
    "measure_accuracy",
    "measure_difference",
    "run_sliding_window",
    "save_classifier",
    "train_classifier",
]

logger = logging.getLogger(__name__)

SIZE = input_size("digits")[0]

JITTER = 12
"""Maximum distance in pixels of a digit from the middle of its patch: nearly half the stride of the cells."""

BATCH = 32
RATE = 6e-3
TOLERANCE = 1e-4
GREY = tuple(round(255 * mean) for mean in IMAGENET_MEAN)


@dataclass(frozen=True)
class Comparison:
    """The comparison of one dense pass with the classifier on each window.

    It has the size of the map in cells, the largest difference of the logits, and the seconds of both.
    """

    cells: tuple[int, int]
    difference: float
    dense_seconds: float
    window_seconds: float

    @property
    def speedup(self) -> float:
        """Return the time of the windows, relative to that of the dense pass."""
        return self.window_seconds / self.dense_seconds


def train_classifier(patches: int, epochs: int, seed: int = 0, bf16: bool = False) -> nn.Module:
    """Train `digit_net` on windows of digit scenes, and return it in evaluation mode on the CPU.

    During training its hidden layers have batch norm, which is folded into them at the end.
    """
    images, labels = (torch.from_numpy(array) for array in make_digit_patches(patches, SIZE, seed, "train", JITTER))
    torch.manual_seed(seed)
    device, steps = best_device(), -(-patches // BATCH)
    net = _add_norms(digit_net()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        losses = []
        for picked in torch.randperm(patches).tensor_split(steps):
            inputs = _normalize(_recolor(images[picked])).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = net(inputs)
            loss = functional.cross_entropy(logits.float(), labels[picked].to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        logger.info(f"classifier epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}")
    return _fold_norms(net.cpu().eval())


def measure_accuracy(net: nn.Module, patches: int, seed: int = 0) -> float:
    """Return the share of patches with held-out digits that `net` labels correctly."""
    images, labels = make_digit_patches(patches, SIZE, seed, "val", JITTER)
    with torch.inference_mode():
        predicted = torch.cat([net(_normalize(part)).argmax(1) for part in torch.split(torch.from_numpy(images), 64)])
    return float((predicted.numpy() == labels).mean())


def save_classifier(net: nn.Module, path: Path) -> None:
    """Write the weights for `build_classifier`, with the classes, for `predict --patchwise`."""
    checkpoint.save_classifier(path, "digits", net, DIGIT_LABELS)


def compare(net: nn.Module, image: UInt8, runs: int = 5) -> Comparison:
    """Run the dense form of `net` on an image, and `net` on the receptive field of each cell.

    image: H x W x 3 uint8 RGB. The seconds are medians over `runs` after a warm-up. Windows are in batches of 64.
    Raises ModelError as `measure_difference` does.
    """
    dense = convolutionalize(net, (SIZE, SIZE))
    at_once, dense_seconds = _time(lambda: compute_dense_map(dense, image), runs)
    one_by_one, window_seconds = _time(lambda: run_sliding_window(net, image, find_cell_fields(dense)), runs)
    difference = measure_difference(at_once, one_by_one)
    return Comparison((at_once.shape[1], at_once.shape[2]), difference, dense_seconds, window_seconds)


def measure_difference(dense: Tensor, windows: Tensor) -> float:
    """Return the largest difference of two maps of logits, K x h x w.

    Raises ModelError if their shapes differ, or a logit differs by more than 1e-4.
    """
    if dense.shape != windows.shape:
        message = f"the dense logits are {tuple(dense.shape)}, those of the sliding window {tuple(windows.shape)}"
        raise ModelError(message, code="dense-shape-differs")
    difference = float((dense - windows).abs().max())
    if difference > TOLERANCE:
        message = f"the dense logits differ from those of the sliding window by {difference:.2g}"
        raise ModelError(message, code="dense-logits-differ")
    return difference


def compute_dense_map(dense: Surgery, image: UInt8) -> Tensor:
    """Return the logits of the dense classifier, K x h x w float32, for an H x W x 3 uint8 RGB image."""
    with torch.inference_mode():
        logits: Tensor = dense.module.eval()(_normalize(torch.from_numpy(image)[None]))
    return logits[0]


def run_sliding_window(net: nn.Module, image: UInt8, fields: tuple[Field, Field], batch: int = 64) -> Tensor:
    """Return the logits of the classifier on the window of each cell, K x h x w float32, for H x W x 3 uint8 RGB."""
    pixels = _normalize(torch.from_numpy(image)[None])[0]
    starts = [_find_starts(field, size) for field, size in zip(fields, pixels.shape[1:], strict=True)]
    windows = torch.stack([pixels[:, y : y + SIZE, x : x + SIZE] for y in starts[0] for x in starts[1]])
    windows = windows.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = torch.cat([net(part) for part in torch.split(windows, batch)])
    return logits.T.reshape(-1, len(starts[0]), len(starts[1]))


def find_cell_fields(dense: Surgery) -> tuple[Field, Field]:
    """Return the vertical and horizontal receptive fields of the cells of the dense classifier."""
    geometry = list(trace(dense.module, dense.size).values())[-1].geometry
    assert geometry is not None
    return geometry.fields


def add_frame(image: UInt8, fields: tuple[Field, Field]) -> UInt8:
    """Add a grey frame to an image, so the middles of the windows tile the image from edge to edge.

    The image is H x W x 3 uint8 RGB. H and W are multiples of the stride. The window of cell (i, j) then has the square
    that starts at (i, j) times the stride in its middle.
    """
    sides = [(side, side) for side in ((field.receptive_field - int(field.stride)) // 2 for field in fields)]
    frame = [np.pad(image[..., channel], sides, constant_values=GREY[channel]) for channel in range(3)]
    return np.stack(frame, axis=-1)


def _find_starts(field: Field, pixels: int) -> list[int]:
    cells = max(0, (pixels - field.receptive_field) // int(field.stride) + 1)
    return [field.first(cell) for cell in range(cells)]


def _time(run: Callable[[], Tensor], runs: int) -> tuple[Tensor, float]:
    result, seconds = run(), []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _normalize(images: Tensor) -> Tensor:
    """Convert N x H x W x 3 RGB in 0..255 to N x 3 x H x W float32, normalized as in `FCN`, channels last in memory."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    batch = images.permute(0, 3, 1, 2).float() / 255
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def _recolor(images: Tensor) -> Tensor:
    """Permute the channels, invert every second patch on average, and change contrast and tint, at random."""
    count = len(images)
    order = torch.rand(count, 3).argsort(1)[:, None, None, :].expand_as(images)
    images = images.gather(3, order).float()
    images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, 255 - images, images)
    return 128 + (images - 128) * (0.7 + 0.4 * torch.rand(count, 1, 1, 1)) + 40 * (torch.rand(count, 1, 1, 3) - 0.5)


def _add_norms(net: nn.Module) -> nn.Module:
    """Add a batch norm after each hidden linear layer, as one module in its place."""
    head = net.get_submodule("classifier")
    assert isinstance(head, nn.Sequential)
    for index, layer in list(enumerate(head))[:-1]:
        if isinstance(layer, nn.Linear):
            head[index] = nn.Sequential(layer, nn.BatchNorm1d(layer.out_features))
    return net


def _fold_norms(net: nn.Module) -> nn.Module:
    """Undo `_add_norms` without a change of the outputs in evaluation mode."""
    head = net.get_submodule("classifier")
    assert isinstance(head, nn.Sequential)
    for index, layer in list(enumerate(head)):
        if isinstance(layer, nn.Sequential):
            linear, norm = layer
            assert isinstance(linear, nn.Linear)
            assert isinstance(norm, nn.BatchNorm1d)
            head[index] = fuse_linear_bn_eval(linear, norm)
    return net

"""The demo's classifier of digits: its training, and what its dense form gives and costs beside a sliding window."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_linear_bn_eval

from fullconv.demo.digits import DIGIT_LABELS, digit_patches
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
    "accuracy",
    "cell_fields",
    "compare",
    "dense_map",
    "framed",
    "save_classifier",
    "sliding_window",
    "train_classifier",
]

logger = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]

SIZE = input_size("digits")[0]

JITTER = 12
"""How far from the middle of a patch its digit may be: nearly half the stride, as a cell takes what it meets."""

BATCH = 32
RATE = 6e-3
TOLERANCE = 1e-4
GREY = tuple(round(255 * mean) for mean in IMAGENET_MEAN)


@dataclass(frozen=True)
class Comparison:
    """One dense pass beside the classifier on each window: cells, largest difference of the logits, seconds."""

    cells: tuple[int, int]
    difference: float
    dense_seconds: float
    window_seconds: float

    @property
    def speedup(self) -> float:
        """How many times as long the windows take."""
        return self.window_seconds / self.dense_seconds


def train_classifier(patches: int, epochs: int, seed: int = 0, bf16: bool = False) -> nn.Module:
    """`digit_net` trained on windows of digit scenes, in evaluation mode on the CPU.

    Its hidden layers have batch norm while they learn, which is folded into them at the end.
    """
    images, labels = (torch.from_numpy(array) for array in digit_patches(patches, SIZE, seed, "train", JITTER))
    torch.manual_seed(seed)
    device, steps = best_device(), -(-patches // BATCH)
    net = _with_norms(digit_net()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        losses = []
        for picked in torch.randperm(patches).tensor_split(steps):
            inputs = _normalized(_recolored(images[picked])).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = net(inputs)
            loss = functional.cross_entropy(logits.float(), labels[picked].to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        logger.info(f"classifier epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}")
    return _folded(net.cpu().eval())


def accuracy(net: nn.Module, patches: int, seed: int = 0) -> float:
    """The share of held-out patches, of digits that no training saw, whose class `net` gives."""
    images, labels = digit_patches(patches, SIZE, seed, "val", JITTER)
    with torch.inference_mode():
        predicted = torch.cat([net(_normalized(part)).argmax(1) for part in torch.split(torch.from_numpy(images), 64)])
    return float((predicted.numpy() == labels).mean())


def save_classifier(net: nn.Module, path: Path) -> None:
    """Write it for `backbones.classifier` and, with its classes, for `predict --patchwise`."""
    checkpoint.save_classifier(path, "digits", net, DIGIT_LABELS)


def compare(net: nn.Module, image: Bytes, runs: int = 5) -> Comparison:
    """Run the dense form of `net` on an image and `net` on every window that a cell of it sees.

    image: H x W x 3 uint8 RGB. The seconds are medians over `runs`, after one that is not counted; windows go
    in batches of 64. Raises ModelError where a logit differs by more than 1e-4.
    """
    dense = convolutionalize(net, (SIZE, SIZE))
    at_once, dense_seconds = _timed(lambda: dense_map(dense, image), runs)
    one_by_one, window_seconds = _timed(lambda: sliding_window(net, image, cell_fields(dense)), runs)
    if at_once.shape != one_by_one.shape:
        raise ModelError(f"{tuple(at_once.shape)} dense logits, but {tuple(one_by_one.shape)} by sliding window")
    difference = float((at_once - one_by_one).abs().max())
    if difference > TOLERANCE:
        raise ModelError(f"the dense logits differ from those of the sliding window by {difference:.2g}")
    return Comparison((at_once.shape[1], at_once.shape[2]), difference, dense_seconds, window_seconds)


def dense_map(dense: Surgery, image: Bytes) -> Tensor:
    """Logits of the dense classifier, K x h x w float32, for an H x W x 3 uint8 RGB image."""
    with torch.inference_mode():
        logits: Tensor = dense.module.eval()(_normalized(torch.from_numpy(image)[None]))
    return logits[0]


def sliding_window(net: nn.Module, image: Bytes, fields: tuple[Field, Field], batch: int = 64) -> Tensor:
    """Logits of the classifier on the window of each cell, K x h x w float32, for an H x W x 3 uint8 RGB image."""
    pixels = _normalized(torch.from_numpy(image)[None])[0]
    starts = [_starts(field, size) for field, size in zip(fields, pixels.shape[1:], strict=True)]
    windows = torch.stack([pixels[:, y : y + SIZE, x : x + SIZE] for y in starts[0] for x in starts[1]])
    windows = windows.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = torch.cat([net(part) for part in torch.split(windows, batch)])
    return logits.T.reshape(-1, len(starts[0]), len(starts[1]))


def cell_fields(dense: Surgery) -> tuple[Field, Field]:
    """What the cells of the dense classifier see, vertically and horizontally."""
    geometry = list(trace(dense.module, dense.size).values())[-1].geometry
    assert geometry is not None
    return geometry.fields


def framed(image: Bytes, fields: tuple[Field, Field]) -> Bytes:
    """An image with grey around it, so that the middles of the windows tile it from edge to edge.

    H x W x 3 uint8 RGB, H and W multiples of the stride; cell (i, j) then looks at the square that starts at (i, j)
    times the stride.
    """
    sides = [(side, side) for side in ((field.receptive_field - int(field.stride)) // 2 for field in fields)]
    frame = [np.pad(image[..., channel], sides, constant_values=GREY[channel]) for channel in range(3)]
    return np.stack(frame, axis=-1)


def _starts(field: Field, pixels: int) -> list[int]:
    cells = max(0, (pixels - field.receptive_field) // int(field.stride) + 1)
    return [field.first(cell) for cell in range(cells)]


def _timed(run: Callable[[], Tensor], runs: int) -> tuple[Tensor, float]:
    result, seconds = run(), []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _normalized(images: Tensor) -> Tensor:
    """N x H x W x 3 RGB in 0..255 to N x 3 x H x W float32 as `FCN` normalizes it, channels last in memory."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    batch = images.permute(0, 3, 1, 2).float() / 255
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def _recolored(images: Tensor) -> Tensor:
    """Channels in another order, light and dark exchanged in every second patch, contrast and tint changed."""
    count = len(images)
    order = torch.rand(count, 3).argsort(1)[:, None, None, :].expand_as(images)
    images = images.gather(3, order).float()
    images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, 255 - images, images)
    return 128 + (images - 128) * (0.7 + 0.4 * torch.rand(count, 1, 1, 1)) + 40 * (torch.rand(count, 1, 1, 3) - 0.5)


def _with_norms(net: nn.Module) -> nn.Module:
    """Batch norm behind each hidden linear layer, inside its place."""
    end = net.get_submodule("classifier")
    assert isinstance(end, nn.Sequential)
    for index, layer in list(enumerate(end))[:-1]:
        if isinstance(layer, nn.Linear):
            end[index] = nn.Sequential(layer, nn.BatchNorm1d(layer.out_features))
    return net


def _folded(net: nn.Module) -> nn.Module:
    """The network as it was before `_with_norms`, with the same outputs in evaluation mode."""
    end = net.get_submodule("classifier")
    assert isinstance(end, nn.Sequential)
    for index, layer in list(enumerate(end)):
        if isinstance(layer, nn.Sequential):
            linear, norm = layer
            assert isinstance(linear, nn.Linear)
            assert isinstance(norm, nn.BatchNorm1d)
            end[index] = fuse_linear_bn_eval(linear, norm)
    return net

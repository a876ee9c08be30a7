"""The accuracy of patch classifiers by window size: how much of an object a window must show."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.arrays import Int64, UInt8
from fullconv.demo.digits import DIGIT_LABELS, make_digit_scenes

__all__ = [
    "QUICK",
    "Budget",
    "View",
    "build_view_net",
    "compare_views",
    "cut_labelled_windows",
    "predict_windows",
    "train_view",
]

logger = logging.getLogger(__name__)

SCENE = (160, 192)
PER_SCENE = 40
BATCH, RATE = 64, 4e-3


@dataclass(frozen=True)
class Budget:
    """The training of the classifiers, equal for every window size.

    `train` and `val` are numbers of windows, `PER_SCENE` from each scene.
    """

    train: int = 8000
    val: int = 1200
    epochs: int = 4
    windows: tuple[int, ...] = (24, 48, 94)
    seed: int = 0


QUICK = Budget(train=1500, val=400, epochs=3, windows=(24, 48))


@dataclass(frozen=True)
class View:
    """The accuracy of one window size on held-out windows: of all middle pixels (half are background) and of digits."""

    window: int
    accuracy: float
    on_digits: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def compare_views(budget: Budget) -> tuple[View, ...]:
    """Train one classifier per window size on pixels of digit scenes, and test it on pixels of other scenes.

    All classifiers are trained on the same pixels and have the same convolutions, with more poolings for larger
    windows. The digits of the held-out scenes are in no training scene. They are 40 to 52 pixels high, so only the
    larger windows show a whole digit.
    """
    views = []
    for window in budget.windows:
        train = cut_labelled_windows(budget.train, window, max(budget.windows), budget.seed, "train")
        begin = time.perf_counter()
        net = train_view(train, window, budget)
        seconds = time.perf_counter() - begin
        images, labels = cut_labelled_windows(budget.val, window, max(budget.windows), budget.seed, "val")
        right, digits = predict_windows(net, images) == labels, labels > 0
        views.append(View(window, float(right.mean()), float(right[digits].mean()), seconds))
        logger.info(
            f"windows of {window} pixels: {100 * views[-1].accuracy:.1f} % right after {seconds:.0f} s of training"
        )
    return tuple(views)


def cut_labelled_windows(count: int, window: int, margin: int, seed: int, split: str) -> tuple[UInt8, Int64]:
    """Cut windows from digit scenes: count x window x window x 3 uint8 RGB, and the classes of their middle pixels.

    The classes are int64, 0 to 10. Half of the middle pixels lie on strokes. Their positions do not depend on `window`,
    and leave room for a window of `margin` pixels, so windows of different sizes have the same middle pixels.
    """
    rng = np.random.default_rng([seed, len(split)])
    images, targets = make_digit_scenes(-(-count // PER_SCENE), SCENE, seed, split)
    inner = [slice(margin // 2, side - (margin - 1 - margin // 2)) for side in SCENE]
    windows, labels = np.empty((count, window, window, 3), np.uint8), np.empty(count, np.int64)
    for index in range(count):
        scene, target = images[index // PER_SCENE], targets[index // PER_SCENE]
        ink = target[inner[0], inner[1]] > 0
        wanted = ink if index % 2 and ink.any() else ~ink
        y, x = np.argwhere(wanted)[rng.integers(np.count_nonzero(wanted))] + margin // 2
        top, left = y - window // 2, x - window // 2
        windows[index], labels[index] = scene[top : top + window, left : left + window], target[y, x]
    return windows, labels


def build_view_net(window: int) -> nn.Module:
    """Build a classifier for windows: four convolutions, Flatten, two linear layers.

    Poolings halve the maps until 4 to 7 cells per side remain.
    """
    layers: list[nn.Module] = []
    before, side = 3, window
    for width in (24, 32, 64, 128):
        stride = 1 if layers else 2
        layers += [nn.Conv2d(before, width, 2 + stride, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        side = side // stride
        if stride == 1 and side >= 8:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        before = width
    hidden = [nn.Linear(side * side * before, 128), nn.BatchNorm1d(128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *hidden, nn.Linear(128, DIGIT_LABELS.num_classes))


def train_view(data: tuple[UInt8, Int64], window: int, budget: Budget) -> nn.Module:
    """Train a classifier on windows and their classes, as `cut_labelled_windows` returns them."""
    images, labels = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    torch.manual_seed(budget.seed)
    net = build_view_net(window).to(memory_format=torch.channels_last)
    steps = -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=budget.epochs * steps, pct_start=0.2)
    for _ in range(budget.epochs):
        for picked in torch.randperm(len(images)).tensor_split(steps):
            loss = functional.cross_entropy(net(_normalize(images[picked])), labels[picked])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return net.eval()


def predict_windows(net: nn.Module, images: UInt8) -> Int64:
    """Return the class of each window, N int64, for N x H x W x 3 uint8 images."""
    with torch.inference_mode():
        parts = [net(_normalize(part)).argmax(1) for part in torch.split(torch.from_numpy(images), 200)]
    classes: Int64 = torch.cat(parts).numpy()
    return classes


def _normalize(images: Tensor) -> Tensor:
    """Map N x H x W x 3 uint8 to N x 3 x H x W float32 around 0."""
    return ((images.permute(0, 3, 1, 2).float() / 255 - 0.5) * 4).contiguous(memory_format=torch.channels_last)

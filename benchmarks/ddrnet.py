"""DDRNet-23-slim, written from the tables of its paper, for its time: random weights, no training.

Hong, Pan, Sun, Jia: Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes
(2021), tables 1 and 2 and figures 4 and 5. The paper gives 5.7 M parameters for 19 classes and no auxiliary head, which
is what `DDRNet` has:

    PYTHONPATH=src python benchmarks/ddrnet.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DDRNet"]


def conv_norm(sources: int, targets: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size, up to its stride, and a batch norm."""
    conv = nn.Conv2d(sources, targets, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(targets))


def norm_conv(sources: int, targets: int, kernel: int = 1) -> nn.Sequential:
    """Return batch norm, ReLU and a convolution that keeps the size."""
    conv = nn.Conv2d(sources, targets, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(sources), nn.ReLU(), conv)


class Residual(nn.Module):
    """A residual block: two 3 x 3 convolutions, or with `widen` a bottleneck that ends with twice the channels."""

    def __init__(self, sources: int, channels: int, stride: int = 1, widen: bool = False) -> None:
        """Make a block; the first ReLU of the next block is applied there, after the sum."""
        super().__init__()
        targets = 2 * channels if widen else channels
        if widen:
            layers = [
                conv_norm(sources, channels, 1),
                nn.ReLU(),
                conv_norm(channels, channels, 3, stride),
                nn.ReLU(),
                conv_norm(channels, targets, 1),
            ]
        else:
            layers = [conv_norm(sources, channels, 3, stride), nn.ReLU(), conv_norm(channels, channels)]
        self.body = nn.Sequential(*layers)
        same = stride == 1 and sources == targets
        self.shortcut = nn.Identity() if same else conv_norm(sources, targets, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map N x C x h x w features to features, before their ReLU."""
        total: Tensor = self.body(features) + self.shortcut(features)
        return total


def stage(sources: int, channels: int, stride: int = 1) -> nn.Sequential:
    """Return two residual blocks."""
    return nn.Sequential(Residual(sources, channels, stride), nn.ReLU(), Residual(channels, channels))


def resize(features: Tensor, like: Tensor) -> Tensor:
    """Resize features bilinearly to the height and width of others."""
    return functional.interpolate(features, like.shape[2:], mode="bilinear", align_corners=False)


class PyramidContext(nn.Module):
    """The deep aggregation pyramid pooling module (DAPPM): five scales, each added to the next."""

    def __init__(self, sources: int, channels: int, targets: int) -> None:
        """Make the scales: 1 x 1, pooling by 2, 4 and 8, and the global mean."""
        super().__init__()
        pools = [nn.AvgPool2d(2 * step + 1, step, step) for step in (2, 4, 8)]
        self.scales = nn.ModuleList(
            [nn.Identity(), *pools, nn.AdaptiveAvgPool2d(1)],
        )
        self.reduce = nn.ModuleList([norm_conv(sources, channels) for _ in range(5)])
        self.process = nn.ModuleList([norm_conv(channels, channels, 3) for _ in range(4)])
        self.merge, self.shortcut = norm_conv(5 * channels, targets), norm_conv(sources, targets)

    def forward(self, features: Tensor) -> Tensor:
        """Map N x C x h x w features to features with context of the same height and width."""
        maps = [self.reduce[0](features)]
        for pool, reduce, process in zip(self.scales[1:], self.reduce[1:], self.process, strict=True):
            maps.append(process(resize(reduce(pool(features)), features) + maps[-1]))
        total: Tensor = self.merge(torch.cat(maps, 1)) + self.shortcut(features)
        return total


class DDRNet(nn.Module):
    """DDRNet-23-slim: one branch stays at stride 8, the other goes on to stride 64; they exchange features twice."""

    def __init__(self, classes: int) -> None:
        """Make the network for so many classes."""
        super().__init__()
        stem = [conv_norm(3, 32, 3, 2), nn.ReLU(), conv_norm(32, 32, 3, 2), nn.ReLU()]
        self.stem = nn.Sequential(*stem, stage(32, 32), nn.ReLU(), stage(32, 64, 2), nn.ReLU())
        self.low3, self.low4, self.low5 = stage(64, 128, 2), stage(128, 256, 2), Residual(256, 256, 2, widen=True)
        self.high3, self.high4, self.high5 = stage(64, 64), stage(64, 64), Residual(64, 64, widen=True)
        self.up3, self.up4 = conv_norm(128, 64, 1), conv_norm(256, 64, 1)
        self.down3 = conv_norm(64, 128, 3, 2)
        self.down4 = nn.Sequential(conv_norm(64, 128, 3, 2), nn.ReLU(), conv_norm(128, 256, 3, 2))
        self.context = PyramidContext(512, 128, 128)
        self.head = nn.Sequential(norm_conv(128, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map N x 3 x H x W normalised floats to N x K x H x W logits; H and W are multiples of 8."""
        features = self.stem(images)
        low, high = self.low3(functional.relu(features)), self.high3(features)
        low, high = low + self.down3(functional.relu(high)), high + resize(self.up3(functional.relu(low)), high)
        low, high = self.low4(functional.relu(low)), self.high4(functional.relu(high))
        low, high = low + self.down4(functional.relu(high)), high + resize(self.up4(functional.relu(low)), high)
        low, high = self.low5(functional.relu(low)), self.high5(functional.relu(high))
        logits = self.head(high + resize(self.context(functional.relu(low)), high))
        return functional.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)


if __name__ == "__main__":
    with torch.device("meta"):
        print(f"{sum(parameter.numel() for parameter in DDRNet(19).parameters()) / 1e6:.2f} M parameters")
        print(tuple(DDRNet(19).eval()(torch.zeros(1, 3, 360, 480)).shape))

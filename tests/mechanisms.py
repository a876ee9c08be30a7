"""Small modules, one for each mechanism that forwards use."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 0) -> nn.Sequential:
    parts = [nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*parts)


class Stages(nn.Module):
    """Strides 4, 8, 16 and 32, one `block` of 8 channels at each, then `head`."""

    def __init__(self, block, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = conv(3, 8, 4, 4)
        self.downs = nn.ModuleList([conv(8, 8, 2, 2) for _ in range(3)])
        self.blocks = nn.ModuleList([block() for _ in range(4)])
        self.head = head or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.stem(x))
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            x = block(down(x))
        return self.head(x)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, gate=torch.sigmoid, expand: bool = False) -> None:
        super().__init__()
        self.as_map = expand
        self.reduce, self.expand, self.gate = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), gate
        for layer in (self.reduce, self.expand):
            nn.init.normal_(layer.weight, std=3)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        gate = self.gate(self.expand(functional.relu(self.reduce(squeezed))))
        return x * (gate.expand_as(x) if self.as_map else gate)


class Last(nn.Module):
    """ConvNeXt's block: channels last between a convolution and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.wide, self.slim = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.slim(functional.gelu(self.wide(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class Shuffle(nn.Module):
    """ShuffleNet's block: one half of the channels is convolved, then the halves are mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = conv(4, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        x = torch.cat((first, self.branch(second)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


class Dense(nn.Module):
    """DenseNet's block: each layer reads all earlier maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.slim = conv(8, 4, 3, 1, 1), conv(12, 4, 3, 1, 1), conv(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        maps.append(self.first(torch.cat(maps, 1)))
        maps.append(self.second(torch.cat(maps, 1)))
        return self.slim(torch.cat(maps, 1))


class Same(nn.Conv2d):
    """TensorFlow's "same" padding, computed from the size of the image."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride)


class Standard(nn.Conv2d):
    """Weights that are standardized whenever they are used."""

    def __init__(self) -> None:
        super().__init__(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(self.weight.reshape(1, 8, -1), None, None, training=True).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Drop(nn.Module):
    """Reads the mode in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 if self.training else x


class Attend(nn.Module):
    """Self-attention over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        return (tokens @ (tokens.transpose(1, 2) @ tokens).softmax(-1)).view(x.shape)

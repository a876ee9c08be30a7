"""The refined decoder: it sums features instead of scores, and refines each sum by a separable convolution."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fullconv.geometry import Layer
from fullconv.net.fcn.score_layers import make_score_layer

__all__ = ["CONTEXT", "REFINEMENT", "Context", "RefinedDecoder", "Refinement", "widest_context"]

REFINEMENT = Layer(3, padding=(1, 1))
"""The depthwise convolution after each sum."""

CONTEXT = (1, 2, 4)
"""The dilations of the convolutions for context."""


def widest_context() -> Layer:
    """Return the context's convolution with the largest receptive field; the others lie inside of it."""
    return Layer(3, padding=(CONTEXT[-1],) * 2, dilation=CONTEXT[-1])


class RefinedDecoder(nn.Module):
    """The layers of the refined decoder that have weights; `FCN.fuse` upsamples and sums between them.

    `project_fr` and `project_pool4`, ... (coarse to fine) are 1 x 1 convolutions from a tap to `width` channels, with
    batch norm. With `context`, parallel dilated depthwise 3 x 3 convolutions are added to the coarsest projection.
    `refine_pool4`, ... follow the sum on each skip (`Refinement`).
    """

    def __init__(self, channels: Mapping[str, int], width: int, context: bool) -> None:
        """Make the layers; `channels` are those of the taps by name (fr, pool4, ...), coarse to fine."""
        super().__init__()
        for name, count in channels.items():
            self.add_module(f"project_{name}", _normed(nn.Conv2d(count, width, 1, bias=False)))
            if name != "fr":
                self.add_module(f"refine_{name}", Refinement(width))
        self.context = Context(width) if context else nn.Identity()
        self.width, self.auxiliary = width, nn.ModuleList()

    def project(self, name: str, tap: Tensor) -> Tensor:
        """Return the projection of a tap, N x width x h x w, with context for the coarsest one."""
        projected: Tensor = self.get_submodule(f"project_{name}")(tap)
        return self.context(projected) if name == "fr" else projected

    def supervise(self, num_classes: int) -> None:
        """Add a score layer for each sum but the last, for the training only: model files do not keep them."""
        coarser = sum(name.startswith("refine_") for name, _ in self.named_children())
        self.auxiliary = nn.ModuleList(make_score_layer(self.width, num_classes) for _ in range(coarser))

    def refine(self, name: str, fused: Tensor) -> Tensor:
        """Return the refined sum on the skip of that name."""
        refined: Tensor = self.get_submodule(f"refine_{name}")(fused)
        return refined


class Context(nn.Module):
    """x + f(x), where f sums three depthwise 3 x 3 convolutions, dilated by `CONTEXT`; then ReLU and a 1 x 1 one.

    Each convolution has batch norm, and f starts at zero.
    """

    def __init__(self, width: int) -> None:
        """Make the convolutions for a map of `width` channels."""
        super().__init__()
        self.branches = nn.ModuleList(
            _normed(nn.Conv2d(width, width, 3, padding=rate, dilation=rate, groups=width, bias=False))
            for rate in CONTEXT
        )
        self.pointwise = _make_last(width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map with context, of the same shape."""
        first, *others = self.branches
        total = first(features)
        for branch in others:
            total = total + branch(features)
        changes: Tensor = self.pointwise(total.relu())
        return features + changes


class Refinement(nn.Module):
    """x + f(x), where f is a depthwise 3 x 3 convolution with ReLU, then a 1 x 1 one, both with batch norm.

    f starts at zero, so that a training begins with the paper's linear sums; it learns faster that way.
    """

    def __init__(self, width: int) -> None:
        """Make the layers for a map of `width` channels."""
        super().__init__()
        self.depthwise = _normed(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False))
        self.pointwise = _make_last(width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the refined map, of the same shape."""
        changes: Tensor = self.pointwise(self.depthwise(features).relu())
        return features + changes


def _make_last(width: int) -> nn.Sequential:
    """Return the 1 x 1 convolution with batch norm that ends a branch, which starts at zero."""
    return _normed(nn.Conv2d(width, width, 1, bias=False), gain=0.0)


def _normed(conv: nn.Conv2d, gain: float = 1.0) -> nn.Sequential:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    norm = nn.BatchNorm2d(conv.out_channels)
    nn.init.constant_(norm.weight, gain)
    return nn.Sequential(conv, norm)

"""Score layers, and the layers between skips and them."""

from __future__ import annotations

from torch import Tensor, nn

from fullconv.net.fcn.spec import NetSpec

__all__ = ["Scale", "make_norm", "make_score_layer"]

AT_ONCE_SCALES = {16: 1e-2, 8: 1e-4, 4: 1e-4, 2: 1e-4}
"""The factors for pool4 and pool3 in the published FCN-8s-at-once, by stride; it has no pool2 and no pool1."""


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        """Take the constant."""
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """Return the map times the factor."""
        return features * self.factor

    def extra_repr(self) -> str:
        """Return the factor for `print(net)`."""
        return str(self.factor)


def make_norm(stride: int, channels: int, spec: NetSpec) -> nn.Module:
    """Return the layer between a skip and its score layer."""
    if spec.norm:
        return nn.BatchNorm2d(channels)
    return Scale(AT_ONCE_SCALES[stride]) if spec.at_once else nn.Identity()


def make_score_layer(channels: int, num_classes: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution from a map to scores, which starts at zero."""
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv

"""Dilation of networks with gates, scales, and pooling with much padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fullconv.net.fcn.network import rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.surgery.dilate import dilate


class Scaled(nn.Module):
    """ConvNeXt's scale of a branch after a strided layer, and a squeeze-and-excitation gate with a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 3, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1)
        self.scale, self.end = nn.Parameter(torch.rand(3, 1, 1)), nn.Conv2d(3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * torch.sigmoid(self.fc(self.pool(x)))
        return self.end(x + self.scale * x)


def test_scales_and_gates_do_not_hinder_dilation() -> None:
    model = nn.Sequential(Scaled(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    assert [int(tap.field.stride) for tap in dilate(convolutionalize(model, (8, 8)), 1).geometry] == [1, 1]


def test_dilated_max_pooling_may_pad_by_more_than_half_its_kernel() -> None:
    """GoogLeNet has a branch with pooling of stride 1, which dilation reaches after dropped strides."""
    body = [nn.Conv2d(3, 4, 2, 2), nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1, ceil_mode=True)]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double().eval()
    coarse = convolutionalize(model, (16, 16))
    fine = dilate(coarse, 1)
    image = torch.randn(1, 3, 29, 33, dtype=torch.float64)
    with torch.no_grad():
        dilated, expected = fine.module(image)[:, :, ::4, ::4], coarse.module(image)
    torch.testing.assert_close(dilated[:, :, : expected.shape[2], : expected.shape[3]], expected)
    with torch.device("meta"):
        net = rebuild(NetSpec("googlenet", 2, 8, dilate=8))
        assert net(torch.zeros(1, 3, 65, 97)).shape == (1, 2, 65, 97)

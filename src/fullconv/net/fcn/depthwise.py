"""Depthwise convolutions whose gradients are computed in float32 under autocast to bfloat16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["speed_up_depthwise"]


def speed_up_depthwise(net: nn.Module) -> int:
    """Let the depthwise convolutions of a network compute their gradients in float32, and return their number.

    oneDNN has no fast bfloat16 kernel for gradients of strided or 5 x 5 depthwise convolutions: on two cores, they took
    60 % of a training step of EfficientNet-Lite 0. Names, parameters and results of the forward pass stay.
    """
    count = 0
    for module in net.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = _DepthwiseConv2d
            count += 1
    return count


def _is_depthwise(conv: nn.Conv2d) -> bool:
    plain = conv.bias is None and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and 1 < conv.groups == conv.in_channels == conv.out_channels


class _DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that differs from nn.Conv2d in its backward pass under autocast on a CPU only."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        settings = [list(self.stride), [int(pad) for pad in self.padding], list(self.dilation)]
        half = torch.get_autocast_dtype("cpu")
        result: Tensor = _Float32Gradients.apply(input, weight, settings, half)
        return result


class _Float32Gradients(torch.autograd.Function):
    """A depthwise convolution in half precision, forward, and in float32, backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, settings: list[list[int]], half: torch.dtype) -> Tensor:
        ctx.settings, ctx.dtypes = settings, (features.dtype, weight.dtype)
        features, weight = features.to(half), weight.to(half)
        ctx.save_for_backward(features, weight)
        return torch.conv2d(features, weight, None, *settings, len(weight))  # type: ignore[call-overload,no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = (saved.float() for saved in ctx.saved_tensors)
        needed = [*ctx.needs_input_grad[:2], False]
        gradients = torch.ops.aten.convolution_backward(
            gradient.float(), features, weight, None, *ctx.settings, False, [0, 0], len(weight), needed
        )
        wanted = zip(gradients, ctx.dtypes, strict=False)
        return (*(None if value is None else value.to(dtype) for value, dtype in wanted), None, None)

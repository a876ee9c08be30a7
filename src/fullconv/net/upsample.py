"""Upsampling by transposed convolution: the bilinear kernel, fixed or learned."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.geometry import Upsampling, bilinear_kernel

__all__ = ["Upsample", "UpsampleMode"]

UpsampleMode = Literal["fixed", "learned"]


class Upsample(nn.Module):
    """Transposed convolution with a bilinear kernel, and the crop onto the finer grid.

    N x K x h x w floats to N x K x H x W, with H and W given at each call. `vertical` and `horizontal` come
    from `geometry.aligned_crop`. `fixed` has no parameters (the paper's learning rate 0) and is computed as two
    products with the banded matrices of the separable kernel: the same numbers as the transposed convolution,
    in a fraction of its time on a CPU (benchmarks/upsample.py). `learned` starts from the same numbers and owns
    a full K x K kernel, so that classes can mix.
    """

    def __init__(
        self, channels: int, vertical: Upsampling, horizontal: Upsampling, mode: UpsampleMode = "fixed"
    ) -> None:
        super().__init__()
        self.axes = (vertical, horizontal)
        self.mode = mode
        if mode == "learned":
            rows, columns = (torch.tensor(bilinear_kernel(axis)) for axis in self.axes)
            kernel = torch.zeros(channels, channels, len(rows), len(columns))
            kernel[range(channels), range(channels)] = torch.outer(rows, columns)
            self.weight = nn.Parameter(kernel)

    def forward(self, coarse: Tensor, size: tuple[int, int], start: tuple[int, int] | None = None) -> Tensor:
        """Rows start[0] to start[0] + size[0], columns likewise, of the transposed convolution's output.

        `start` is the crop of `axes` unless given. These cells must meet the output; those beyond it are zero.
        The type of `coarse` is kept, under autocast too.
        """
        top, left = start or (self.axes[0].crop, self.axes[1].crop)
        with _no_autocast(coarse.device.type):
            return self._window(coarse, size, top, left)

    def _window(self, coarse: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
        if self.mode == "fixed":
            rows = _band(self.axes[0], coarse.shape[2], size[0], top, coarse)
            columns = _band(self.axes[1], coarse.shape[3], size[1], left, coarse)
            return rows @ coarse @ columns.T
        stride = (self.axes[0].factor, self.axes[1].factor)
        full = functional.conv_transpose2d(coarse, self.weight, stride=stride)
        below, right = top + size[0] - full.shape[2], left + size[1] - full.shape[3]
        return functional.pad(full, (-left, right, -top, below))

    def extra_repr(self) -> str:
        """Factor, kernel and mode for `print(net)`."""
        vertical, horizontal = self.axes
        factor, kernel = (vertical.factor, horizontal.factor), (vertical.kernel, horizontal.kernel)
        return f"factor={factor}, kernel={kernel}, mode={self.mode}"


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """In half precision a score that is summed over skips would lose more than it has (not every device casts)."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _band(axis: Upsampling, coarse: int, fine: int, start: int, like: Tensor) -> Tensor:
    """The fine x coarse matrix M of a transposed convolution: M[i, j] = kernel[i + start - j * factor]."""
    kernel = torch.tensor(bilinear_kernel(axis), device=like.device, dtype=like.dtype)
    row = torch.arange(fine, device=like.device)[:, None] + start
    tap = row - axis.factor * torch.arange(coarse, device=like.device)
    inside = (tap >= 0) & (tap < axis.kernel)
    return torch.where(inside, kernel[tap.clamp(0, axis.kernel - 1)], 0)

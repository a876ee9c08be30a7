"""Upsampling by transposed convolution with a bilinear kernel, fixed or learned, and the alternatives to it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.choices import UpsampleMode
from fullconv.geometry import Upsampling, bilinear_kernel

__all__ = ["Unpool", "Upsample"]


class Upsample(nn.Module):
    """Transposed convolution with a bilinear kernel, and the crop onto the finer grid.

    N x K x h x w floats to N x K x H x W, with H and W given at each call. `vertical` and `horizontal` come from
    `geometry.aligned_crop`. The modes:

    - `fixed` has no parameters (the paper's learning rate 0). It is computed as two products with the banded matrices
      of the separable kernel: the same numbers as the transposed convolution, in less time on a CPU
      (benchmarks/upsample.py).
    - `learned` starts from the same numbers and has a full K x K kernel, so that classes can mix. It is computed block
      by block, so that a few rows cost no more than themselves.
    - `resize` stretches the map to the finer one's size, as `interpolate` does, without geometry: where the sizes do
      not have the ratio of the strides, cells are shifted, by another amount in each image.
    - `unpool` is `fixed`, for the upsampling that remains after `Unpool`.

    Beyond the border, cells are zero, or with `repeat_border` (for `fixed`) equal to the last cell, as in a resize.
    """

    def __init__(
        self,
        channels: int,
        vertical: Upsampling,
        horizontal: Upsampling,
        mode: UpsampleMode = "fixed",
        repeat_border: bool = False,
    ) -> None:
        """Make the layer for maps of `channels`."""
        super().__init__()
        self.repeat_border = repeat_border
        self.axes = (vertical, horizontal)
        self.mode = mode
        if mode == "learned":
            rows, columns = (torch.tensor(bilinear_kernel(axis)) for axis in self.axes)
            kernel = torch.zeros(channels, channels, len(rows), len(columns))
            kernel[range(channels), range(channels)] = torch.outer(rows, columns)
            self.weight = nn.Parameter(kernel)

    def forward(
        self,
        coarse: Tensor,
        size: tuple[int, int],
        start: tuple[int, int] | None = None,
        whole: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return rows start[0] to start[0] + size[0] of the transposed convolution's output, and columns likewise.

        The default of `start` is the crop of `axes`. The window must overlap the output; cells beyond it are zero.
        `resize` cuts the window from the map stretched to `whole` (default `size`), by default from cell (0, 0).
        The result has the dtype of `coarse`, under autocast, too.
        """
        with _no_autocast(coarse.device.type):
            if self.mode == "resize":
                top, left = start or (0, 0)
                rows, columns = (_stretch(n, m, coarse) for n, m in zip(coarse.shape[2:], whole or size, strict=True))
                return rows[top : top + size[0]] @ coarse @ columns[left : left + size[1]].T
            top, left = start or (self.axes[0].crop, self.axes[1].crop)
            return self._window(coarse, size, top, left)

    def _window(self, coarse: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
        vertical, horizontal = self.axes
        if self.mode == "learned" and (vertical.kernel, horizontal.kernel) != (1, 1):
            return self._blocks(coarse, size, top, left)
        rows = vertical.sources(top, size[0], coarse.shape[2])
        columns = horizontal.sources(left, size[1], coarse.shape[3])
        coarse = coarse[:, :, rows.start : rows.stop, columns.start : columns.stop]
        top, left = top - rows.start * vertical.factor, left - columns.start * horizontal.factor
        if vertical.kernel == horizontal.kernel == 1:
            return _cut(coarse, size, top, left)
        band = _band_with_border if self.repeat_border else _band
        down = band(vertical, coarse.shape[2], size[0], top, coarse)
        across = band(horizontal, coarse.shape[3], size[1], left, coarse)
        return down @ coarse @ across.T

    def _blocks(self, coarse: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
        """Apply the learned kernel block by block: a convolution returns the factor x factor outputs of each cell.

        Each output depends on ceil(kernel / factor) cells, so the kernel is split into one kernel of that size for
        each position in a block (polyphase). Only the blocks that overlap the window are computed.
        """
        weight, spans, pads, lengths, begins = self.weight.to(coarse.dtype), [], [], [], []
        for axis, start, length, cells in zip(self.axes, (top, left), size, coarse.shape[2:], strict=True):
            lengths.append(-(-axis.kernel // axis.factor))
            block, end = start // axis.factor, (start + length - 1) // axis.factor + 1
            first = block - lengths[-1] + 1
            spans.append(slice(max(first, 0), max(min(end, cells), 0)))
            pads.append((max(-first, 0), max(end - cells, 0)))
            begins.append(start - block * axis.factor)
        (high, wide), (down, across) = lengths, (axis.factor for axis in self.axes)
        lacking = (0, wide * across - weight.shape[3], 0, high * down - weight.shape[2])
        kernels = functional.pad(weight, lacking).reshape(*weight.shape[:2], high, down, wide, across)
        kernels = kernels.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
        padded = functional.pad(coarse[:, :, spans[0], spans[1]], (*pads[1], *pads[0]))
        blocks = functional.conv2d(padded, kernels)
        blocks = blocks.reshape(len(blocks), -1, down, across, *blocks.shape[2:])
        whole: Tensor = blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        (y, x), (height, width) = begins, size
        return whole[:, :, y : y + height, x : x + width]

    def extra_repr(self) -> str:
        """Return factor, kernel and mode for `print(net)`."""
        vertical, horizontal = self.axes
        factor, kernel = (vertical.factor, horizontal.factor), (vertical.kernel, horizontal.kernel)
        return f"factor={factor}, kernel={kernel}, mode={self.mode}"


class Unpool(nn.Module):
    """Unpooling (Zeiler and Fergus, ECCV 2014): each value goes to the position of the maximum in its pooling.

    N x K x h x w floats to N x K x H x W, the size of the pooling's input. The indices belong to the C channels of the
    pooling, so a 1 x 1 convolution first turns the K scores into C; a 3 x 3 convolution back to K fills the gaps.
    `axes` shift the scores onto the pooling's output.
    """

    def __init__(self, classes: int, channels: int, pool: nn.MaxPool2d, axes: tuple[Upsampling, Upsampling]) -> None:
        """Make the layer for score maps of `classes` that undoes `pool`, whose maps have `channels`."""
        super().__init__()
        self.unpool = nn.MaxUnpool2d(pool.kernel_size, pool.stride, pool.padding)
        self.enter = Upsample(classes, *axes)
        self.widen = nn.Conv2d(classes, channels, 1)
        self.fill = nn.Conv2d(channels, classes, 3, padding=1)

    def forward(self, coarse: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Unpool with the pooling's `indices`, N x C x h' x w' int64, to the `size` of its input (height, width)."""
        wide = self.widen(self.enter(coarse, (indices.shape[2], indices.shape[3])))
        filled: Tensor = self.fill(self.unpool(wide.to(coarse.dtype), indices.long(), list(size)))
        return filled.to(coarse.dtype)


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context without autocast: half precision is too coarse for sums of scores. Not all devices cast."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _band(axis: Upsampling, coarse: int, fine: int, start: int, like: Tensor) -> Tensor:
    """Return the fine x coarse matrix M of a transposed convolution: M[i, j] = kernel[i + start - j * factor]."""
    kernel = torch.tensor(bilinear_kernel(axis), device=like.device, dtype=like.dtype)
    row = torch.arange(fine, device=like.device)[:, None] + start
    index = row - axis.factor * torch.arange(coarse, device=like.device)
    inside = (index >= 0) & (index < axis.kernel)
    return torch.where(inside, kernel[index.clamp(0, axis.kernel - 1)], 0)


def _band_with_border(axis: Upsampling, coarse: int, fine: int, start: int, like: Tensor) -> Tensor:
    """Return the matrix of `_band` for a map whose first and last cells are repeated beyond its border."""
    band = _band(axis, coarse + 2, fine, start + axis.factor, like)
    inner = band[:, 1:-1].clone()
    inner[:, 0] += band[:, 0]
    inner[:, -1] += band[:, -1]
    return inner


def _cut(full: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
    """Return the window of `size` at (top, left), with zeros where it lies outside `full`."""
    (first, last, *rows), (begin, end, *columns) = (
        _inside(n, m, start) for n, m, start in zip(full.shape[2:], size, (top, left), strict=True)
    )
    return functional.pad(full[:, :, first:last, begin:end], (*columns, *rows))


def _inside(length: int, size: int, start: int) -> tuple[int, int, int, int]:
    """Return the start and stop of a window's cells that exist, and how many lie before and after them."""
    first = min(max(start, 0), length)
    last = max(first, min(length, start + size))
    before = min(size, max(0, -start))
    return first, last, before, size - before - (last - first)


def _stretch(coarse: int, fine: int, like: Tensor) -> Tensor:
    """Return the fine x coarse matrix of a linear resize with half-pixel centers and repeated borders."""
    unit = torch.eye(coarse, device=like.device, dtype=like.dtype)
    return functional.interpolate(unit[None], fine, mode="linear", align_corners=False)[0].T

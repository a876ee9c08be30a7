"""Upsampling by transposed convolution, with a bilinear kernel, fixed or learned; and the alternatives to it."""

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

    N x K x h x w floats to N x K x H x W, with H and W given at each call. `vertical` and `horizontal` come
    from `geometry.aligned_crop`. `fixed` has no parameters (the paper's learning rate 0) and is computed as two
    products with the banded matrices of the separable kernel: the same numbers as the transposed convolution,
    in a fraction of its time on a CPU (benchmarks/upsample.py). `learned` starts from the same numbers and owns
    a full K x K kernel, so that classes can mix; it is computed block by block, without waste on a few rows.
    `resize` stretches the map to the finer one's size, as
    `interpolate` does, and asks no geometry: where the sizes are not in the ratio of the strides, cells are
    shifted, by another amount in each image. `unpool` is `fixed`, for what is left to do behind `Unpool`.
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

    def forward(
        self,
        coarse: Tensor,
        size: tuple[int, int],
        start: tuple[int, int] | None = None,
        whole: tuple[int, int] | None = None,
    ) -> Tensor:
        """Rows start[0] to start[0] + size[0], columns likewise, of the transposed convolution's output.

        `start` is the crop of `axes` unless given. These cells must meet the output; those beyond it are zero.
        `resize` takes them from the map stretched to `whole`, from cell (0, 0) and to `size` unless given.
        The type of `coarse` is kept, under autocast too.
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
        down = _band(vertical, coarse.shape[2], size[0], top, coarse)
        across = _band(horizontal, coarse.shape[3], size[1], left, coarse)
        return down @ coarse @ across.T

    def _blocks(self, coarse: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
        """The learned kernel block by block: a convolution gives each cell's block of factor x factor outputs.

        An output sees as many cells as the kernel is factors long; so the kernel is cut into one of that many cells
        for each place in a block (polyphase), and no output outside of the blocks that are asked for is computed.
        """
        weight, spans, pads, taps, begins = self.weight.to(coarse.dtype), [], [], [], []
        for axis, start, length, cells in zip(self.axes, (top, left), size, coarse.shape[2:], strict=True):
            taps.append(-(-axis.kernel // axis.factor))
            block, end = start // axis.factor, (start + length - 1) // axis.factor + 1
            first = block - taps[-1] + 1
            spans.append(slice(max(first, 0), max(min(end, cells), 0)))
            pads.append((max(-first, 0), max(end - cells, 0)))
            begins.append(start - block * axis.factor)
        (high, wide), (down, across) = taps, (axis.factor for axis in self.axes)
        lacking = (0, wide * across - weight.shape[3], 0, high * down - weight.shape[2])
        places = functional.pad(weight, lacking).reshape(*weight.shape[:2], high, down, wide, across)
        places = places.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
        padded = functional.pad(coarse[:, :, spans[0], spans[1]], (*pads[1], *pads[0]))
        blocks = functional.conv2d(padded, places)
        blocks = blocks.reshape(len(blocks), -1, down, across, *blocks.shape[2:])
        whole: Tensor = blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        (y, x), (height, width) = begins, size
        return whole[:, :, y : y + height, x : x + width]

    def extra_repr(self) -> str:
        """Factor, kernel and mode for `print(net)`."""
        vertical, horizontal = self.axes
        factor, kernel = (vertical.factor, horizontal.factor), (vertical.kernel, horizontal.kernel)
        return f"factor={factor}, kernel={kernel}, mode={self.mode}"


class Unpool(nn.Module):
    """Unpooling (Zeiler and Fergus, ECCV 2014): each value goes to where its pooling found the maximum.

    N x K x h x w floats to N x K x H x W, the size of the pooling's input. The maxima are those of the pooling's
    own C channels, so the K scores are first widened to C (1 x 1); a 3 x 3 convolution back to K fills the gaps.
    `axes` shift the scores onto the pooling's output.
    """

    def __init__(self, classes: int, channels: int, pool: nn.MaxPool2d, axes: tuple[Upsampling, Upsampling]) -> None:
        super().__init__()
        self.unpool = nn.MaxUnpool2d(pool.kernel_size, pool.stride, pool.padding)
        self.enter = Upsample(classes, *axes)
        self.widen = nn.Conv2d(classes, channels, 1)
        self.fill = nn.Conv2d(channels, classes, 3, padding=1)

    def forward(self, coarse: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """places: N x C x h' x w' int64, the pooling's indices; size: of the pooling's input (height, width)."""
        wide = self.widen(self.enter(coarse, (places.shape[2], places.shape[3])))
        filled: Tensor = self.fill(self.unpool(wide.to(coarse.dtype), places.long(), list(size)))
        return filled.to(coarse.dtype)


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


def _cut(full: Tensor, size: tuple[int, int], top: int, left: int) -> Tensor:
    """The window of `size` at (top, left), with zeros where it lies outside of `full`."""
    (first, last, *rows), (begin, end, *columns) = (
        _inside(n, m, start) for n, m, start in zip(full.shape[2:], size, (top, left), strict=True)
    )
    return functional.pad(full[:, :, first:last, begin:end], (*columns, *rows))


def _inside(length: int, size: int, start: int) -> tuple[int, int, int, int]:
    """First and last of a window's cells that exist, and how many lie before and behind."""
    first = min(max(start, 0), length)
    last = max(first, min(length, start + size))
    before = min(size, max(0, -start))
    return first, last, before, size - before - (last - first)


def _stretch(coarse: int, fine: int, like: Tensor) -> Tensor:
    """The fine x coarse matrix of a linear resize, half-pixel centres, borders repeated."""
    unit = torch.eye(coarse, device=like.device, dtype=like.dtype)
    return functional.interpolate(unit[None], fine, mode="linear", align_corners=False)[0].T

"""A fully connected layer as a convolution that is also fast on small maps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MAX_MATMUL_CELLS", "LinearAsConv", "as_convolution"]

MAX_MATMUL_CELLS = 256
"""The number of output cells up to which one matrix product is faster than the convolution.

The weights are then so much larger than the map that reordering them for a convolution costs more than the product."""


class LinearAsConv(nn.Conv2d):
    """A convolution without padding, stride or dilation: N x C x h x w to N x K x (h - F + 1) x (w - F' + 1).

    For few output cells, the windows are laid out as rows of a matrix and multiplied with the weights, as the original
    linear layer does; both ways agree to rounding.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        number, _, height, width = input.shape
        rows, columns = height - self.kernel_size[0] + 1, width - self.kernel_size[1] + 1
        plain = (self.stride, self.padding, self.dilation, self.groups) == ((1, 1), (0, 0), (1, 1), 1)
        if not plain or not 0 < number * rows * columns <= MAX_MATMUL_CELLS or min(rows, columns) < 1:
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        windows = input.unfold(2, self.kernel_size[0], 1).unfold(3, self.kernel_size[1], 1)
        if weight.is_contiguous():
            windows = windows.permute(0, 2, 3, 1, 4, 5)
        else:  # channels last: use this order, so that the weights are not copied
            windows, weight = windows.permute(0, 2, 3, 4, 5, 1), weight.permute(0, 2, 3, 1)
        flat = windows.reshape(number * rows * columns, -1)
        output: Tensor = functional.linear(flat, weight.flatten(1), bias)
        return output.view(number, rows, columns, -1).permute(0, 3, 1, 2)


def as_convolution(linear: nn.Module, shape: tuple[int, int, int]) -> LinearAsConv:
    """Return a linear layer on flattened maps of this shape (C, height, width) as a convolution with its parameters."""
    weight, bias = linear.weight, linear.bias
    assert isinstance(weight, nn.Parameter)
    conv = LinearAsConv(shape[0], len(weight), shape[1:], bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.detach().view(conv.weight.shape), weight.requires_grad)
    conv.bias = bias  # type: ignore[assignment]
    return conv.train(linear.training)

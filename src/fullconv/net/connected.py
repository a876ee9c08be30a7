"""A fully connected layer as a convolution, quick on small maps too."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FEW_CELLS", "Connected"]

FEW_CELLS = 256
"""Up to so many output cells, one product of matrices is quicker than the convolution: the weights are so much larger
than the map that bringing them into the order in which convolutions read them costs more than the convolution."""


class Connected(nn.Conv2d):
    """A convolution without padding, stride or dilation: N x C x h x w to N x K x (h - F + 1) x (w - F' + 1).

    On few cells the windows are laid side by side and multiplied with the weights, as the linear layer did that it
    comes from; the values agree to rounding.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        number, _, height, width = input.shape
        rows, columns = height - self.kernel_size[0] + 1, width - self.kernel_size[1] + 1
        plain = (self.stride, self.padding, self.dilation, self.groups) == ((1, 1), (0, 0), (1, 1), 1)
        if not plain or not 0 < number * rows * columns <= FEW_CELLS or min(rows, columns) < 1:
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        windows = input.unfold(2, self.kernel_size[0], 1).unfold(3, self.kernel_size[1], 1)
        if weight.is_contiguous():
            windows = windows.permute(0, 2, 3, 1, 4, 5)
        else:  # channels last: their order, so that the weights are not copied
            windows, weight = windows.permute(0, 2, 3, 4, 5, 1), weight.permute(0, 2, 3, 1)
        flat = windows.reshape(number * rows * columns, -1)
        found: Tensor = functional.linear(flat, weight.flatten(1), bias)
        return found.view(number, rows, columns, -1).permute(0, 3, 1, 2)

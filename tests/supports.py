"""Which pixels contribute to which cells, computed with torch's own layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fullconv.geometry import (
    Layer,
)


def reads(layers: list[Layer], size: int) -> Tensor:
    """Return, as cells x pixels, whether a pixel contributes to a cell of torch's layers with positive weights."""
    x = torch.eye(size, dtype=torch.float64)[:, None]
    for layer in layers:
        weight = torch.ones(1, 1, layer.kernel, dtype=torch.float64)
        if layer.transposed:
            x = nn.functional.conv_transpose1d(
                x, weight, None, layer.stride, layer.padding[0], layer.output_padding, 1, layer.dilation
            )
        else:
            room = x.shape[2] + sum(layer.padding) - layer.reach - 1
            partial = -room % layer.stride if layer.ceil_mode else 0
            x = nn.functional.pad(x, (layer.padding[0], layer.padding[1] + partial))
            x = nn.functional.conv1d(x, weight, None, layer.stride, 0, layer.dilation)
    return x[:, 0].T > 0


def spans(support: Tensor) -> list[tuple[int, int] | None]:
    """Return the first and the last pixel of each cell, None for a cell without pixels."""
    pixels_by_cell = [row.nonzero().flatten().tolist() for row in support]
    return [(pixels[0], pixels[-1]) if pixels else None for pixels in pixels_by_cell]

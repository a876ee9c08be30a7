"""Whether each cell of a dense network is what the classifier gives on the crop that geometry names."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fullconv.errors import UsageError
from fullconv.net.backbones import classifier, input_size
from fullconv.net.surgery import Surgery, convolutionalize

__all__ = ["DenseCheck", "check_classifier", "check_dense", "enlivened"]

Pair = tuple[int, int]

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class DenseCheck:
    """The dense map of one random image against the classifier on its crops, in float64.

    `differences` holds, by row and column of cells, the largest difference of a logit; `scale` is the largest logit
    of the classifier, against which a cell counts as equal up to 1e-6. `stride` leads from crop to crop, in pixels.
    `fidelity` is what `Surgery.fidelity` says beforehand.
    """

    size: Pair
    stride: Pair
    fidelity: str
    differences: tuple[tuple[float, ...], ...]
    scale: float

    @property
    def cells(self) -> int:
        """Cells that were compared."""
        return sum(len(row) for row in self.differences)

    @property
    def differing(self) -> tuple[Pair, ...]:
        """The cells (row, column) that are not the classifier's logits on their crop."""
        limit = _TOLERANCE * self.scale
        return tuple(
            (i, j) for i, row in enumerate(self.differences) for j, value in enumerate(row) if not value <= limit
        )

    @property
    def largest(self) -> float:
        """The largest difference of all, relative to `scale`."""
        return max(max(row) for row in self.differences) / self.scale

    def lines(self) -> list[str]:
        """The outcome in words."""
        image = f"{self.size[0]}x{self.size[1]}"
        told = {
            "exact": "no padding takes part: each cell of the dense map is the classifier on its crop",
            "padding": "the classifier pads its crops, the dense map sees the image there: cells may differ",
            "global context": "every cell depends on the whole image: cells differ, and tiles differ from the whole",
        }[self.fidelity]
        found = f"{self.cells - len(self.differing)} of {self.cells} cells of a {image} image equal the classifier"
        lines = [f"{self.fidelity}: {told}", found]
        if self.differing:
            places = ", ".join(f"({i}, {j})" for i, j in self.differing[:8])
            more = f" and {len(self.differing) - 8} more" if len(self.differing) > 8 else ""
            lines.append(f"cells that differ: {places}{more}; by at most {self.largest:.2g} of the largest logit")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "size": list(self.size),
            "stride": list(self.stride),
            "fidelity": self.fidelity,
            "cells": self.cells,
            "differing": [list(cell) for cell in self.differing],
            "largest": self.largest,
            "differences": [list(row) for row in self.differences],
        }


def check_dense(model: nn.Module, dense: Surgery, size: Pair | None = None, seed: int = 0) -> DenseCheck:
    """Compare the dense network with its classifier, crop by crop, on a random RGB image of `size`.

    Without a size it is the classifier's own and two strides more in both directions, so that there are 3 x 3 crops.
    Raises UsageError for a size below the classifier's own.
    """
    strides = [int(tap.field.stride) for tap in dense.taps]
    steps = [max(stride, dense.multiple) for stride in strides]
    height, width = dense.size
    rows, columns = size or (height + 2 * steps[0], width + 2 * steps[1])
    if rows < height or columns < width:
        raise UsageError(f"an image of {rows}x{columns} has no crop of {height}x{width}, which the classifier takes")
    channels = next(iter(dense.nodes.values())).shape[0]
    image = torch.rand(1, channels, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ours, theirs = copy.deepcopy(dense.module).double().eval(), copy.deepcopy(model).double().eval()
    differences, scale = [], 0.0
    with torch.no_grad():
        logits = dense.as_given(ours(image))
        for i in range(min(logits.shape[2], (rows - height) // strides[0] + 1)):
            row = []
            for j in range(min(logits.shape[3], (columns - width) // strides[1] + 1)):
                top, left = i * strides[0], j * strides[1]
                expected = theirs(image[:, :, top : top + height, left : left + width]).flatten(1)
                row.append(float((logits[:, :, i, j] - expected).abs().max()))
                scale = max(scale, float(expected.abs().max()))
            differences.append(tuple(row))
    return DenseCheck((rows, columns), (strides[0], strides[1]), dense.fidelity, tuple(differences), scale)


def enlivened(model: nn.Module) -> nn.Module:
    """The model with its scales drawn from U(0.5, 1.5): those of norms, of layers and of residual branches.

    Some start at zero or near it, and what lies behind them could not be told from nothing. They are the parameters of
    one value all through, biases aside; matrices of zeros, where there are any, become small random ones.
    """
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not value.numel() or name.endswith("bias") or bool((value != value.flatten()[0]).any()):
                continue
            if value.numel() == max(value.shape, default=1):
                value.uniform_(0.5, 1.5)
            else:
                value.normal_(0, 0.02)
    return model


def check_classifier(name: str, size: Pair | None = None) -> DenseCheck:
    """`check_dense` of a classifier by name, with random weights and `enlivened`."""
    torch.manual_seed(0)
    model = enlivened(classifier(name)[0]).eval()
    return check_dense(model, convolutionalize(model, input_size(name)), size)

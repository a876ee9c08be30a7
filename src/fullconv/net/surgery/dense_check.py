"""Compare each cell of a dense network with the classifier on the crop that geometry assigns to the cell."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fullconv.errors import UsageError
from fullconv.net.surgery.convolutionalize import Surgery

__all__ = ["DenseCheck", "check_dense", "randomize_scales"]

Pair = tuple[int, int]

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class DenseCheck:
    """The dense map of one random image, compared with the classifier on its crops, in float64.

    `differences` holds, by row and column of cells, the largest difference of a logit. `scale` is the classifier's
    largest logit; a cell counts as equal up to 1e-6 of it. `stride` is the step from crop to crop, in pixels.
    `fidelity` is what `Surgery.fidelity` predicts.
    """

    size: Pair
    stride: Pair
    fidelity: str
    differences: tuple[tuple[float, ...], ...]
    scale: float

    @property
    def cells(self) -> int:
        """The number of cells that were compared."""
        return sum(len(row) for row in self.differences)

    @property
    def differing(self) -> tuple[Pair, ...]:
        """The cells (row, column) that differ from the classifier's logits on their crop."""
        limit = _TOLERANCE * self.scale
        return tuple(
            (i, j) for i, row in enumerate(self.differences) for j, value in enumerate(row) if not value <= limit
        )

    @property
    def largest(self) -> float:
        """The largest difference, relative to `scale`."""
        return max(max(row) for row in self.differences) / self.scale

    def lines(self) -> list[str]:
        """Return the outcome in sentences, one a line."""
        expectation = {
            "exact": "no padding is involved, so each cell of the dense map equals the classifier on its crop",
            "padding": "the classifier pads its crops where the dense map sees the image, so cells may differ",
            "global context": "cells depend on the whole image, so they differ, and tiles differ from the image",
        }[self.fidelity]
        equal = self.cells - len(self.differing)
        summary = f"{equal} of {self.cells} cells of a {self.size[0]}x{self.size[1]} image equal the classifier"
        lines = [f"{self.fidelity}: {expectation}", summary]
        if self.differing:
            cells = ", ".join(f"({i}, {j})" for i, j in self.differing[:8])
            more = f" and {len(self.differing) - 8} more" if len(self.differing) > 8 else ""
            lines.append(f"cells that differ: {cells}{more}; by at most {self.largest:.2g} of the largest logit")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
    """Compare the dense network with its classifier, crop by crop, on a random image of `size` (height, width).

    The default size is the classifier's input size plus two strides along both axes, which gives 3 x 3 crops.
    Raises UsageError for a size below the classifier's input size.
    """
    strides = [int(tap.field.stride) for tap in dense.geometry]
    steps = [max(stride, dense.multiple) for stride in strides]
    height, width = dense.size
    rows, columns = size or (height + 2 * steps[0], width + 2 * steps[1])
    if rows < height or columns < width:
        message = f"an image of {rows}x{columns} is smaller than the classifier's input size {height}x{width}"
        raise UsageError(message, code="image-too-small")
    channels = next(iter(dense.nodes.values())).shape[0]
    image = torch.rand(1, channels, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    network, classifier = copy.deepcopy(dense.module).double().eval(), copy.deepcopy(model).double().eval()
    differences, scale = [], 0.0
    with torch.no_grad():
        logits = dense.apply_end(network(image))
        for i in range(min(logits.shape[2], (rows - height) // strides[0] + 1)):
            row = []
            for j in range(min(logits.shape[3], (columns - width) // strides[1] + 1)):
                top, left = i * strides[0], j * strides[1]
                expected = classifier(image[:, :, top : top + height, left : left + width]).flatten(1)
                row.append(float((logits[:, :, i, j] - expected).abs().max()))
                scale = max(scale, float(expected.abs().max()))
            differences.append(tuple(row))
    return DenseCheck((rows, columns), (strides[0], strides[1]), dense.fidelity, tuple(differences), scale)


def randomize_scales(model: nn.Module) -> nn.Module:
    """Draw the scales of norms, layers and residual branches from U(0.5, 1.5), in place, and return the model.

    Some scales start at or near zero, which would hide an error in the layers before them. Scales are the parameters
    in which all values are equal, except biases; matrices of zeros become small random ones.
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

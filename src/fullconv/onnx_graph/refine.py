"""Build the refined decoder: bilinear upsampling of features, sums, and separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Float32
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.onnx_graph.build import FAR, Graph

__all__ = ["ConvWeights", "Refinement", "add_conv", "add_refinement"]


@dataclass(frozen=True, eq=False)
class ConvWeights:
    """A convolution with stride 1 and as much padding as keeps the size: `weight` is K x C / groups x h x w."""

    weight: Float32
    bias: Float32


Refinement = tuple[ConvWeights, ConvWeights]
"""A depthwise 3 x 3 and a 1 x 1 convolution."""


def add_refinement(
    graph: Graph, taps: Sequence[str], axes: Sequence[Sequence[Upsampling]], refinements: Sequence[Refinement]
) -> str:
    """Add the upsampling, the sums, and what is added to them: depthwise convolution, ReLU and 1 x 1 convolution.

    `axes` holds the vertical and the horizontal upsamplings, one per sum. Cells beyond the border equal the last cell.
    """
    fused = taps[0]
    for fine, vertical, horizontal, (depthwise, pointwise) in zip(taps[1:], *axes, refinements, strict=True):
        upsampled, fine = _align(graph, fused, fine, (vertical, horizontal), len(depthwise.weight))
        total = graph.add("Add", [upsampled, fine])
        inner = graph.add("Relu", [add_conv(graph, total, depthwise)])
        fused = graph.add("Add", [total, add_conv(graph, inner, pointwise)])
    return fused


def add_conv(graph: Graph, source: str, weights: ConvWeights) -> str:
    """Add a convolution that keeps the size of its map; one input channel per kernel means that it is depthwise."""
    count, per_group, *kernel = weights.weight.shape
    groups = count if per_group == 1 and kernel != [1, 1] else 1
    pads = [side // 2 for side in kernel] * 2
    constants = [graph.constant(array, np.float32) for array in (weights.weight, weights.bias)]
    return graph.add("Conv", [source, *constants], {"kernel_shape": kernel, "pads": pads, "group": groups})


def _align(graph: Graph, coarse: str, fine: str, ups: tuple[Upsampling, Upsampling], channels: int) -> tuple[str, str]:
    """Return the upsampled coarse map and the fine map on the cells that both have.

    Where coarse cells lie on fine cells, as in MobileNet, a resize gives the numbers of the transposed convolution in
    less time, and the fine map is never the larger one.
    """
    if all(up.kernel == 2 * up.factor - 1 and up.crop == up.factor - 1 for up in ups):
        scales = graph.constant([1, 1, *(up.factor for up in ups)], np.float32)
        resize = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
        upsampled = graph.add("Resize", [coarse, "", scales], resize)
        size = graph.add("Shape", [fine], {"start": 2, "end": 4})
        return graph.slice(upsampled, graph.constant([0, 0]), size, (2, 3)), fine
    far, ends = graph.constant([FAR, FAR]), graph.constant([0, 0, 1, 1, 0, 0, 1, 1])
    rows, columns = (bilinear_kernel(up) for up in ups)
    kernel = np.outer(rows, columns)[None, None].repeat(channels, 0)
    attributes: dict[str, int | list[int]] = {"strides": [up.factor for up in ups], "group": channels}
    padded = graph.add("Pad", [coarse, ends], {"mode": "edge"})
    upsampled = graph.add("ConvTranspose", [padded, graph.constant(kernel, np.float32)], attributes)
    starts = [up.factor + max(0, up.crop) for up in ups]
    upsampled = graph.slice(upsampled, graph.constant(starts), far, (2, 3))
    fine = graph.slice(fine, graph.constant([max(0, -up.crop) for up in ups]), far, (2, 3))
    limits = [_fused_size(graph, coarse, fine, axis, up) for axis, up in zip((2, 3), ups, strict=True)]
    size = graph.add("Concat", limits, {"axis": 0})
    zero = graph.constant([0, 0])
    return graph.slice(upsampled, zero, size, (2, 3)), graph.slice(fine, zero, size, (2, 3))


def _fused_size(graph: Graph, coarse: str, fine: str, axis: int, up: Upsampling) -> str:
    """Return the name of `up.fused_size` along an axis, for a fine map without the cells before the first sum."""
    grown = graph.add("Mul", [graph.size(coarse, axis), graph.constant([up.factor])])
    reached = graph.add("Add", [grown, graph.constant([up.kernel - up.factor - max(0, up.crop)])])
    return graph.add("Min", [reached, graph.size(fine, axis)])

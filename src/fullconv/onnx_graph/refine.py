"""Build the refined decoder: bilinear upsampling of features, sums, and separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fullconv.arrays import Float32
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.onnx_graph.build import FAR, Graph
from fullconv.onnx_graph.grids import Grid

__all__ = ["ConvWeights", "Refinement", "add_conv", "add_refinement"]


@dataclass(frozen=True, eq=False)
class ConvWeights:
    """A convolution with stride 1 and as much padding as keeps the size: `weight` is K x C / groups x h x w."""

    weight: Float32
    bias: Float32


Refinement = tuple[ConvWeights, ConvWeights]
"""A depthwise 3 x 3 and a 1 x 1 convolution."""


def add_refinement(
    graph: Graph,
    taps: Sequence[str],
    axes: Sequence[Sequence[Upsampling]],
    refinements: Sequence[Refinement],
    score: ConvWeights,
    grids: dict[str, Grid],
) -> str:
    """Add the upsampling, the sums, what is added to them, and the score layer; return the name of the scores.

    What is added to a sum S is f(S): depthwise convolution, ReLU and 1 x 1 convolution. `axes` holds the vertical and
    the horizontal upsamplings, one per sum. Cells beyond the border equal the last cell. The quantizer leaves the
    results whose names begin with `score_` in float32.

    `score` is a 1 x 1 convolution, so on the last and largest sum, score(S + f(S)) is computed as score(S) +
    score(f(S)), where score and the end of f are one convolution with as many channels as there are classes. Its kernel
    is a product of constants in the graph, which runtimes compute once, so that `read_split` finds both factors.

    `grids` has the known grids of taps. Those of upsampled maps are added to it, where coarse cells lie on fine cells
    and the fine tap is known.
    """
    fused = taps[0]
    steps = zip(taps[1:], *axes, refinements, strict=True)
    for number, (fine, vertical, horizontal, (depthwise, pointwise)) in enumerate(steps, 1):
        upsampled, fine = _align(graph, fused, fine, (vertical, horizontal), len(depthwise.weight), grids)
        total = graph.add("Add", [upsampled, fine])
        inner = graph.add("Relu", [add_conv(graph, total, depthwise)])
        if number == len(refinements):
            return _add_last_scores(graph, total, inner, pointwise, score)
        fused = graph.add("Add", [total, add_conv(graph, inner, pointwise)])
    return graph.rename(add_conv(graph, fused, score), "score_0")


def _add_last_scores(graph: Graph, total: str, inner: str, end: ConvWeights, score: ConvWeights) -> str:
    """Add the scores of the last sum and of what is added to it, where `end` is the convolution after `inner`."""
    result = graph.rename(add_conv(graph, total, score), "score_0")
    matrix = graph.constant(score.weight[:, :, 0, 0], np.float32)
    kernel, bias = (
        graph.add("MatMul", [matrix, graph.constant(factor, np.float32)])
        for factor in (end.weight[:, :, 0, 0], end.bias)
    )
    kernel = graph.add("Unsqueeze", [kernel, graph.constant([2, 3])])
    refined = graph.rename(graph.add("Conv", [inner, kernel, bias], {"kernel_shape": [1, 1]}), "score_1")
    return graph.rename(graph.add("Add", [result, refined]), "score_sum")


def add_conv(graph: Graph, source: str, weights: ConvWeights) -> str:
    """Add a convolution that keeps the size of its map; one input channel per kernel means that it is depthwise."""
    count, per_group, *kernel = weights.weight.shape
    groups = count if per_group == 1 and kernel != [1, 1] else 1
    pads = [side // 2 for side in kernel] * 2
    constants = [graph.constant(array, np.float32) for array in (weights.weight, weights.bias)]
    return graph.add("Conv", [source, *constants], {"kernel_shape": kernel, "pads": pads, "group": groups})


def _align(
    graph: Graph,
    coarse: str,
    fine: str,
    ups: tuple[Upsampling, Upsampling],
    channels: int,
    grids: dict[str, Grid],
) -> tuple[str, str]:
    """Return the upsampled coarse map and the fine map on the cells that both have.

    Where coarse cells lie on fine cells, as in MobileNet, a resize gives the numbers of the transposed convolution in
    less time, and the fine map is never the larger one. Two details let ONNX Runtime keep its blocked layout of
    channels, in which a resize takes a third of the time. It computes Slice in the plain layout, and all that follows
    until the next pooling or convolution, hence the pooling of single cells, which changes nothing. And the shape of a
    tap would need the tap in the plain layout, so the limits of the slice come from the shape of the padded image.
    """
    if all(up.kernel == 2 * up.factor - 1 and up.crop == up.factor - 1 for up in ups):
        scales = graph.constant([1, 1, *(up.factor for up in ups)], np.float32)
        resize = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
        upsampled = graph.add("Resize", [coarse, "", scales], resize)
        cut = graph.slice(upsampled, graph.constant([0, 0]), _size(graph, fine, grids), (2, 3))
        if fine in grids:
            grids[cut] = replace(grids[fine], channels=channels)
        return graph.add("MaxPool", [cut], {"kernel_shape": [1, 1]}), fine
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


def _size(graph: Graph, tap: str, grids: dict[str, Grid]) -> str:
    """Return the name of the height and width of a tap, from those of the padded image if its grid is known."""
    if tap not in grids:
        return graph.add("Shape", [tap], {"start": 2, "end": 4})
    rules = (grids[tap].rows, grids[tap].columns)
    offsets, divisors = (graph.constant(numbers) for numbers in zip(*rules, strict=True))
    grown = graph.add("Add", [graph.add("Shape", ["padded"], {"start": 2, "end": 4}), offsets])
    return graph.add("Div", [grown, divisors])


def _fused_size(graph: Graph, coarse: str, fine: str, axis: int, up: Upsampling) -> str:
    """Return the name of `up.fused_size` along an axis, for a fine map without the cells before the first sum."""
    grown = graph.add("Mul", [graph.size(coarse, axis), graph.constant([up.factor])])
    reached = graph.add("Add", [grown, graph.constant([up.kernel - up.factor - max(0, up.crop)])])
    return graph.add("Min", [reached, graph.size(fine, axis)])

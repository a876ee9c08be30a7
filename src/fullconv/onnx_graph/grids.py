"""The shapes of the maps in a graph, by name: ONNX Runtime adds two maps inside a convolution if their sizes agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx import TensorProto, helper

__all__ = ["Grid", "describe_grid", "find_grids"]

Rule = tuple[int, int]
"""(offset, divisor): a map has `(n + offset) // divisor` cells along an axis for an image padded to n pixels."""

_WINDOWS = frozenset({"AveragePool", "Conv", "MaxPool"})
_CELLWISE = frozenset({"Add", "Clip", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sub"})


@dataclass(frozen=True)
class Grid:
    """The number of channels of a map, and the rules of its rows and columns."""

    channels: int
    rows: Rule = (0, 1)
    columns: Rule = (0, 1)


def find_grids(
    nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto], known: Mapping[str, Grid]
) -> dict[str, Grid]:
    """Return the grids of all maps that convolutions, poolings and operations on single cells make of `known` ones.

    `constants` are those of the graph, the weights among them. Maps of other operations are left out, and so are maps
    of one channel next to unknown operands, which may have more.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in constants}
    grids = dict(known)
    for node in nodes:
        sources = [grids[name] for name in node.input if name in grids]
        if node.op_type in _WINDOWS and node.input[0] in grids:
            channels = sources[0].channels if node.op_type != "Conv" else shapes.get(node.input[1], [0])[0]
            grid = _through_window(node, replace(sources[0], channels=channels))
            if grid is not None and channels:
                grids[node.output[0]] = grid
        elif node.op_type in _CELLWISE and len(set(sources)) == 1:
            (grid,) = set(sources)
            are_known = len(sources) == len(node.input)
            if are_known or grid.channels > 1:
                grids[node.output[0]] = grid
    return grids


def describe_grid(name: str, grid: Grid) -> onnx.ValueInfoProto:
    """Return the description of a map, N x channels x h x w; where names of sizes are equal, the sizes are."""
    rules = zip("hw", (grid.rows, grid.columns), strict=True)
    sizes = (f"{axis}_{offset}_{divisor}".replace("-", "m") for axis, (offset, divisor) in rules)
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", grid.channels, *sizes])


def _through_window(node: onnx.NodeProto, grid: Grid) -> Grid | None:
    """Return the grid after a convolution or pooling; None if its size follows another rule.

    An axis of m cells becomes `(m + padding - reach - 1 + stride) // stride` cells, where reach is dilation times
    (kernel - 1), and a chain of such floor divisions is one floor division.
    """
    given: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if given.get("ceil_mode", 0) or given.get("auto_pad", b"NOTSET") != b"NOTSET" or "kernel_shape" not in given:
        return None
    pads = given.get("pads", [0] * 4)
    axes = zip(
        (grid.rows, grid.columns),
        given["kernel_shape"],
        given.get("strides", [1, 1]),
        given.get("dilations", [1, 1]),
        zip(pads[:2], pads[2:], strict=True),
        strict=True,
    )
    rows, columns = (
        (offset + divisor * (sum(padding) - dilation * (kernel - 1) - 1 + stride), divisor * stride)
        for (offset, divisor), kernel, stride, dilation, padding in axes
    )
    return replace(grid, rows=rows, columns=columns)

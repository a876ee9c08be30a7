"""The parts of an ONNX file that are not the network's convolutions: padding, fusion and the label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fullconv.geometry import Upsampling
from fullconv.run.about import About

__all__ = ["BAND", "Graph", "PadTable", "add_fusion", "add_labels", "add_padding"]

BAND = 64
"""Rows of pixels of the label map that are upsampled at a time."""

FAR = np.iinfo(np.int64).max
"""The end of a slice that has none."""

Attribute = int | Sequence[int] | onnx.GraphProto


class Graph:
    """Nodes and constants under names that begin with `prefix`; each `add` gives the name of its result."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], attributes: Mapping[str, Attribute] | None = None) -> str:
        """One node with one output."""
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=name)
        for key, value in (attributes or {}).items():
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """An array; equal ones are kept once."""
        array = np.asarray(value, dtype)
        tensor = numpy_helper.from_array(array)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self.constants:
            tensor.name = f"{self.prefix}c{len(self.constants)}"
            self.constants[key] = tensor
        return self.constants[key].name

    def size(self, name: str, axis: int) -> str:
        """The length of an axis, a vector of one int64."""
        return self.add("Shape", [name], {"start": axis, "end": axis + 1})

    def cut(self, name: str, starts: str, ends: str, axes: Sequence[int]) -> str:
        """A slice; starts and ends are names."""
        return self.add("Slice", [name, starts, ends, self.constant(axes)])

    def reshaped(self, name: str, shape: Sequence[int | str]) -> str:
        """A reshape to numbers, -1 among them, and to lengths by their names."""
        parts = [part if isinstance(part, str) else self.constant([part]) for part in shape]
        return self.add("Reshape", [name, self.add("Concat", parts, {"axis": 0})])

    def rename(self, name: str, new: str) -> None:
        """Give the result of the last node that makes `name` the name of a graph's output."""
        for node in self.nodes:
            node.output[:] = [new if output == name else output for output in node.output]
            node.input[:] = [new if source == name else source for source in node.input]


class PadTable:
    """Padding behind an image along one axis, for every size: `behind[min(n, start + (n - start) mod period)]`."""

    def __init__(self, behind: Sequence[int], period: int) -> None:
        """`behind[n]` for n from 0 to where the last period has ended, however often it has been repeated."""
        self.start = next(
            n
            for n in range(len(behind))
            if all(behind[m] == behind[m - period] for m in range(n + period, len(behind)))
        )
        self.period = period
        self.values = list(behind[: self.start + period])

    def __call__(self, size: int) -> int:
        """The padding, as the graph computes it."""
        return self.values[min(size, self.start + (size - self.start) % self.period)]


def add_padding(
    graph: Graph, color: tuple[Sequence[float], Sequence[float]], lead: Sequence[int], tables: Sequence[PadTable]
) -> str:
    """From `images`, N x H x W x C uint8, to the network's input: normalised by mean and std, and padded with zeros."""
    mean, std = (np.asarray(values, np.float64) for values in color)
    gain = graph.constant((1 / (255 * std))[:, None, None], np.float32)
    shift = graph.constant((-mean / std)[:, None, None], np.float32)
    channels_first = graph.add("Transpose", ["images"], {"perm": [0, 3, 1, 2]})
    floats = graph.add("Cast", [channels_first], {"to": TensorProto.FLOAT})
    normal = graph.add("Add", [graph.add("Mul", [floats, gain]), shift])
    behind = []
    for axis, table in zip((1, 2), tables, strict=True):
        size, start = graph.size("images", axis), graph.constant([table.start])
        turn = graph.add("Mod", [graph.add("Sub", [size, start]), graph.constant([table.period])])
        place = graph.add("Min", [size, graph.add("Add", [turn, start])])
        behind.append(graph.add("Gather", [graph.constant(table.values), place]))
    pads = graph.add("Concat", [graph.constant([0, 0, *lead, 0, 0]), *behind], {"axis": 0})
    return graph.add("Pad", [normal, pads])


def add_fusion(
    graph: Graph,
    scores: Sequence[str],
    axes: Sequence[Sequence[Upsampling]],
    kernels: Sequence[npt.NDArray[np.float32]],
) -> str:
    """The score maps of all taps, coarse to fine, upsampled and summed on the cells that both have.

    `axes` are the vertical and the horizontal upsamplings, one for each sum; a kernel is K x 1 (the same for each
    class) or K x K.
    """
    fused = scores[0]
    for fine, vertical, horizontal, kernel in zip(scores[1:], *axes, kernels, strict=True):
        ups = (vertical, horizontal)
        attributes = {"strides": [up.factor for up in ups], "group": kernel.shape[0] if kernel.shape[1] == 1 else 1}
        wide = graph.add("ConvTranspose", [fused, graph.constant(kernel, np.float32)], attributes)
        far = graph.constant([FAR, FAR])
        wide = graph.cut(wide, graph.constant([max(0, up.crop) for up in ups]), far, (2, 3))
        if any(up.crop < 0 for up in ups):
            fine = graph.cut(fine, graph.constant([max(0, -up.crop) for up in ups]), far, (2, 3))
        sizes = (graph.add("Shape", [name], {"start": 2, "end": 4}) for name in (wide, fine))
        ends = graph.add("Min", list(sizes))
        zero = graph.constant([0, 0])
        fused = graph.add("Add", [graph.cut(wide, zero, ends, (2, 3)), graph.cut(fine, zero, ends, (2, 3))])
    return fused


def add_labels(graph: Graph, score: str, about: About) -> str:
    """The label map of `images` from the score map, N x H x W uint8, upsampled for `BAND` rows at a time.

    Each of the (h + 1) x (w + 1) blocks of pixels depends on the four cells around it (`About.blocks`), zeros beyond
    the border; a band is so many rows of blocks, and the label map a window of them all.
    """
    rows, columns = (up.factor for up in about.upsamplings)
    deep = max(1, BAND // rows)
    cells = graph.add("Transpose", [score], {"perm": [0, 2, 3, 1]})
    height, one = graph.size(cells, 1), graph.constant([1])
    across = graph.add("Add", [graph.size(cells, 2), one])
    bands = graph.add("Add", [graph.add("Div", [height, graph.constant([deep])]), one])
    lacking = graph.add("Sub", [graph.add("Mul", [bands, graph.constant([deep])]), height])
    before = graph.constant([0, 1, 1, 0, 0])
    pads = graph.add("Concat", [before, lacking, graph.constant([1, 0])], {"axis": 0})
    padded = graph.add("Pad", [cells, pads])
    trips = graph.add("Squeeze", [bands, graph.constant([0])])
    body = _band(graph, padded, across, about, deep)
    maps = graph.add("Loop", [trips, ""], {"body": body})
    ordered = graph.add("Transpose", [maps], {"perm": [1, 0, 2, 3]})
    count, wide = graph.size("images", 0), graph.add("Mul", [across, graph.constant([columns])])
    whole = graph.reshaped(ordered, [count, -1, wide])
    start = graph.constant(about.start)
    size = graph.add("Shape", ["images"], {"start": 1, "end": 3})
    return graph.cut(whole, start, graph.add("Add", [start, size]), (1, 2))


def _band(outer: Graph, padded: str, across: str, about: About, deep: int) -> onnx.GraphProto:
    """The body of the loop over bands: iteration and condition to condition and N x rows x columns uint8."""
    graph = Graph(f"{outer.prefix}band_")
    classes = about.labels.num_classes
    rows, columns = (up.factor for up in about.upsamplings)
    first = graph.add("Mul", [graph.reshaped("band", [1]), graph.constant([deep])])
    last = graph.add("Add", [first, graph.constant([deep + 1])])
    strip = graph.cut(padded, first, last, [1])
    sides = (([0, 0], [deep, -1]), ([0, 1], [deep, FAR]), ([1, 0], [deep + 1, -1]), ([1, 1], [deep + 1, FAR]))
    quads = [graph.cut(strip, graph.constant(begin), graph.constant(end), [1, 2]) for begin, end in sides]
    blocks = graph.constant(about.blocks, np.float32)
    if about.kernel is None:
        flat = [graph.reshaped(quad, [1, -1]) for quad in quads]
        logits = graph.add("MatMul", [blocks, graph.add("Concat", flat, {"axis": 0})])
        found = graph.add("ArgMax", [graph.reshaped(logits, [rows * columns, -1, classes])], {"axis": 2, "keepdims": 0})
        shape: list[int | str] = [rows, columns, -1, deep, across]
        order = [2, 3, 0, 4, 1]
    else:
        logits = graph.add("MatMul", [graph.add("Concat", quads, {"axis": 3}), blocks])
        found = graph.add("ArgMax", [graph.reshaped(logits, [-1, classes])], {"axis": 1, "keepdims": 0})
        shape = [-1, deep, across, rows, columns]
        order = [0, 1, 3, 2, 4]
    small = graph.reshaped(graph.add("Cast", [found], {"to": TensorProto.UINT8}), shape)
    ordered = graph.add("Transpose", [small], {"perm": order})
    wide = graph.add("Mul", [across, graph.constant([columns])])
    graph.rename(graph.reshaped(ordered, [-1, deep * rows, wide]), "band_labels")
    graph.nodes.append(helper.make_node("Identity", ["go_on"], ["gone_on"]))
    return helper.make_graph(
        graph.nodes,
        "band",
        [
            helper.make_tensor_value_info("band", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("gone_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("band_labels", TensorProto.UINT8, [None, None, None]),
        ],
        list(graph.constants.values()),
    )

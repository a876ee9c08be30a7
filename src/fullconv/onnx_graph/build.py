"""Build what torch does not export: padding, fusion and the label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fullconv.arrays import Float32
from fullconv.geometry import Upsampling
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["BAND", "Graph", "PadTable", "add_fusion", "add_labels", "add_padding", "take_gain"]

BAND = 64
"""The number of rows of the label map that are upsampled at a time."""

FAR = np.iinfo(np.int64).max
"""The end of a slice that goes to the end of its axis."""

Attribute = int | str | Sequence[int] | onnx.GraphProto


class Graph:
    """A graph under construction: nodes and constants whose names begin with `prefix`.

    The methods that add nodes return the name of the result.
    """

    def __init__(self, prefix: str) -> None:
        """Start an empty graph."""
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], attributes: Mapping[str, Attribute] | None = None) -> str:
        """Add a node with one output."""
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=name)
        for key, value in (attributes or {}).items():
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Add a constant array; equal arrays are stored once."""
        array = np.asarray(value, dtype)
        tensor = numpy_helper.from_array(array)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self.constants:
            tensor.name = f"{self.prefix}c{len(self.constants)}"
            self.constants[key] = tensor
        return self.constants[key].name

    def size(self, name: str, axis: int) -> str:
        """Add the length of an axis, as a vector of one int64."""
        return self.add("Shape", [name], {"start": axis, "end": axis + 1})

    def slice(self, name: str, starts: str, ends: str, axes: Sequence[int]) -> str:
        """Add a slice; `starts` and `ends` are names of vectors."""
        return self.add("Slice", [name, starts, ends, self.constant(axes)])

    def reshape(self, name: str, shape: Sequence[int | str]) -> str:
        """Add a reshape. An element of `shape` is a number, -1 included, or the name of a length."""
        parts = [part if isinstance(part, str) else self.constant([part]) for part in shape]
        return self.add("Reshape", [name, self.add("Concat", parts, {"axis": 0})])

    def rename(self, name: str, new: str) -> str:
        """Rename a result, for example to the name of an output of the graph; return the new name."""
        for node in self.nodes:
            node.output[:] = [new if output == name else output for output in node.output]
            node.input[:] = [new if source == name else source for source in node.input]
        return new


class PadTable:
    """The padding after an image along one axis: `values[min(n, start + (n - start) mod period)]` for size n."""

    def __init__(self, padding: Sequence[int], period: int) -> None:
        """Find where the padding becomes periodic.

        `padding[n]` is the padding for size n, from 0 on. It must end after at least one period; any length is allowed.
        """
        self.start = next(
            n
            for n in range(len(padding))
            if all(padding[m] == padding[m - period] for m in range(n + period, len(padding)))
        )
        self.period = period
        self.values = list(padding[: self.start + period])

    def __call__(self, size: int) -> int:
        """Return the padding for `size`, as the graph computes it."""
        return self.values[min(size, self.start + (size - self.start) % self.period)]


def add_padding(
    graph: Graph, color: tuple[Sequence[float], Sequence[float]], lead: Sequence[int], tables: Sequence[PadTable]
) -> str:
    """Add the way from `images`, N x H x W x C uint8, to the network's input: normalised, then padded with zeros.

    `color` is mean and std, 0..1; a std of 1 / 255 leaves the scale of the pixels as it is. `lead` and `tables` are the
    padding before and after the image, for rows and columns. A network that needs no padding at any size gets none,
    because a Pad node copies the image all the same.
    """
    mean, std = (np.asarray(values, np.float64) for values in color)
    gain = (1 / (255 * std))[:, None, None].astype(np.float32)
    shift = graph.constant((-mean / std)[:, None, None], np.float32)
    channels_first = graph.add("Transpose", ["images"], {"perm": [0, 3, 1, 2]})
    normal = graph.add("Cast", [channels_first], {"to": TensorProto.FLOAT})
    if np.any(gain != 1):
        normal = graph.add("Mul", [normal, graph.constant(gain, np.float32)])
    normal = graph.add("Add", [normal, shift])
    if not any(lead) and not any(any(table.values) for table in tables):
        return normal
    padding_after = []
    for axis, table in zip((1, 2), tables, strict=True):
        size, start = graph.size("images", axis), graph.constant([table.start])
        turn = graph.add("Mod", [graph.add("Sub", [size, start]), graph.constant([table.period])])
        index = graph.add("Min", [size, graph.add("Add", [turn, start])])
        padding_after.append(graph.add("Gather", [graph.constant(table.values), index]))
    pads = graph.add("Concat", [graph.constant([0, 0, *lead, 0, 0]), *padding_after], {"axis": 0})
    return graph.add("Pad", [normal, pads])


def take_gain(body: onnx.GraphProto, std: Sequence[float]) -> list[float]:
    """Move the gain of the normalisation into the convolutions that read the image; return the std that is left.

    A std of 1 / 255 makes `add_padding` subtract the mean in units of pixels and scale nothing, which saves a pass over
    the image; padding stays zero. Where another layer reads the image, nothing changes.
    """
    readers = [node for node in body.node if "padded" in node.input]
    constants = {tensor.name: tensor for tensor in body.initializer}
    names = {node.input[1] for node in readers if node.op_type == "Conv"}
    users = [node for node in body.node if names & set(node.input)]
    fits = all(name in constants and constants[name].dims[1] == len(std) for name in names)
    if users != readers or not fits:
        return list(std)
    gain = 1 / (255 * np.asarray(std))[:, None, None]
    for name in names:
        scaled = (numpy_helper.to_array(constants[name]) * gain).astype(np.float32)
        constants[name].CopyFrom(numpy_helper.from_array(scaled, name))
    return [1 / 255] * len(std)


def add_fusion(
    graph: Graph,
    scores: Sequence[str],
    axes: Sequence[Sequence[Upsampling]],
    kernels: Sequence[Float32],
) -> str:
    """Add the upsampling and the sums of the score maps of all taps, from coarse to fine.

    Two maps are summed on the cells that both have. `axes` holds the vertical and the horizontal upsamplings, one per
    sum. A kernel is K x 1 x h x w (one kernel for each class) or K x K x h x w.
    """
    fused = scores[0]
    for fine, vertical, horizontal, kernel in zip(scores[1:], *axes, kernels, strict=True):
        ups = (vertical, horizontal)
        attributes = {"strides": [up.factor for up in ups], "group": kernel.shape[0] if kernel.shape[1] == 1 else 1}
        upsampled = graph.add("ConvTranspose", [fused, graph.constant(kernel, np.float32)], attributes)
        far = graph.constant([FAR, FAR])
        upsampled = graph.slice(upsampled, graph.constant([max(0, up.crop) for up in ups]), far, (2, 3))
        if any(up.crop < 0 for up in ups):
            fine = graph.slice(fine, graph.constant([max(0, -up.crop) for up in ups]), far, (2, 3))
        sizes = (graph.add("Shape", [name], {"start": 2, "end": 4}) for name in (upsampled, fine))
        ends = graph.add("Min", list(sizes))
        zero = graph.constant([0, 0])
        fused = graph.add("Add", [graph.slice(upsampled, zero, ends, (2, 3)), graph.slice(fine, zero, ends, (2, 3))])
    return fused


def add_labels(graph: Graph, score: str, metadata: ModelMetadata) -> str:
    """Add the label map of `images`, N x H x W uint8, computed from the score map for about `BAND` rows at a time.

    Each of the (h + 1) x (w + 1) blocks of pixels depends on the four cells around it (`ModelMetadata.blocks`), zeros
    beyond the border; a band is so many rows of blocks, and the label map a window of them all.
    """
    rows, columns = (up.factor for up in metadata.upsamplings)
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
    body = _band(graph, padded, across, metadata, deep)
    maps = graph.add("Loop", [trips, ""], {"body": body})
    ordered = graph.add("Transpose", [maps], {"perm": [1, 0, 2, 3]})
    count, wide = graph.size("images", 0), graph.add("Mul", [across, graph.constant([columns])])
    whole = graph.reshape(ordered, [count, -1, wide])
    start = graph.constant(metadata.start)
    size = graph.add("Shape", ["images"], {"start": 1, "end": 3})
    return graph.slice(whole, start, graph.add("Add", [start, size]), (1, 2))


def _band(outer: Graph, padded: str, across: str, metadata: ModelMetadata, deep: int) -> onnx.GraphProto:
    """Return the loop body for one band: iteration and condition in; condition and N x rows x columns uint8 out."""
    graph = Graph(f"{outer.prefix}band_")
    classes = metadata.info.labels.num_classes
    rows, columns = (up.factor for up in metadata.upsamplings)
    first = graph.add("Mul", [graph.reshape("band", [1]), graph.constant([deep])])
    last = graph.add("Add", [first, graph.constant([deep + 1])])
    strip = graph.slice(padded, first, last, [1])
    sides = (([0, 0], [deep, -1]), ([0, 1], [deep, FAR]), ([1, 0], [deep + 1, -1]), ([1, 1], [deep + 1, FAR]))
    quads = [graph.slice(strip, graph.constant(begin), graph.constant(end), [1, 2]) for begin, end in sides]
    blocks = graph.constant(metadata.blocks, np.float32)
    if metadata.kernel is None:
        flat = [graph.reshape(quad, [1, -1]) for quad in quads]
        logits = graph.add("MatMul", [blocks, graph.add("Concat", flat, {"axis": 0})])
        labels = graph.add("ArgMax", [graph.reshape(logits, [rows * columns, -1, classes])], {"axis": 2, "keepdims": 0})
        shape: list[int | str] = [rows, columns, -1, deep, across]
        order = [2, 3, 0, 4, 1]
    else:
        logits = graph.add("MatMul", [graph.add("Concat", quads, {"axis": 3}), blocks])
        labels = graph.add("ArgMax", [graph.reshape(logits, [-1, classes])], {"axis": 1, "keepdims": 0})
        shape = [-1, deep, across, rows, columns]
        order = [0, 1, 3, 2, 4]
    small = graph.reshape(graph.add("Cast", [labels], {"to": TensorProto.UINT8}), shape)
    ordered = graph.add("Transpose", [small], {"perm": order})
    wide = graph.add("Mul", [across, graph.constant([columns])])
    graph.rename(graph.reshape(ordered, [-1, deep * rows, wide]), "band_labels")
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

"""Cut an exported file at its score layers: the taps that they read, their weights, and the upsampling between taps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from fullconv.arrays import Float32
from fullconv.errors import ModelError
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.onnx_graph.exported import read_exported
from fullconv.onnx_graph.prune import described_maps, needed_nodes, used_constants
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["ScoreLayer", "Split", "read_split"]

EXACT = 1e-6
"""The largest difference between a kernel in the file and the bilinear kernel that it is taken for."""

Axes = tuple[Upsampling, Upsampling]


@dataclass(frozen=True, eq=False)
class ScoreLayer:
    """A 1 x 1 convolution from a tap to classes: `weight` is K x C, `bias` is K, both float32."""

    weight: Float32
    bias: Float32


@dataclass(frozen=True, eq=False)
class Split:
    """An exported network in parts.

    `body` is the network up to its taps: input `images`, N x H x W x C uint8; outputs `taps`, each N x C x h x w, from
    coarse to fine. `scores` are the score layers on them. `upsamplings` are those from each tap's scores to the next
    tap's cells, vertical and horizontal; the last one, to pixels, is in `metadata`.
    """

    body: onnx.ModelProto
    taps: tuple[str, ...]
    scores: tuple[ScoreLayer, ...]
    upsamplings: tuple[Axes, ...]
    metadata: ModelMetadata


class _Unsplittable(Exception):
    """The graph is not taps, 1 x 1 convolutions and bilinear upsampling; the message says which part differs."""


def read_split(path: Path) -> Split:
    """Read a file of `fullconv export` and cut it at its score layers.

    Raises ModelError for files that fullconv did not write, and for networks whose score layers cannot be replaced:
    with eight-bit weights, and with learned upsampling.
    """
    model, metadata = read_exported(path)
    try:
        if metadata.kernel is not None:
            raise _Unsplittable("its upsampling is learned")
        return _split(model, metadata)
    except _Unsplittable as error:
        message = f"{path} cannot be fitted to strokes: {error}; use a float file of a network with fixed upsampling"
        raise ModelError(message, code="no-score-layers") from error


def _split(model: onnx.ModelProto, metadata: ModelMetadata) -> Split:
    graph = _Graph(model.graph)
    layers: list[onnx.NodeProto] = []
    upsamplings: list[Axes] = []
    name = "logits"
    while True:
        node = graph.producer(name)
        if node.op_type == "Identity":
            name = node.input[0]
        elif node.op_type == "Add" and graph.ends_refined(node):
            layers.append(graph.unfold(node))
            break
        elif node.op_type == "Add":
            name, fine, axes = graph.fusion(node)
            layers.append(graph.score_layer(fine))
            upsamplings.append(axes)
        else:
            layers.append(graph.score_layer(name))
            break
    layers.reverse()
    upsamplings.reverse()
    scores = tuple(graph.weights(layer) for layer in layers)
    if any(len(score.bias) != metadata.info.labels.num_classes for score in scores):
        raise _Unsplittable("its score layers have another number of classes than its description")
    taps = tuple(layer.input[0] for layer in layers)
    return Split(graph.cut(model, taps), taps, scores, tuple(upsamplings), metadata)


class _Graph:
    """The nodes of a graph by their results, and its constants by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._producers = {name: node for node in graph.node for name in node.output}
        self._constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}

    def producer(self, name: str) -> onnx.NodeProto:
        if name not in self._producers:
            raise _Unsplittable("its graph is not that of a skip network")
        node: onnx.NodeProto = self._producers[name]
        return node

    def constant(self, name: str) -> Float32:
        """Return a constant; through a Cast, because weights may be stored as float16."""
        cast = self._producers.get(name)
        if cast is not None and cast.op_type == "Cast":
            name = cast.input[0]
        if name not in self._constants:
            raise _Unsplittable("its weights are not constants of 32 bits")
        array: Float32 = numpy_helper.to_array(self._constants[name])
        return array

    def ends_refined(self, add: onnx.NodeProto) -> bool:
        """Return whether a sum is the end of a refined decoder: score layers on a sum and on what refines it."""
        kinds = [self.producer(name).op_type for name in add.input]
        return all("Conv" in kind and kind != "ConvTranspose" for kind in kinds)

    def unfold(self, add: onnx.NodeProto) -> onnx.NodeProto:
        """Return the score layer on the refined sum, which the file does not compute, and add the nodes that do.

        `add_refinement` writes the second kernel as the product of the score layer and of the convolution before it.
        """
        plain, folded = self.score_layer(add.input[0]), self.producer(add.input[1])
        kernel = self.producer(self.producer(folded.input[1]).input[0])
        weight, bias = kernel.input[1], self.producer(folded.input[2]).input[1]
        name = f"{weight}_unfolded"
        unfolded = self.constant(weight).astype(np.float32)[:, :, None, None]
        self._constants[name] = numpy_helper.from_array(unfolded, name)
        end, total = f"{name}_map", f"{name}_sum"
        self._graph.node.append(onnx.helper.make_node("Conv", [folded.input[0], name, bias], [end], end))
        self._graph.node.append(onnx.helper.make_node("Add", [plain.input[0], end], [total], total))
        layer = onnx.NodeProto()
        layer.CopyFrom(plain)
        layer.input[0] = total
        return layer

    def fusion(self, add: onnx.NodeProto) -> tuple[str, str, Axes]:
        """Return the coarse scores, the fine scores and the upsampling between them for the sum of two slices."""
        sides = [self._through_slices(name) for name in add.input]
        kinds = [self.producer(name).op_type for name, _ in sides]
        if sorted(kinds) != ["Conv", "ConvTranspose"]:
            raise _Unsplittable("its score maps are not summed as a skip network's are")
        if kinds[0] == "Conv":
            sides.reverse()
        (upsampled, starts), (fine, cuts) = sides
        layer = self.producer(upsampled)
        axes = _recover(self.constant(layer.input[1]), [a - b for a, b in zip(starts, cuts, strict=True)], layer)
        return layer.input[0], fine, axes

    def _through_slices(self, name: str) -> tuple[str, tuple[int, int]]:
        """Return the map that slices cut a window of, and the row and column of the window."""
        starts = [0, 0]
        while self.producer(name).op_type == "Slice":
            node = self.producer(name)
            for axis, start in zip((0, 1), self.constant(node.input[1]).tolist(), strict=True):
                starts[axis] += int(start)
            name = node.input[0]
        return name, (starts[0], starts[1])

    def score_layer(self, name: str) -> onnx.NodeProto:
        node = self.producer(name)
        if node.op_type != "Conv":
            raise _Unsplittable("it has eight-bit weights" if "Linear" in node.op_type else "it has no score layers")
        if self.constant(node.input[1]).shape[2:] != (1, 1):
            raise _Unsplittable("its score layers are not 1 x 1 convolutions")
        return node

    def weights(self, layer: onnx.NodeProto) -> ScoreLayer:
        weight = self.constant(layer.input[1]).astype(np.float32)[:, :, 0, 0]
        bias = self.constant(layer.input[2]).astype(np.float32) if len(layer.input) > 2 else np.zeros(len(weight))
        return ScoreLayer(weight, bias.astype(np.float32))

    def cut(self, model: onnx.ModelProto, taps: tuple[str, ...]) -> onnx.ModelProto:
        """Return the model with the taps as its outputs, and only what they need."""
        nodes = needed_nodes(self._graph, taps)
        used = used_constants(nodes)
        body = onnx.ModelProto()
        body.CopyFrom(model)
        for field in ("node", "initializer", "output", "value_info"):
            body.graph.ClearField(field)
        del body.metadata_props[:]
        body.graph.node.extend(nodes)
        body.graph.value_info.extend(described_maps(self._graph, nodes))
        body.graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        body.graph.output.extend(onnx.helper.make_tensor_value_info(tap, onnx.TensorProto.FLOAT, None) for tap in taps)
        return body


def _recover(kernel: Float32, crops: list[int], layer: onnx.NodeProto) -> Axes:
    """Return the upsampling of a transposed convolution; `_Unsplittable` unless its kernel is bilinear."""
    strides = next((list(a.ints) for a in layer.attribute if a.name == "strides"), [])
    if kernel.ndim != 4 or kernel.shape[1] != 1 or len(strides) != 2:
        raise _Unsplittable("its upsampling is learned")
    rows, columns = kernel[0, 0].sum(1) / strides[1], kernel[0, 0].sum(0) / strides[0]
    vertical, horizontal = (
        _axis(taps, factor, crop) for taps, factor, crop in zip((rows, columns), strides, crops, strict=True)
    )
    expected = np.outer(bilinear_kernel(vertical), bilinear_kernel(horizontal))
    if expected.shape != kernel.shape[2:] or np.abs(kernel[:, 0] - expected).max() > EXACT:
        raise _Unsplittable("its upsampling is learned")
    return vertical, horizontal


def _axis(taps: Float32, factor: int, crop: int) -> Upsampling:
    """Return the bilinear upsampling whose kernel begins as `taps` does: tap 0 is (1 - phase) / factor."""
    phase = Fraction(1 - factor * float(taps[0])).limit_denominator(4 * factor) if len(taps) == 2 * factor else 0
    return Upsampling(factor, len(taps), factor - 1 + Fraction(phase), crop)

"""Give an exported network the form that other programs expect: float images in, one map of probabilities out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from fullconv.geometry import bilinear_kernel
from fullconv.onnx_graph.build import Graph
from fullconv.onnx_graph.prune import described_maps, needed_nodes, used_constants
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["INPUT", "OUTPUT", "make_probabilities"]

INPUT = "input"
OUTPUT = "output"
"""The names of the input and of the output."""


def make_probabilities(
    model: onnx.ModelProto, metadata: ModelMetadata, *, white: float, side: int | None = None
) -> onnx.ModelProto:
    """Return a network with one input and one output, N x channels first; it has no metadata.

    `input` is N x C x H x W float32, where 0 is black and `white` is the value that fullconv calls 255. Values are
    rounded to the 256 levels that the network knows. `output` is N x K x H x W float32: the softmax of the logits of
    full size, whose arg max is the label map. With `side`, both have a fixed size of side x side, and N is 1.
    """
    graph = model.graph
    before, after = Graph("input_"), Graph("output_")
    levels = before.add("Mul", [INPUT, before.constant(255 / white, np.float32)]) if white != 255 else INPUT
    clipped = before.add("Clip", [before.add("Round", [levels]), *(before.constant(n, np.float32) for n in (0, 255))])
    pixels = before.add("Cast", [clipped], {"to": TensorProto.UINT8})
    before.rename(before.add("Transpose", [pixels], {"perm": [0, 2, 3, 1]}), "images")
    after.rename(_upsample(after, metadata), OUTPUT)
    nodes = needed_nodes(graph, ["logits"])
    kept = [tensor for tensor in graph.initializer if tensor.name in used_constants(nodes)]
    shape = (1, side, side) if side else ("N", "H", "W")
    classes, channels = metadata.info.labels.num_classes, metadata.info.input.channels
    made = helper.make_model(
        helper.make_graph(
            [*before.nodes, *nodes, *after.nodes],
            "fullconv",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [shape[0], channels, *shape[1:]])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [shape[0], classes, *shape[1:]])],
            [*before.constants.values(), *kept, *after.constants.values()],
            value_info=described_maps(graph, nodes),
        ),
        opset_imports=list(model.opset_import),
        producer_name="fullconv",
    )
    made.ir_version = model.ir_version
    onnx.checker.check_model(made)
    return made


def _upsample(graph: Graph, metadata: ModelMetadata) -> str:
    """Add the last upsampling of `logits` to the size of the image, and the softmax over classes."""
    ups, kernel = metadata.upsamplings, metadata.kernel
    if kernel is None:
        one = np.outer(bilinear_kernel(ups[0]), bilinear_kernel(ups[1])).astype(np.float32)
        kernel = np.repeat(one[None, None], metadata.info.labels.num_classes, 0)
    groups = len(kernel) if kernel.shape[1] == 1 else 1
    attributes: dict[str, int | list[int]] = {"strides": [up.factor for up in ups], "group": groups}
    upsampled = graph.add("ConvTranspose", ["logits", graph.constant(kernel, np.float32)], attributes)
    start = graph.constant(metadata.start)
    size = graph.add("Shape", [INPUT], {"start": 2, "end": 4})
    window = graph.slice(upsampled, start, graph.add("Add", [start, size]), (2, 3))
    return graph.add("Softmax", [window], {"axis": 1})

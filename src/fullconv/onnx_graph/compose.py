"""Put new score layers on the taps of an exported network: a file as `fullconv export` writes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fullconv.geometry import bilinear_kernel
from fullconv.onnx_graph.build import Graph, add_fusion, add_labels
from fullconv.onnx_graph.split import ScoreLayer, Split
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["compose"]


def compose(split: Split, scores: Sequence[ScoreLayer], metadata: ModelMetadata) -> onnx.ModelProto:
    """Return the network of `split` with other score layers, from coarse to fine, described by `metadata`.

    With the score layers and the metadata of the split itself, the logits are those of the file that was cut, up
    to rounding where that file ends in a refined decoder.
    """
    body, after = split.body.graph, Graph("after_")
    classes = metadata.info.labels.num_classes
    nodes, constants, names = [], [], []
    for index, (tap, score) in enumerate(zip(split.taps, scores, strict=True)):
        names.append(f"score_{index}")
        parts = {f"score_{index}_weight": score.weight[:, :, None, None], f"score_{index}_bias": score.bias}
        constants += [numpy_helper.from_array(a.astype(np.float32), name) for name, a in parts.items()]
        nodes.append(helper.make_node("Conv", [tap, *parts], [names[-1]], name=names[-1], kernel_shape=[1, 1]))
    kernels = [
        np.repeat(np.outer(bilinear_kernel(rows), bilinear_kernel(columns))[None, None].astype(np.float32), classes, 0)
        for rows, columns in split.upsamplings
    ]
    fused = add_fusion(after, names, list(zip(*split.upsamplings, strict=True)) or [(), ()], kernels)
    after.rename(add_labels(after, fused, metadata), "label_map")
    after.nodes.append(helper.make_node("Identity", [fused], ["logits"], name="logits"))
    graph = helper.make_graph(
        [*body.node, *nodes, *after.nodes],
        "fullconv",
        list(body.input),
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes, "h", "w"]),
            helper.make_tensor_value_info("label_map", TensorProto.UINT8, ["N", "H", "W"]),
        ],
        [*body.initializer, *constants, *after.constants.values()],
        value_info=body.value_info,
    )
    model = helper.make_model(graph, opset_imports=list(split.body.opset_import), producer_name="fullconv")
    model.ir_version = split.body.ir_version
    helper.set_model_props(model, metadata.to_metadata())
    onnx.checker.check_model(model)
    return model

"""Weights of a graph as float16, which halves its file; computing stays in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["LEAST", "store_halves"]

LEAST = 256
"""Constants with fewer numbers stay float32: they are biases and kernels of upsampling, and small."""


def store_halves(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large float32 constants are stored as float16, each with a node that converts it.

    A constant with a number beyond the range of float16 stays as it is.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    casts = []
    for tensor in made.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size >= LEAST and np.abs(array).max() <= np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_float", to=TensorProto.FLOAT))
    nodes = [*casts, *made.graph.node]
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made)
    return made

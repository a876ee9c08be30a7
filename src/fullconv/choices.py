"""The values that options accept, for the command line and for Python. This module imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal, get_args

__all__ = [
    "Backend",
    "Dilation",
    "PaddingMode",
    "Profile",
    "PublishedNet",
    "RecipeName",
    "ScoredSplit",
    "Split",
    "SplitOrAll",
    "Stride",
    "UpsampleMode",
    "WeightsType",
    "WrittenLayout",
    "join_words",
]

Precision = Literal["f32", "bf16"]
"""Numbers in which OpenVINO computes."""

Backend = Literal["onnx", "openvino", "torch"]
"""The program that computes a network: ONNX Runtime or OpenVINO for .onnx files, torch for run folders and weights."""

Split = Literal["train", "val", "test"]
"""A part of a data set."""

ScoredSplit = Literal["train", "val", "test", "val736"]
"""A part to score a model on. val736 contains the images of VOC's val that are not in SBD's train."""

SplitOrAll = Literal["all", "train", "val", "test"]
"""One part of a data set, or all of them."""

WeightsType = Literal["float32", "float16"]
"""Numbers in which a file stores weights. Networks compute in float32 with both."""

WrittenLayout = Literal["folder", "voc", "coco", "labelme"]
"""A layout that `fullconv convert` writes."""

PublishedNet = Literal["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "alexnet"]
"""A network whose weights the paper's authors published."""

Stride = Literal[32, 16, 8, 4]
"""Prediction stride: pixels from one cell of the finest score map to the next."""

Dilation = Literal[16, 8, 4]
"""The stride that the backbone's maps keep; later layers are dilated."""

UpsampleMode = Literal["fixed", "learned", "unpool", "resize"]
"""Upsampling: fixed or learned bilinear kernels, the indices of max pooling, or a plain resize."""

PaddingMode = Literal["minimal", "reference"]
"""The minimum padding that gives a score to every pixel, or the 100 pixels of the published networks."""

Profile = Literal["deepness", "bioimage"]
"""Another program that runs an exported network: the plugin Deepness of QGIS, or those that read bioimage.io."""

RecipeName = Literal["default", "paper"]
"""The recipes of `fullconv.training.recipe`."""


def join_words(choice: Any) -> str:
    """Join the values of a Literal for the help of an option: onnx|openvino|torch."""
    return "|".join(map(str, get_args(choice)))

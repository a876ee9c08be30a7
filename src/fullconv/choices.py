"""Closed sets of words, for the command line and for Python. This module imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal, get_args

__all__ = [
    "Backend",
    "Dilation",
    "PaddingMode",
    "PublishedNet",
    "RecipeName",
    "ScoredSplit",
    "Split",
    "SplitOrAll",
    "Stride",
    "UpsampleMode",
    "WrittenLayout",
    "words",
]

Backend = Literal["onnx", "openvino", "torch"]
"""Computes a network. ONNX Runtime and OpenVINO run .onnx files; torch runs run folders and weights files."""

Split = Literal["train", "val", "test"]
"""A part of a data set."""

ScoredSplit = Literal["train", "val", "test", "val736"]
"""A part to score a model on. val736 is the part of VOC's val that has no image in SBD's train."""

SplitOrAll = Literal["all", "train", "val", "test"]

WrittenLayout = Literal["folder", "voc", "coco", "labelme"]
"""A layout that `fullconv convert` writes."""

PublishedNet = Literal["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "alexnet"]
"""A network whose weights the paper's authors published."""

Stride = Literal[32, 16, 8, 4]
"""Prediction stride: pixels from one cell of the finest score map to the next."""

Dilation = Literal[16, 8, 4]
"""The stride at which the backbone's maps stay; later layers are dilated."""

UpsampleMode = Literal["fixed", "learned", "unpool", "resize"]
"""Bilinear kernels, fixed or learned; the indices of the poolings; a plain resize."""

PaddingMode = Literal["minimal", "reference"]
"""The least padding with which every pixel is covered, or the 100 pixels of the published networks."""

RecipeName = Literal["default", "paper"]
"""The recipes of `fullconv.training.recipe`."""


def words(choice: Any) -> str:
    """Join the words of a Literal for the help of an option: onnx|openvino|torch."""
    return "|".join(map(str, get_args(choice)))

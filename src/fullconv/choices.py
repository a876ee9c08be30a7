"""The values that options accept, for the command line and for Python. This module imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal, get_args

from fullconv.errors import UsageError

__all__ = [
    "Accelerator",
    "ActivationName",
    "Backend",
    "DecoderName",
    "Device",
    "Dilation",
    "Engine",
    "LateLayers",
    "LoggerName",
    "LossName",
    "PaddingMode",
    "Profile",
    "PublishedNet",
    "RecipeName",
    "ScoredSplit",
    "Split",
    "SplitOrAll",
    "Stride",
    "TrainPrecision",
    "UpsampleMode",
    "WeightsType",
    "WrittenLayout",
    "join_words",
    "refuse_code",
]

Precision = Literal["f32", "bf16"]
"""Numbers in which OpenVINO computes."""

Accelerator = Literal["auto", "cpu", "cuda", "mps"]
"""The devices of a training: auto means the GPUs of NVIDIA if there are any, else the CPU. mps is Apple's GPU."""

TrainPrecision = Literal["auto", "bf16", "fp16", "fp32"]
"""Numbers in which a training computes: auto means bfloat16 where the device is fast with it, else float32."""

LoggerName = Literal["tensorboard", "csv", "mlflow", "wandb"]
"""Where a training logs its losses and scores, in addition to metrics.csv."""

Backend = Literal["onnx", "openvino", "torch"]
"""The program that computes a network: ONNX Runtime or OpenVINO for .onnx files, torch for run folders and weights."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a network is computed: auto means NVIDIA's GPU for torch if there is one, else the CPU."""

Engine = Literal["local", "ray"]
"""The processes that predict: this one, or the workers of a Ray cluster."""

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

Stride = Literal[32, 16, 8, 4, 2]
"""Prediction stride: pixels from one cell of the finest score map to the next."""

Dilation = Literal[16, 8, 4]
"""The stride that the backbone's maps keep; later layers are dilated."""

DecoderName = Literal["paper", "refined"]
"""The paper's decoder, which sums scores, or one that sums features and refines each sum by a convolution."""

LateLayers = Literal["keep", "drop", "narrow", "short"]
"""Keep the last 1 x 1 convolution, drop it, read narrow maps at finer strides, too, or drop the last block as well."""

ActivationName = Literal["keep", "relu"]
"""Keep the classifier's activations, or replace ReLU6 by ReLU, which is faster on ONNX Runtime."""

LossName = Literal["cross-entropy", "ohem", "dice", "lovasz"]
"""The loss of a training: cross-entropy, only of hard pixels (ohem), or with Dice or Lovász added."""

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


def refuse_code(model: object, code: object) -> None:
    """Raise UsageError if the user names code for a model that does not need it."""
    if code is not None:
        message = f"{model} needs no code to build its network; leave out --model-code (code in Python)"
        raise UsageError(message, code="code-not-needed")

"""The options of the commands that train, `train` and `ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import (
    Accelerator,
    ActivationName,
    DecoderName,
    Dilation,
    LateLayers,
    LoggerName,
    LossName,
    PaddingMode,
    RecipeName,
    TrainPrecision,
    UpsampleMode,
    join_words,
)
from fullconv.choices import Stride as StrideChoice

__all__ = [
    "AcceleratorName",
    "Activation",
    "Batch",
    "ChosenModel",
    "Context",
    "Crop",
    "Decoder",
    "DecoderWidth",
    "Devices",
    "Dilate",
    "Epochs",
    "HeadWidth",
    "Late",
    "Logger",
    "Loss",
    "Minutes",
    "Model",
    "Nodes",
    "Padding",
    "Patience",
    "Precision",
    "Rate",
    "Recipe",
    "Resume",
    "RunFolder",
    "Set",
    "Start",
    "Stride",
    "Teacher",
    "UnlabelledImages",
    "Upsampling",
    "Weights",
]

NETWORK, RECIPE, MACHINES = "Network", "Recipe", "Machines"
"""The groups of options in the help of a training."""

CLASSIFIER = (
    "Classifier: the name of a torchvision or timm model (vgg16, alexnet, resnet18, resnet34, resnet50, "
    "mobilenet_v2, efficientnet_lite0, ...), caffenet, digits, or FILE.py:FUNCTION for a custom one; its code is run."
)
Model = Annotated[str, typer.Option(metavar="NAME", help=CLASSIFIER)]
ChosenModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help=CLASSIFIER, show_default="mobilenet_v2")
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Weights of the classifier: a file, 'pretrained', 'imagenet' or 'none'. pretrained: for mobilenet_v2 "
        "and efficientnet_lite0 the bundled weights (ImageNet; those of mobilenet_v2 were then fine-tuned on photos of "
        "dog breeds); for FILE.py the weights that its code loads; otherwise the same as imagenet. imagenet: the "
        "weights of torchvision or timm, downloaded on first use. none: random weights.",
        rich_help_panel=NETWORK,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Start from a trained network: a run folder, a .safetensors file, or street. Its network is taken, and "
        "its weights where they fit; --stride and --late can be others.",
    ),
]
HeadWidth = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Channels of fc6 and fc7, which then start from random weights.",
        show_default="the classifier's",
        rich_help_panel=NETWORK,
    ),
]
Upsampling = Annotated[
    UpsampleMode,
    typer.Option(
        metavar=join_words(UpsampleMode),
        help="Upsampling of the scores: with fixed or learned bilinear kernels, by the indices of max pooling "
        "(unpool), or by a plain resize. Networks with unpool or resize have no model.onnx.",
        rich_help_panel=NETWORK,
    ),
]
Padding = Annotated[
    PaddingMode,
    typer.Option(
        metavar=join_words(PaddingMode),
        help="Padding of the image: the minimum, or 100 pixels as in the published networks.",
        rich_help_panel=NETWORK,
    ),
]
Dilate = Annotated[
    Dilation | None,
    typer.Option(
        metavar=join_words(Dilation),
        help="Keep the backbone's maps at this stride: later layers are dilated. The prediction stride is then at "
        "most this.",
        show_default="the classifier's strides",
        rich_help_panel=NETWORK,
    ),
]
Decoder = Annotated[
    DecoderName,
    typer.Option(
        metavar=join_words(DecoderName),
        help="How the strides are joined: paper sums their scores; refined sums features, and refines each sum by a "
        "3 x 3 convolution.",
        rich_help_panel=NETWORK,
    ),
]
DecoderWidth = Annotated[
    int | None,
    typer.Option(metavar="N", help="Channels of the refined decoder.", show_default="64", rich_help_panel=NETWORK),
]
Context = Annotated[
    bool,
    typer.Option(
        "--context", help="Add dilated convolutions to the refined decoder's coarsest map.", rich_help_panel=NETWORK
    ),
]
Late = Annotated[
    LateLayers | None,
    typer.Option(
        metavar=join_words(LateLayers),
        help="The classifier's last 1 x 1 convolution, if it only widens the map for classification: keep it; drop "
        "it; narrow: read the finer strides before such a convolution, too; short: drop the last block as well.",
        show_default="keep",
        rich_help_panel=NETWORK,
    ),
]
Activation = Annotated[
    ActivationName,
    typer.Option(
        metavar=join_words(ActivationName),
        help="relu: replace the classifier's ReLU6 by ReLU; train that way, the model takes a fifth less time on ONNX "
        "Runtime.",
        rich_help_panel=NETWORK,
    ),
]
Recipe = Annotated[
    RecipeName,
    typer.Option(
        "--recipe",
        metavar=join_words(RecipeName),
        help="Values of the training: defaults that suit most data, or those of the paper.",
        rich_help_panel=RECIPE,
    ),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", help="Passes over the training images.", show_default="chosen by the data")
]
Batch = Annotated[
    int | None,
    typer.Option(metavar="N", help="Crops per step.", show_default="chosen by the data", rich_help_panel=RECIPE),
]
Crop = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", help="Side of the training crops.", show_default="chosen by the data", rich_help_panel=RECIPE
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        metavar="X",
        help="Learning rate of the pretrained layers.",
        show_default="depends on the classifier",
        rich_help_panel=RECIPE,
    ),
]
Loss = Annotated[
    LossName | None,
    typer.Option(
        metavar=join_words(LossName),
        help="Cross-entropy of all pixels, or of hard pixels only (ohem), or with Dice or Lovász added, which weigh "
        "all classes the same.",
        show_default="cross-entropy",
        rich_help_panel=RECIPE,
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Imitate a larger trained model, too: a run folder, a weights file, an .onnx file, or a bundled model. It "
        "has the same classes in the same order.",
        rich_help_panel=RECIPE,
    ),
]
UnlabelledImages = Annotated[
    Path | None,
    typer.Option(
        "--unlabelled-images",
        metavar="DIR",
        help="Folder of images without masks, which only the --teacher labels; they are a share of each batch.",
        rich_help_panel=RECIPE,
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Devices of this machine, one process for each; auto: all its GPUs. Batches are divided over them.",
        rich_help_panel=MACHINES,
    ),
]
Nodes = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Machines; torchrun or srun must start the command on each (docs/training.md).",
        rich_help_panel=MACHINES,
    ),
]
AcceleratorName = Annotated[
    Accelerator,
    typer.Option(
        "--accelerator",
        metavar=join_words(Accelerator),
        help="Kind of devices; auto: an NVIDIA GPU, else the CPU.",
        rich_help_panel=MACHINES,
    ),
]
Precision = Annotated[
    TrainPrecision,
    typer.Option(
        "--precision",
        metavar=join_words(TrainPrecision),
        help="Number format of the training; auto: bfloat16 where the device is fast with it, else float32.",
        rich_help_panel=MACHINES,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Train as many steps as fit into this time with validations and scoring, instead of --epochs.",
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(metavar="N", help="End the training after N validations without a better mIoU.", show_default="off"),
]
Logger = Annotated[
    LoggerName | None,
    typer.Option(
        "--logger",
        metavar=join_words(LoggerName),
        help="Log losses and scores there, in addition to metrics.csv.",
        rich_help_panel=RECIPE,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Set any other value of the recipe, with its name in recipe.yaml; repeatable.",
        rich_help_panel=RECIPE,
    ),
]
Stride = Annotated[
    StrideChoice | None,
    typer.Option(
        metavar=join_words(StrideChoice), help="Prediction stride, in pixels.", show_default="8, or 4 for thin objects"
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run folder to write.", show_default="runs/<data>-<network>-<model>")
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in the run folder.")]

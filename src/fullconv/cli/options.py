"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import Backend, Dilation, PaddingMode, RecipeName, ScoredSplit, UpsampleMode, words
from fullconv.choices import Stride as StrideChoice

__all__ = [
    "BackendName",
    "Batch",
    "ChosenModel",
    "Crop",
    "Data",
    "Dilate",
    "Epochs",
    "HeadWidth",
    "JsonFile",
    "Model",
    "Padding",
    "Rate",
    "Recipe",
    "Resume",
    "RunFolder",
    "ScoredSplitName",
    "Set",
    "Stride",
    "Trained",
    "Upsampling",
    "Weights",
]

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of labelled images, in any layout of docs/formats.md.")
]
Trained = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Run folder, weights file, .onnx file, or the name of a bundled model."),
]
CLASSIFIER = (
    "Classifier: torchvision's and timm's by name (vgg16, alexnet, resnet18, resnet34, resnet50, "
    "mobilenet_v2, ...), caffenet, digits, or FILE.py:FUNCTION for your own, whose code is run."
)
Model = Annotated[str, typer.Option(metavar="NAME", help=CLASSIFIER)]
ChosenModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help=CLASSIFIER, show_default="mobilenet_v2")
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Weights of the classifier: a file, 'pretrained' (for mobilenet_v2 the bundled weights, trained on "
        "ImageNet and then fine-tuned on dog breeds; for FILE.py those that it loads; otherwise as imagenet), "
        "'imagenet' (the library's, from its cache or downloaded), or 'none'.",
    ),
]
HeadWidth = Annotated[
    int | None,
    typer.Option(metavar="N", help="Channels of fc6 and fc7, from scratch.", show_default="the classifier's"),
]
Upsampling = Annotated[
    UpsampleMode,
    typer.Option(
        metavar=words(UpsampleMode),
        help="Bilinear kernels, fixed or learned; or the indices of the poolings; or a plain resize.",
    ),
]
Padding = Annotated[
    PaddingMode,
    typer.Option(metavar=words(PaddingMode), help="Padding: the least, or 100 pixels as in the published nets."),
]
Dilate = Annotated[
    Dilation | None,
    typer.Option(
        metavar=words(Dilation),
        help="Keep the backbone's maps at this stride: later layers are dilated, and no prediction stride is coarser.",
        show_default="the classifier's strides",
    ),
]
Recipe = Annotated[
    RecipeName,
    typer.Option(
        "--recipe",
        metavar=words(RecipeName),
        help="Values of the training: those that suit most data, or the published ones.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", help="Passes over the training images.", show_default="the recipe's")
]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Crops in a step.", show_default="the recipe's")]
Crop = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Side of the training crops.", show_default="the recipe's")
]
Rate = Annotated[
    float | None,
    typer.Option("--lr", metavar="X", help="Learning rate of the pretrained layers.", show_default="by the classifier"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe, as in recipe.yaml; repeatable."),
]
Stride = Annotated[
    StrideChoice | None,
    typer.Option(
        metavar=words(StrideChoice), help="Prediction stride, in pixels.", show_default="8, or 4 for thin objects"
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run folder.", show_default="runs/<data>-<network>-<model>")
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in the folder.")]
BackendName = Annotated[
    Backend | None,
    typer.Option(
        "--backend", metavar=words(Backend), help="The program that computes the network.", show_default="by the model"
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE|-", help="Write the results as JSON, too; - prints JSON in place of tables."),
]
ScoredSplitName = Annotated[
    ScoredSplit, typer.Option("--split", metavar=words(ScoredSplit), help="Which images; val736 is of VOC.")
]

"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import (
    Backend,
    Device,
    ScoredSplit,
    join_words,
)

__all__ = [
    "BackendName",
    "Data",
    "DeviceName",
    "JsonFile",
    "ModelCode",
    "RangeText",
    "ScoredSplitName",
    "Trained",
    "Tta",
]

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Folder of labelled images, or its .zip or .tar archive, in any layout of docs/formats.md."
    ),
]
Trained = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Run folder, weights file, .onnx file, or the name of a bundled model."),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta", help="Label each image and its mirror image, and take the mean probabilities: twice the time."
    ),
]
BackendName = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        metavar=join_words(Backend),
        help="The program that computes the network.",
        show_default="depends on the model",
    ),
]
DeviceName = Annotated[
    Device,
    typer.Option(
        "--device",
        metavar=join_words(Device),
        help="cuda: an NVIDIA GPU, for which .onnx files need the package onnxruntime-gpu. auto: for run folders a GPU "
        "if there is one, else the CPU.",
    ),
]
RangeText = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help="Values that become 0 and 255 in images of more than 8 bits, as 0,4095 for 12 bits.",
        show_default="the model's",
    ),
]
ModelCode = Annotated[
    Path | None,
    typer.Option(
        "--model-code",
        metavar="FILE.py",
        help="The file whose function builds the classifier, for a model that was trained with --model "
        "FILE.py:FUNCTION; its code is run. Needed if the file is not the same at the same place.",
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE|-", help="Write the results as JSON, too; with -, print JSON instead of tables."
    ),
]
ScoredSplitName = Annotated[
    ScoredSplit,
    typer.Option("--split", metavar=join_words(ScoredSplit), help="The images to use; val736 exists only for VOC."),
]

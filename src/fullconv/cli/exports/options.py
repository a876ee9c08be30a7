"""The options of `fullconv export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import Profile, WeightsType, join_words

__all__ = [
    "Author",
    "CalibrationData",
    "Force",
    "Int8",
    "Licence",
    "Out",
    "ProfileName",
    "Resolution",
    "Runtime",
    "Web",
    "WeightsTypeName",
]

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The file to write; with --profile bioimage a .zip file or a new folder.",
        show_default="model.onnx in the run folder, the weights file's name with .onnx, either with -int8 or -float16 "
        "before .onnx, NAME-deepness.onnx or NAME-bioimage.zip",
    ),
]
Int8 = Annotated[
    bool,
    typer.Option(
        "--int8",
        help="Compute convolutions in eight bits, if that is faster and costs at most one percentage point of mIoU.",
    ),
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        metavar="DATA",
        help="Labelled images for --int8: the training images calibrate it, the validation images give its mIoU. "
        "For a run folder, they are read as those of the training.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Write the int8 file even if it loses more or is slower.")]
Licence = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Licence of the weights, for the file's metadata or the package.")
]
WeightsTypeName = Annotated[
    WeightsType,
    typer.Option(
        "--weights-dtype",
        metavar=join_words(WeightsType),
        help="Numbers in which weights are stored. float16 halves the file; all computing stays in float32, and few "
        "labels change, where two classes nearly tie.",
    ),
]
ProfileName = Annotated[
    Profile | None,
    typer.Option(
        "--profile",
        metavar=join_words(Profile),
        help="Write for another program: Deepness, the plugin of QGIS that labels maps, or those that read "
        "bioimage.io's packages. MODEL may also be an .onnx file or the name of a bundled model.",
    ),
]
Resolution = Annotated[
    float | None,
    typer.Option(
        metavar="CM", help="Ground size of a pixel in centimetres, for --profile deepness.", show_default=False
    ),
]
Author = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who trained the network, for --profile bioimage.", show_default=False),
]
Web = Annotated[
    Path | None,
    typer.Option(
        "--web",
        metavar="DIR",
        help="Write a page into this new folder that runs MODEL (also an .onnx file or a bundled model) in the "
        "browser. npm fetches onnxruntime-web once.",
    ),
]
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--onnxruntime-web",
        metavar="FILE",
        help="The archive of onnxruntime-web for --web, as `npm pack` writes it, where npm has no network.",
    ),
]

"""The command `fullconv export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.cli.console import emit
from fullconv.cli.options import ModelCode

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder or weights file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .onnx file to write.",
            show_default="model.onnx in the run folder, or the weights file's name with .onnx",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Compute convolutions in eight bits, if that is faster and costs at most one percentage point of "
            "mIoU.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Labelled images for --int8: the training images calibrate it, the validation images give its mIoU.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the int8 file even if it loses more or is slower.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the weights, for the file's metadata.")
    ] = None,
    model_code: ModelCode = None,
) -> None:
    """Write a network as one ONNX file that needs no torch.

    The file takes pixels of any image size and batch size. It returns logits at the prediction stride and a label map
    of full size. Its metadata has the classes, the palette and the other facts that prediction needs. Before the file
    gets its name, its labels are compared with torch's. predict and evaluate accept it.
    """
    from fullconv import api

    exported = api.export(model, out, int8=int8, data=data, force=force, licence=licence, code=model_code)
    size = f"{exported.path}: {exported.path.stat().st_size / 1e6:.1f} MB"
    if exported.quantized is None:
        emit(
            f"{size}; logits differ from torch's by at most {exported.difference:.1g}, labels are equal except for "
            f"ties ({exported.classes} classes occurred)"
        )
        return
    emit(size)
    quantized = exported.quantized
    emit(
        f"int8: mIoU {quantized.int8_mean_iou:.4f}, float32 {quantized.float_mean_iou:.4f}; "
        f"{quantized.float_seconds / quantized.int8_seconds:.2f} times as fast on this machine"
        + (f"; the first {quantized.kept} convolutions stay in float32" if quantized.kept else "")
    )

"""The command `fullconv export`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullconv.cli.console import emit
from fullconv.cli.exports.options import (
    Author,
    CalibrationData,
    Force,
    Int8,
    Licence,
    Out,
    ProfileName,
    Resolution,
    Runtime,
    Web,
    WeightsTypeName,
)
from fullconv.cli.options.shared import ModelCode
from fullconv.errors import UsageError

if TYPE_CHECKING:
    from fullconv.onnx_export import Exported
    from fullconv.packages import Written

__all__ = ["export"]


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run folder or weights file.")],
    out: Out = None,
    int8: Int8 = False,
    data: CalibrationData = None,
    force: Force = False,
    licence: Licence = None,
    weights_dtype: WeightsTypeName = "float32",
    profile: ProfileName = None,
    resolution: Resolution = None,
    author: Author = None,
    web: Web = None,
    onnxruntime_web: Runtime = None,
    model_code: ModelCode = None,
) -> None:
    """Write a network as one ONNX file that needs no torch.

    The file takes pixels of any image size and batch size. It returns logits at the prediction stride and a label map
    of full size. Its metadata has the classes, the palette and the other facts that prediction needs. Before the file
    gets its name, its labels are compared with torch's. predict and evaluate accept it.

    --profile and --web write a network for other programs instead, from the model.onnx of a run (docs/exporting.md).
    """
    from fullconv import api
    from fullconv.packages.export import export_profile, export_web

    plain = {"--int8": int8, "--data": data, "--force": force, "--weights-dtype": weights_dtype != "float32"}
    profiled = {"--resolution": resolution, "--author": author}
    if web is not None:
        others = {**plain, **profiled, "--profile": profile, "--out": out, "--licence": licence}
        _refuse("--web", others)
        _print_written(export_web(model, web, onnxruntime_web=onnxruntime_web, code=model_code))
    elif profile is not None:
        _refuse("--profile", {**plain, "--onnxruntime-web": onnxruntime_web})
        values: Any = {"resolution": resolution, "licence": licence, "author": author}
        _print_written(export_profile(model, out, profile=profile, **values, code=model_code))
    else:
        _refuse("a plain file", {**profiled, "--onnxruntime-web": onnxruntime_web})
        settings: Any = {"int8": int8, "data": data, "force": force, "licence": licence, "weights_dtype": weights_dtype}
        _print_exported(api.export(model, out, **settings, code=model_code))


def _refuse(kind: str, others: Mapping[str, object]) -> None:
    for name, value in others.items():
        if value is not None and value is not False:
            raise UsageError(f"{name} is not for {kind}; leave it out", code="option-of-other-export")


def _print_written(written: Written) -> None:
    emit(f"{written.path}")
    for note in written.notes:
        emit(f"- {note}")


def _print_exported(exported: Exported) -> None:
    size = f"{exported.path}: {exported.path.stat().st_size / 1e6:.1f} MB"
    if exported.quantized is not None:
        quantized = exported.quantized
        emit(size)
        emit(
            f"int8: mIoU {quantized.int8_mean_iou:.4f}, float32 {quantized.float_mean_iou:.4f}; "
            f"{quantized.float_seconds / quantized.int8_seconds:.2f} times as fast on this machine"
            + (f"; the first {quantized.kept} convolutions stay in float32" if quantized.kept else "")
        )
    elif exported.equal_labels is not None:
        emit(
            f"{size}; weights in float16: {100 * exported.equal_labels:.3f} % of the compared labels are those of "
            f"float32 ({exported.classes} classes occurred)"
        )
    else:
        emit(
            f"{size}; logits differ from torch's by at most {exported.difference:.1g}, labels are equal except for "
            f"ties ({exported.classes} classes occurred)"
        )

"""The command `fullconv inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.choices import refuse_code
from fullconv.cli.console import emit, format_axes, print_table, say, write_results
from fullconv.cli.options.shared import JsonFile, ModelCode
from fullconv.cli.values import parse_size, refuse_overwriting
from fullconv.extras import need_torch
from fullconv.runtime.models import bundled_names, model_path

if TYPE_CHECKING:
    from fullconv.net.inspect.inspection import Inspection

__all__ = ["inspect", "print_inspection"]


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Classifier, run folder, model file, or bundled model.")
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Height and width of the image.", show_default="the classifier's"),
    ] = None,
    json_file: JsonFile = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare the dense map of a classifier with the classifier on its crops, and print that."
        ),
    ] = False,
    model_code: ModelCode = None,
) -> None:
    """Show a network layer by layer.

    Prints the kernel, stride, padding and output of each layer; the stride, receptive field and offset of its cells in
    pixels of the image; its parameters and multiply-accumulates. A classifier is shown in its convolutional form.

    With --check, the dense map of a classifier is compared with the classifier itself, cell by cell. Image and weights
    are random; the image is two strides larger than the classifier's input.
    """
    pixels = None if size is None else parse_size(size)
    refuse_overwriting(json_file, inputs=[Path(model)])
    need_torch()
    if check:
        from fullconv.net.inspect.network import check_classifier

        refuse_code(model, model_code)
        say(f"comparing {model} with its dense form, in float64; large classifiers take minutes")
        comparison = check_classifier(model, pixels)
        write_results(json_file, comparison.to_dict(), lambda: emit("\n".join(comparison.lines())))
        return
    inspection = _inspect(model, pixels, model_code)
    write_results(json_file, inspection.to_dict(), lambda: print_inspection(inspection))


def _inspect(model: str, size: tuple[int, int] | None, code: Path | None) -> Inspection:
    """Inspect a bundled model or an .onnx file, or what `inspect_model` knows."""
    from fullconv.net.inspect.network import inspect_model
    from fullconv.onnx_export.inspect import inspect_exported

    if model in bundled_names() or (Path(model).suffix.lower() == ".onnx" and Path(model).is_file()):
        return inspect_exported(model_path(model), size, code)
    return inspect_model(model, size, code)


def print_inspection(inspection: Inspection) -> None:
    """Print the layers with their totals, and the padding, halo and crops of a skip network."""
    rows = [
        ["layer", "kind", "kernel", "stride", "pad", "output", "cell stride", "field", "offset", "parameters", "MACs"]
    ]
    for row in inspection.rows:
        pairs = (row.kernel, row.step, row.padding), (row.stride, row.receptive_field, row.offset)
        numbers = [[format_axes(pair) for pair in group] for group in pairs]
        output = "x".join(map(str, row.shape))
        rows.append([row.name, row.kind, *numbers[0], output, *numbers[1], f"{row.params:,}", f"{row.macs:,}"])
    rows.append(["total", *[""] * 8, f"{inspection.params:,}", f"{inspection.macs:,}"])
    emit(f"{inspection.name}, image of {format_axes(inspection.size, square=False)}\n")
    print_table(rows)
    if inspection.context:
        more = f" and {len(inspection.context) - 3} more" if len(inspection.context) > 3 else ""
        emit(
            f"\nglobal context at {', '.join(inspection.context[:3])}{more}: cells depend on the whole image, so "
            "labels from tiles differ from those of the whole image with any halo"
        )
    if inspection.skip is None:
        return
    (top, bottom), (left, right) = inspection.skip.padding
    sizes = " and ".join(format_axes(pair) for pair in zip(*inspection.skip.halo, strict=True))
    halo = "" if inspection.context else f"; halo: {sizes} before and after"
    emit(f"\nimage padding: top {top}, bottom {bottom}, left {left}, right {right}{halo}\n")
    upsamplings = [
        [layer.name, *map(format_axes, (layer.factor, layer.kernel, layer.crop))]
        for layer in inspection.skip.upsamplings
    ]
    print_table([["upsampling", "factor", "kernel", "crop"], *upsamplings])

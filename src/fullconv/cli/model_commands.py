"""The commands that look at a model or make another file of it: inspect, import and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import PublishedNet, words
from fullconv.cli.console import print_inspection, write_results
from fullconv.cli.options import JsonFile
from fullconv.cli.parsing import parse_size
from fullconv.errors import UsageError
from fullconv.extras import need_torch

__all__ = ["export", "import_", "inspect"]


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a classifier, run folder or weights file.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Height and width of the image.", show_default="the classifier's"),
    ] = None,
    json_file: JsonFile = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Instead, compare the dense map of a classifier with the classifier on its crops."
        ),
    ] = False,
) -> None:
    """Show a network layer by layer.

    Kernel, stride, padding and output of each layer; stride, receptive field and offset of its cells in pixels of
    the image; parameters and multiply-accumulates. A classifier is shown convolutionalized; with --check, its dense map
    is compared with it cell by cell, on a random image (its size and two strides more) and with random weights.
    """
    pixels = None if size is None else parse_size(size)
    need_torch()
    if check:
        from fullconv.net.inspect.network import check_classifier

        outcome = check_classifier(model, pixels)
        write_results(json_file, outcome.to_dict(), lambda: print("\n".join(outcome.lines())))
        return
    from fullconv.net.inspect.network import inspect_model

    inspection = inspect_model(model, pixels)
    write_results(json_file, inspection.to_dict(), lambda: print_inspection(inspection))


def import_(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="Published weights: .caffemodel, .npz, .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    net: Annotated[
        PublishedNet | None,
        typer.Option(metavar=words(PublishedNet), help="The published network.", show_default="by the layers"),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="classes.txt or dataset.yaml.", show_default="VOC's where there are 21"),
    ] = None,
) -> None:
    """Make the published FCN weights a model of fullconv.

    FILE gives the published logits with evaluate, predict and inspect: docs/reference.md. At-once weights without
    their scale layers look like those of fcn8s and need --net.
    """
    need_torch()
    from fullconv.data.classes import read_labels
    from fullconv.net.checkpoint import Saved, save_net
    from fullconv.net.reference.published import read_published

    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: name a file that ends in .safetensors")
    name, spec, state = read_published(weights, net)
    labels = read_labels(spec.num_classes, classes)
    save_net(out, state, Saved(spec, labels, {"imported": weights.name, "net": name}))
    print(f"{out}: {name} with {spec.num_classes} classes, {spec.upsample} upsampling")


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder or weights file.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The .onnx file to write.", show_default="model.onnx in the run folder"),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in eight bits, if that is faster and costs at most a point.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="For --int8: calibrate on its training images, compare on its validation."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the int8 file even if it loses more.")] = False,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the weights, for the file's metadata.")
    ] = None,
) -> None:
    """Write a network as one ONNX file that needs no torch.

    Pixels in, logits at the prediction stride and a full-size label map out; any size, any batch; classes, palette and
    the rest in its metadata. The file is compared with torch before it gets its name: predict and evaluate take it.
    """
    from fullconv import api

    done = api.export(model, out, int8=int8, data=data, force=force, licence=licence)
    close = f"logits within {done.difference:.1g} of torch's, labels equal but for ties ({done.classes} classes seen)"
    print(f"{done.path}: {done.path.stat().st_size / 1e6:.1f} MB" + (f"; {close}" if done.quantized is None else ""))
    if done.quantized is not None:
        int8_file = done.quantized
        print(
            f"int8: mean IU {int8_file.int8_mean_iou:.4f}, float32 {int8_file.float_mean_iou:.4f}; "
            f"{int8_file.float_seconds / int8_file.int8_seconds:.2f} times as fast here"
            + (f"; the first {int8_file.kept} convolutions stay in float32" if int8_file.kept else "")
        )

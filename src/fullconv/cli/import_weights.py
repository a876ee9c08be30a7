"""The command `fullconv import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import PublishedNet, join_words
from fullconv.cli.console import emit
from fullconv.cli.values import refuse_overwriting
from fullconv.errors import UsageError
from fullconv.extras import need_torch

__all__ = ["import_weights"]


def import_weights(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="Published weights: .caffemodel, .npz, .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    net: Annotated[
        PublishedNet | None,
        typer.Option(
            metavar=join_words(PublishedNet), help="The published network.", show_default="the one with these layers"
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Class names: classes.txt or dataset.yaml.",
            show_default="VOC's names if there are 21 classes",
        ),
    ] = None,
) -> None:
    """Convert the published FCN weights to a model file of fullconv.

    evaluate, predict and inspect then compute the published logits with FILE; see docs/reference.md. At-once weights
    without their scale layers look like those of fcn8s and need --net.
    """
    need_torch()
    from fullconv.data.classes import read_labels
    from fullconv.net.checkpoint import Saved, save_net
    from fullconv.net.reference.published import read_published

    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"--out {out}: name a file that ends in .safetensors", code="not-safetensors")
    refuse_overwriting(out, inputs=[weights])
    name, spec, state = read_published(weights, net)
    labels = read_labels(spec.num_classes, classes)
    save_net(out, state, Saved(spec, labels, {"imported": weights.name, "net": name}))
    emit(f"{out}: {name} with {spec.num_classes} classes, {spec.upsample} upsampling")

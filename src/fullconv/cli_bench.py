"""The commands below `fullconv bench`: what fullconv claims, measured on the user's machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fullconv.arguments import parse_size
from fullconv.errors import UsageError
from fullconv.extras import need_torch
from fullconv.terminal import print_dense_bench, print_views

__all__ = ["bench"]

bench = typer.Typer(name="bench", no_args_is_help=True, help="Measure on this machine.")


@bench.command("dense")
def _dense(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Classifier, as in train, with random weights; caffenet is the paper's AlexNet."
        ),
    ] = "caffenet",
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of the image.")] = "500x500",
    rounds: Annotated[
        int | None, typer.Option(metavar="N", help="Rounds of all ways in turn.", show_default="5, or 1 with --quick")
    ] = None,
    no_accuracy: Annotated[bool, typer.Option("--no-accuracy", help="Leave out the classifiers of digits.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round, and hardly any training.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there too.")
    ] = None,
) -> None:
    """Patch-wise classification beside one dense pass.

    Time per output cell, forward and backward, of the dense classifier, of the same windows in batches and one by one,
    each ratio beside the one of their multiply-accumulates; bytes of the patches beside bytes of the image; and, for
    classifiers of three window sizes, how often they name the digit that the middle of their window belongs to.
    """
    pixels = parse_size(size)
    rounds = rounds if rounds is not None else 1 if quick else 5
    if rounds < 1:
        raise UsageError(f"--rounds {rounds}: at least 1")
    need_torch()
    from fullconv.files import write_text
    from fullconv.learn.bench import bench_dense
    from fullconv.learn.views import QUICK, Budget, compare_views

    found = bench_dense(model, pixels, rounds)
    print_dense_bench(found)
    views = () if no_accuracy else compare_views(QUICK if quick else Budget())
    if views:
        print()
        print_views(views)
    if json_file is not None:
        values = {**found.to_dict(), "views": [view.to_dict() for view in views]}
        write_text(json_file, json.dumps(values, indent=1))

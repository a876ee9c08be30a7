"""The commands of `fullconv bench`, which measure on the user's machine what the documentation claims."""

from __future__ import annotations

from typing import Annotated

import typer

from fullconv.cli.console import print_dense_bench, print_views, prints_json, write_results
from fullconv.cli.options import JsonFile
from fullconv.cli.parsing import parse_size
from fullconv.errors import UsageError
from fullconv.extras import need_torch

__all__ = ["bench"]

bench = typer.Typer(name="bench", no_args_is_help=True, help="Measure on this machine.")


@bench.command("dense")
def _dense(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Classifier, as for train, with random weights. caffenet is the paper's AlexNet."
        ),
    ] = "caffenet",
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of the image.")] = "500x500",
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of rounds; each round measures all ways.", show_default="5, or 1 with --quick"
        ),
    ] = None,
    no_accuracy: Annotated[bool, typer.Option("--no-accuracy", help="Skip the comparison of window sizes.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round and little training.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Compare patch-wise classification with one dense pass.

    Prints the time per output cell, forward and backward, of the dense classifier and of the same windows in batches
    and one by one; the ratios of time and of multiply-accumulates; the bytes of the patches and of the image; and the
    accuracy of digit classifiers with three window sizes.
    """
    pixels = parse_size(size)
    rounds = rounds if rounds is not None else 1 if quick else 5
    if rounds < 1:
        raise UsageError(f"--rounds {rounds}: give at least 1", code="rounds-too-few")
    need_torch()
    from fullconv.bench.dense import bench_dense
    from fullconv.bench.views import QUICK, Budget, compare_views

    result = bench_dense(model, pixels, rounds)
    if not prints_json(json_file):
        print_dense_bench(result)
    views = () if no_accuracy else compare_views(QUICK if quick else Budget())

    def show_views() -> None:
        if views:
            print()
            print_views(views)

    write_results(json_file, {**result.to_dict(), "views": [view.to_dict() for view in views]}, show_views)

"""The commands of `fullconv bench`, which measure on the user's machine what the documentation claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import emit, format_axes, print_table, prints_json, write_results
from fullconv.cli.options.shared import JsonFile
from fullconv.cli.values import parse_size
from fullconv.errors import UsageError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.bench.dense import DenseBench
    from fullconv.bench.views import View

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
        _print_dense(result)
    views = () if no_accuracy else compare_views(QUICK if quick else Budget())

    def show_views() -> None:
        if views:
            emit()
            _print_views(views)

    write_results(json_file, {**result.to_dict(), "views": [view.to_dict() for view in views]}, show_views)


def _print_dense(result: DenseBench) -> None:
    """Print the time per cell with its ratios, then the bytes."""
    size, cells, window = (format_axes(pair, square=False) for pair in (result.size, result.cells, result.window))
    emit(
        f"{result.model}, image of {size}: {cells} cells, windows of {window}, stride {format_axes(result.stride)}; "
        f"float32, {result.threads} thread(s), medians of {result.rounds} round(s), torch {result.torch}\n"
    )
    rows = [["", "ms per cell", "ratio to the dense pass", "ratio of multiply-accumulates", "ratio in the paper"]]
    for way in result.ways:
        name = f"{way.way} ({result.batch})" if way.way == "batched" else way.way
        paper = "" if way.paper is None else f"{way.paper:.1f}"
        rows.append(
            [f"{way.direction}, {name}", f"{way.milliseconds:.2f}", f"{way.ratio:.1f}", f"{way.bound:.1f}", paper]
        )
    print_table(rows)
    emit()
    rows = [["patches", "number", "bytes (uint8)", "bytes (float32)", "ratio to the image"]]
    for storage in result.storage:
        name = f"every {storage.step} pixels" if storage.step > 1 else "every pixel"
        size, bytes_ = f"{storage.patches:,}", storage.patch_bytes
        rows.append([name, size, f"{bytes_:,}", f"{4 * bytes_:,}", f"{bytes_ / storage.image_bytes:,.1f}"])
    image = result.storage[0].image_bytes
    print_table([*rows, ["the image", "1", f"{image:,}", f"{4 * image:,}", "1.0"]])


def _print_views(views: Sequence[View]) -> None:
    """Print the accuracy by window size, in percent."""
    rows = [["window", "correct pixels", "of digits", "seconds of training"]]
    for view in views:
        shares = [f"{100 * share:.1f}" for share in (view.accuracy, view.on_digits)]
        rows.append([f"{view.window} pixels", *shares, f"{view.seconds:.0f}"])
    print_table(rows)

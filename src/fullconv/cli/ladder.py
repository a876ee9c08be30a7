"""The command `fullconv ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.cli.console import hint_at_check, print_table, say, training_bar
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import Data
from fullconv.cli.options.training import (
    RECIPE,
    AcceleratorName,
    Activation,
    Context,
    Crop,
    Decoder,
    DecoderWidth,
    Devices,
    Dilate,
    HeadWidth,
    Late,
    Model,
    Nodes,
    Padding,
    Precision,
    Rate,
    Recipe,
    Resume,
    Set,
    Upsampling,
    Weights,
)
from fullconv.cli.values import parse_devices, parse_values
from fullconv.cores import is_main_process
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.errors import UsageError
from fullconv.extras import need_torch

__all__ = ["ladder"]


@reads_data
def ladder(
    data: Data,
    model: Model = "vgg16",
    weights: Weights = "pretrained",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    padding: Padding = "minimal",
    dilate: Dilate = None,
    decoder: Decoder = "paper",
    decoder_width: DecoderWidth = None,
    context: Context = False,
    late: Late = None,
    activation: Activation = "keep",
    recipe: Recipe = "default",
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Passes of each network over the training images.", show_default="40"),
    ] = None,
    epochs_each: Annotated[
        str | None,
        typer.Option(metavar="N,N,N,N", help="Epochs of each of the four networks.", show_default="--epochs"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Crops per step.",
            show_default="8, or 1 with the paper's recipe",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    devices: Devices = "1",
    nodes: Nodes = 1,
    accelerator: AcceleratorName = "auto",
    precision: Precision = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the run folders.", show_default="runs/<data>-ladder-<model>"),
    ] = None,
    resume: Resume = False,
    *,
    reading: Reading,
) -> None:
    """Train the paper's ladder of networks and print its table.

    The networks are FCN-32s-fixed, FCN-32s, FCN-16s and FCN-8s. Each starts from the weights of the one before. On the
    paper's data (VOC with SBD), the table also has the paper's rows. With --dilate N, the ladder starts at stride N.
    """
    need_torch()
    from fullconv.data.statistics import read_training_data
    from fullconv.training.job import TrainingOptions, make_job, name_ladder_folder
    from fullconv.training.ladder import climb, find_published, make_table

    options = TrainingOptions(
        model, None, weights, head_width, upsample, padding, dilate, recipe, epochs, batch, crop, lr,
        parse_values(set_), by_data=False, devices=parse_devices(devices), nodes=nodes, accelerator=accelerator,
        precision=precision,
        decoder=decoder, decoder_width=decoder_width, context=context, late=late, activation=activation,
    )  # fmt: skip
    options.check()
    each = _parse_epochs(epochs_each)
    if each is not None and "epochs" in options.recipe_values():
        message = "--epochs-each gives the epochs of all networks; leave out --epochs or --epochs-each"
        raise UsageError(message, code="given-twice")
    with hint_at_check(data, reading):
        dataset, statistics = read_training_data(data, ReadingOptions(**reading))
    job = make_job(dataset, options, statistics)
    folder = out or name_ladder_folder(data, job)
    with training_bar() as on_progress:
        rungs = climb(
            dataset, job, folder, statistics=statistics, epochs_each=each, resume=resume, on_progress=on_progress
        )
    if not is_main_process():
        return
    print_table(make_table(rungs, find_published(dataset)))
    say(f"run folders: {folder}, with report.html")


def _parse_epochs(text: str | None) -> list[int] | None:
    """Return the numbers of 10,6,6,10. Raises UsageError for anything else."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--epochs-each {text}: write whole numbers with commas between them, as in 10,6,6,10",
            code="invalid-epochs-each",
        ) from error

"""The command `fullconv train`."""

from __future__ import annotations

from typing import Annotated

import typer

from fullconv.cli.console import hint_at_check, print_scores, print_table, say, training_bar
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import Data
from fullconv.cli.options.training import (
    AcceleratorName,
    Activation,
    Batch,
    ChosenModel,
    Context,
    Crop,
    Decoder,
    DecoderWidth,
    Devices,
    Dilate,
    Epochs,
    HeadWidth,
    Late,
    Logger,
    Loss,
    Minutes,
    Nodes,
    Padding,
    Patience,
    Precision,
    Rate,
    Recipe,
    Resume,
    RunFolder,
    Set,
    Start,
    Stride,
    Teacher,
    UnlabelledImages,
    Upsampling,
    Weights,
)
from fullconv.cli.values import parse_devices, parse_values
from fullconv.cores import is_main_process
from fullconv.data.reading import Reading
from fullconv.extras import need_torch

__all__ = ["train"]


@reads_data
def train(
    data: Data,
    model: ChosenModel = None,
    stride: Stride = None,
    start: Start = None,
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
    epochs: Epochs = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    loss: Loss = None,
    teacher: Teacher = None,
    unlabelled_images: UnlabelledImages = None,
    minutes: Minutes = None,
    patience: Patience = None,
    set_: Set = None,
    devices: Devices = "1",
    nodes: Nodes = 1,
    accelerator: AcceleratorName = "auto",
    precision: Precision = "auto",
    logger: Logger = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Cross-validate: train a network for each of K folds of train and val."),
    ] = None,
    out: RunFolder = None,
    resume: Resume = False,
    *,
    reading: Reading,
) -> None:
    """Train one network on labelled images.

    fullconv chooses the backbone, stride, crop, batch, epochs and class weights from the data, unless you set them. It
    prints each choice with its reason. The run folder then holds the weights, model.onnx for prediction, and
    report.html.
    """
    need_torch()
    from fullconv import api

    with hint_at_check(data, reading), training_bar() as on_progress:
        result = api.train(
            data,
            out=out,
            model=model,
            stride=stride,
            start=start,
            weights=weights,
            head_width=head_width,
            upsample=upsample,
            padding=padding,
            dilate=dilate,
            decoder=decoder,
            decoder_width=decoder_width,
            context=context,
            late=late,
            activation=activation,
            recipe=recipe,
            epochs=epochs,
            batch=batch,
            crop=crop,
            lr=lr,
            loss=loss,
            teacher=teacher,
            unlabelled_images=unlabelled_images,
            values=parse_values(set_),
            minutes=minutes,
            patience=patience,
            logger=logger,
            folds=folds,
            devices=parse_devices(devices),
            nodes=nodes,
            accelerator=accelerator,
            precision=precision,
            resume=resume,
            on_progress=on_progress,
            **reading,
        )
    if not is_main_process():
        return
    if result.folds:
        from fullconv.training.folds import make_folds_table

        print_table(make_folds_table(result))
    print_scores(result.scores)
    if result.folds:
        say(f"run folders: {result.folder}, with report.html")
        return
    if not result.alarm:
        size = "" if result.model is None else f" and {result.model.name} ({result.model.stat().st_size / 1e6:.1f} MB)"
        say(f"run folder: {result.folder}, with report.html{size}")

"""The command `fullconv train`."""

from __future__ import annotations

from fullconv.cli.console import hint_at_check, print_scores, say, training_bar
from fullconv.cli.options import (
    Batch,
    ChosenModel,
    Crop,
    Data,
    Dilate,
    Epochs,
    HeadWidth,
    Padding,
    Rate,
    Recipe,
    Resume,
    RunFolder,
    Set,
    Stride,
    Upsampling,
    Weights,
    parse_values,
)
from fullconv.extras import need_torch

__all__ = ["train"]


def train(
    data: Data,
    model: ChosenModel = None,
    stride: Stride = None,
    weights: Weights = "pretrained",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    padding: Padding = "minimal",
    dilate: Dilate = None,
    recipe: Recipe = "default",
    epochs: Epochs = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: RunFolder = None,
    resume: Resume = False,
) -> None:
    """Train one network on labelled images.

    fullconv chooses the backbone, stride, crop, batch, epochs and class weights from the data, unless you set them. It
    prints each choice with its reason. The run folder then holds the weights, model.onnx for prediction, and
    report.html.
    """
    need_torch()
    from fullconv import api

    with hint_at_check(data), training_bar() as on_progress:
        result = api.train(
            data,
            out=out,
            model=model,
            stride=stride,
            weights=weights,
            head_width=head_width,
            upsample=upsample,
            padding=padding,
            dilate=dilate,
            recipe=recipe,
            epochs=epochs,
            batch=batch,
            crop=crop,
            lr=lr,
            values=parse_values(set_),
            resume=resume,
            on_progress=on_progress,
        )
    print_scores(result.scores)
    if not result.alarm:
        size = "" if result.model is None else f" and {result.model.name} ({result.model.stat().st_size / 1e6:.1f} MB)"
        say(f"run folder: {result.folder}, with report.html{size}")

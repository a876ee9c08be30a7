"""The Python face: each function does what the command of its name does. `import fullconv` opens them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullconv.choices import Dilation, PaddingMode, RecipeName, Stride, UpsampleMode
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.learn.progress import OnProgress
    from fullconv.learn.train import TrainResult

__all__ = ["train"]

logger = logging.getLogger(__name__)


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    stride: Stride | None = None,
    weights: str | os.PathLike[str] = "pretrained",
    head_width: int | None = None,
    upsample: UpsampleMode = "fixed",
    padding: PaddingMode = "minimal",
    dilate: Dilation | None = None,
    recipe: RecipeName = "default",
    epochs: int | None = None,
    batch: int | None = None,
    crop: int | None = None,
    lr: float | None = None,
    values: Mapping[str, Any] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train one network on a folder of labelled images.

    The options are those of `fullconv train` (docs/commands.md); the data choose what is None. The choices, the plan
    and a line for each validation are logged.

    Args:
        data: Folder of labelled images, in any layout of docs/formats.md.
        out: Run folder; runs/<data>-<network>-<model> where it is None.
        model: Classifier: the name of a torchvision or timm model, or FILE.py:FUNCTION.
        stride: Prediction stride.
        weights: Weights of the classifier: a file, "pretrained", "imagenet" or "none".
        head_width: Channels of fc6 and fc7, from scratch.
        upsample: Bilinear kernels, fixed or learned; the indices of the poolings; or a plain resize.
        padding: The least padding, or 100 pixels as in the published nets.
        dilate: Keep the backbone's maps at this stride.
        recipe: Values of the training: those that suit most data, or the published ones.
        epochs: Passes over the training images.
        batch: Crops in a step.
        crop: Side of the training crops in pixels.
        lr: Learning rate of the pretrained layers.
        values: Any other values of the recipe, by name, as in recipe.yaml.
        resume: Resume the run in the folder.
        on_progress: Called at the start, after each step, and after each validation.

    Returns:
        The run: `folder`, `scores`, `model` (the path of model.onnx or None) and `alarm`.

    Raises:
        UsageError: An option has no such value, or `out` holds a run and `resume` is not set.
        DataError: The data set has faults; all of them are listed.
        ModelError: There is no such classifier, or it cannot become a skip network.
        Interrupted: SIGINT or SIGTERM stopped the training; everything is saved.
    """
    need_torch()
    from fullconv.data.statistics import read_training_data
    from fullconv.learn.job import TrainingOptions, make_job, run_folder
    from fullconv.learn.train import train as run

    options = TrainingOptions(
        model, stride, weights, head_width, upsample, padding, dilate, recipe, epochs, batch, crop, lr, values or {}
    )
    options.check()
    dataset, statistics = read_training_data(Path(data))
    job = make_job(dataset, options, statistics)
    for choice in job.choices:
        logger.info(str(choice))
    folder = run_folder(Path(data), job) if out is None else Path(out)
    return run(dataset, job, folder, statistics=statistics, resume=resume, on_progress=on_progress)

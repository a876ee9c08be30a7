"""Check data sets, and train on them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from fullconv.api.models import OnSample
from fullconv.choices import (
    Accelerator,
    ActivationName,
    DecoderName,
    Dilation,
    LateLayers,
    LoggerName,
    LossName,
    PaddingMode,
    RecipeName,
    Stride,
    TrainPrecision,
    UpsampleMode,
)
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.doctor.examine import Examination
    from fullconv.training.progress import OnProgress, TrainResult

__all__ = ["check", "train"]


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    stride: Stride | None = None,
    start: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] = "pretrained",
    head_width: int | None = None,
    upsample: UpsampleMode = "fixed",
    padding: PaddingMode = "minimal",
    dilate: Dilation | None = None,
    decoder: DecoderName = "paper",
    decoder_width: int | None = None,
    context: bool = False,
    late: LateLayers | None = None,
    activation: ActivationName = "keep",
    recipe: RecipeName = "default",
    epochs: int | None = None,
    batch: int | None = None,
    crop: int | None = None,
    lr: float | None = None,
    loss: LossName | None = None,
    teacher: str | os.PathLike[str] | None = None,
    unlabelled_images: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    patience: int | None = None,
    values: Mapping[str, Any] | None = None,
    folds: int | None = None,
    devices: int | Literal["auto"] = 1,
    nodes: int = 1,
    accelerator: Accelerator = "auto",
    precision: TrainPrecision = "auto",
    logger: LoggerName | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    **reading: Unpack[Reading],
) -> TrainResult:
    """Train one network on a folder of labelled images.

    The arguments are the options of `fullconv train` (docs/commands.md). fullconv chooses the value of an argument that
    is None from the data. It logs the choices, the plan, and one line for each validation.

    Args:
        data: Folder of labelled images, in any layout of docs/formats.md.
        out: Run folder to write. None: runs/<data>-<network>-<model>.
        model: Classifier: the name of a torchvision or timm model, or FILE.py:FUNCTION for a custom one.
        stride: Prediction stride in pixels.
        start: A trained network to start from: a run folder, a .safetensors file, or "street". Its network is taken,
            and its weights where they fit.
        weights: Weights of the classifier: a file, "pretrained", "imagenet" or "none". "pretrained" stands for the
            bundled weights of efficientnet_lite0 (trained on ImageNet) and mobilenet_v2 (then fine-tuned on photos of
            dog breeds), for the weights that the code of FILE.py loads, and otherwise for "imagenet".
        head_width: Channels of fc6 and fc7, which then start from random weights.
        upsample: Fixed or learned bilinear kernels, the indices of max pooling, or a plain resize. Networks with the
            last two have no model.onnx.
        padding: The minimum, or 100 pixels as in the published networks.
        dilate: Keep the backbone's maps at this stride; later layers are dilated.
        decoder: "paper" sums the scores of all strides; "refined" sums features, and refines each sum by a 3 x 3
            convolution.
        decoder_width: Channels of the refined decoder. None: 64.
        context: Add dilated convolutions to the refined decoder's coarsest map.
        late: "keep" the classifier's last 1 x 1 convolution, which only serves classification; "drop" it; "narrow":
            read the finer strides before such a convolution, too; "short": drop the last block as well. None: keep,
            or that of `start`.
        activation: "relu" replaces the classifier's ReLU6 by ReLU, which is faster on ONNX Runtime.
        recipe: Values of the training: defaults that suit most data, or those of the paper.
        epochs: Passes over the training images.
        batch: Crops per step.
        crop: Side of the training crops in pixels.
        lr: Learning rate of the pretrained layers.
        loss: Cross-entropy, or that of hard pixels only ("ohem"), or with "dice" or "lovasz" added.
        teacher: A trained model with the same classes in the same order, which the network imitates, too.
        unlabelled_images: Folder of images without masks, which only the teacher labels; a share of each batch.
        minutes: Time of the training with its validations and scoring, instead of epochs.
        patience: Validations without a better mIoU after which the training ends.
        values: Any other values of the recipe, by their names in recipe.yaml.
        folds: Cross-validate: divide train and val into this many folds, and train a network for each.
        devices: Devices of this machine, with one process for each; "auto" means all its GPUs. Batches are divided.
        nodes: Machines; torchrun or srun must start the script on each.
        accelerator: Kind of devices; "auto" means an NVIDIA GPU if there is one, else the CPU.
        precision: Numbers in which the training computes; "auto" means bfloat16 where the device is fast with it.
        logger: Log losses and scores with TensorBoard, Lightning's CSV files, MLflow or Weights & Biases, too.
        resume: Resume the run in the folder.
        on_progress: Called at the start, after each step and after each validation.
        reading: How to read the data, as `fullconv.data.reading.ReadingOptions`: `images` and `masks`, patterns of the
            files; `mask_nodata`; `unlabelled`; `val_share` and `val_by`; `strict`; `outside`.

    Returns:
        The run: `folder`, `scores`, `model` (the path of model.onnx or None) and `alarm`. With `folds`, `scores` are
        those of all images, each labelled by the network that was not trained on it, and `folds` are the runs.

    Raises:
        UsageError: An option has no such value, or `out` holds a run and `resume` is not set.
        DataError: The data set has faults; all of them are listed.
        ModelError: There is no such classifier, or it cannot become a skip network.
        Interrupted: SIGINT or SIGTERM stopped the training; everything is saved.
    """
    need_torch()
    from fullconv.data.statistics import read_training_data
    from fullconv.training.folds import cross_validate
    from fullconv.training.job import TrainingOptions, make_job, name_run_folder
    from fullconv.training.train import train as run

    options = TrainingOptions(
        model, stride, weights, head_width, upsample, padding, dilate, recipe, epochs, batch, crop, lr, values or {},
        decoder=decoder, decoder_width=decoder_width, context=context, late=late, activation=activation,
        devices=devices, nodes=nodes, accelerator=accelerator, precision=precision,
        minutes=minutes, patience=patience, logger=logger, start=start,
        loss=loss, teacher=teacher, unlabelled_images=unlabelled_images,
    )  # fmt: skip
    options.check()
    dataset, statistics = read_training_data(Path(data), ReadingOptions.of(reading))
    job = make_job(dataset, options, statistics)
    for choice in job.choices:
        logging.getLogger(__name__).info(str(choice))
    folder = name_run_folder(Path(data), job) if out is None else Path(out)
    if folds is not None:
        folder = folder if out is not None else folder.with_name(f"{folder.name}-{folds}-folds")
        return cross_validate(dataset, job, folder, folds, resume=resume, on_progress=on_progress)
    return run(dataset, job, folder, statistics=statistics, resume=resume, on_progress=on_progress)


def check(
    data: str | os.PathLike[str], *, on_sample: OnSample | None = None, **reading: Unpack[Reading]
) -> Examination:
    """Find all faults of a data set. Every image and mask is decoded once; nothing is written.

    Args:
        data: Folder of labelled images, in any layout of docs/formats.md.
        on_sample: Called after each sample with the number of samples that are done and the number of all samples.
        reading: As in `train`.

    Returns:
        The examination: `groups` of faults by kind, the counts `errors` and `warnings`, `classes` with their shares.

    Raises:
        DataError: The folder does not exist, or has no layout that fullconv knows.
        UsageError: An argument has no such value, or there is no such argument.
    """
    from fullconv.data.layouts import survey
    from fullconv.doctor.examine import examine

    surveyed = survey(Path(data), options=ReadingOptions.of(reading))
    return examine(surveyed, on_sample or (lambda done, total: None))

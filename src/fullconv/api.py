"""The Python interface: each function does the work of the command of its name. `fullconv` re-exports them all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from fullconv.choices import (
    Accelerator,
    ActivationName,
    Backend,
    DecoderName,
    Dilation,
    LateLayers,
    LoggerName,
    LossName,
    PaddingMode,
    RecipeName,
    ScoredSplit,
    Stride,
    TrainPrecision,
    UpsampleMode,
)
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.errors import UsageError
from fullconv.extras import need, need_torch
from fullconv.labels import check_classes
from fullconv.predict.model import Model, load_model

if TYPE_CHECKING:
    from torch import nn

    from fullconv.data.dataset import Sample
    from fullconv.doctor.examine import Examination
    from fullconv.images import ValueRange
    from fullconv.metrics import Scores
    from fullconv.net.fcn.network import FCN
    from fullconv.net.surgery.convolutionalize import Surgery
    from fullconv.onnx_export import Exported
    from fullconv.training.progress import OnProgress, TrainResult

__all__ = [
    "check",
    "convolutionalize",
    "evaluate",
    "export",
    "fcn4s",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "load",
    "train",
]

logger = logging.getLogger(__name__)

OnSample = Callable[[int, int], None]
"""Receives how many samples are done, and of how many."""


def load(
    model: str | os.PathLike[str],
    backend: Backend | None = None,
    *,
    code: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model that labels images.

    Args:
        model: A run folder, the result of `train`, a weights or .onnx file, or a bundled model by its name.
        backend: The program that computes the network: "onnx", "openvino" or "torch". None: torch for run folders and
            weights, ONNX Runtime for .onnx files.
        code: The FILE.py whose function builds the classifier, if the model was trained with FILE.py:FUNCTION and this
            file is no longer the same at the same place. Its code is run.

    Raises:
        ModelError: There is no such model, or `code` must name the code that builds it.
        UsageError: The backend cannot run this kind of model.
        MissingExtra: The backend is not installed.
    """
    return load_model(model, backend, code)


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
    decoder: DecoderName = "paper",
    decoder_width: int | None = None,
    context: bool = False,
    late: LateLayers = "keep",
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
        weights: Weights of the classifier: a file, "pretrained", "imagenet" or "none". "pretrained" stands for the
            bundled weights of efficientnet_lite0 (trained on ImageNet) and mobilenet_v2 (then fine-tuned on photos of
            dog breeds), for the weights that the code of FILE.py loads, and otherwise for "imagenet".
        head_width: Channels of fc6 and fc7, which then start from random weights.
        upsample: Fixed or learned bilinear kernels, the indices of max pooling, or a plain resize.
        padding: The minimum, or 100 pixels as in the published networks.
        dilate: Keep the backbone's maps at this stride; later layers are dilated.
        decoder: "paper" sums the scores of all strides; "refined" sums features, and refines each sum by a 3 x 3
            convolution.
        decoder_width: Channels of the refined decoder. None: 64.
        context: Add dilated convolutions to the refined decoder's coarsest map.
        late: "keep" the classifier's last 1 x 1 convolution, which only serves classification; "drop" it; "narrow":
            read the finer strides before such a convolution, too; "short": drop the last block as well.
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
        minutes=minutes, patience=patience, logger=logger,
        loss=loss, teacher=teacher, unlabelled_images=unlabelled_images,
    )  # fmt: skip
    options.check()
    dataset, statistics = read_training_data(Path(data), ReadingOptions(**reading))
    job = make_job(dataset, options, statistics)
    for choice in job.choices:
        logging.getLogger(__name__).info(str(choice))
    folder = name_run_folder(Path(data), job) if out is None else Path(out)
    if folds is not None:
        folder = folder if out is not None else folder.with_name(f"{folder.name}-{folds}-folds")
        return cross_validate(dataset, job, folder, folds, resume=resume, on_progress=on_progress)
    return run(dataset, job, folder, statistics=statistics, resume=resume, on_progress=on_progress)


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: ScoredSplit = "val",
    backend: Backend | None = None,
    value_range: ValueRange | None = None,
    code: str | os.PathLike[str] | None = None,
    tta: bool = False,
    on_sample: OnSample | None = None,
    **reading: Unpack[Reading],
) -> Scores:
    """Score a model on labelled images: pixel accuracy, mean accuracy, mIoU and frequency-weighted IU.

    Args:
        model: Any model that `load` accepts.
        data: Folder of labelled images, in any layout of docs/formats.md.
        split: The images to use; val736 exists only for VOC.
        backend: As in `load`.
        value_range: Numbers that become 0 and 255 in images of more than 8 bits, instead of the range of the model.
            Without it, images that do not fit the model's range are logged as a warning.
        code: As in `load`.
        tta: Label each image and its mirror image, and take the mean of the probabilities, in twice the time.
        on_sample: Called after each image with the number of images that are done and the number of all images.
        reading: As in `train`. Those of the training are used if the model is a run folder and none are given.

    Raises:
        ModelError: There is no such model, or it has other classes than the data.
        DataError: The data set has faults, or there is no such split.
        UsageError: `value_range` is not two numbers, the smaller one first.
    """
    from fullconv.data.layouts import find_dataset
    from fullconv.evaluation.evaluate import evaluate as score
    from fullconv.predict.ranges import check_range, find_common_misfit
    from fullconv.report.source import options_of_run
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.runner import RangedRunner, Runner
    from fullconv.runtime.tiles import FlippedRunner

    path = model_path(model)
    dataset = find_dataset(Path(data), ReadingOptions(**reading) if reading else options_of_run(path))
    samples = dataset.split(split)
    for note in dataset.notes:
        logger.info(f"{os.fspath(data)}: {note}")
    runner: Runner = load_runner(path, backend, code)
    check_classes(os.fspath(model), runner.info.labels, os.fspath(data), dataset.labels)
    if tta:
        runner = FlippedRunner(runner)
    if value_range is not None:
        runner = RangedRunner(runner, check_range(value_range))
    elif (misfit := find_common_misfit([sample.image for sample in samples], runner.info.input)) is not None:
        logger.warning(str(misfit))
    return score(runner, dataset.read_as(runner.info.input), _report_each(samples, on_sample))


def _report_each(samples: Sequence[Sample], on_sample: OnSample | None) -> Iterator[Sample]:
    """Yield the samples, and call `on_sample` when the next one is asked for."""
    for number, sample in enumerate(samples, 1):
        yield sample
        if on_sample is not None:
            on_sample(number, len(samples))


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
    """
    from fullconv.data.layouts import survey
    from fullconv.doctor.examine import examine

    surveyed = survey(Path(data), options=ReadingOptions(**reading))
    return examine(surveyed, on_sample or (lambda done, total: None))


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    int8: bool = False,
    data: str | os.PathLike[str] | None = None,
    force: bool = False,
    licence: str | None = None,
    code: str | os.PathLike[str] | None = None,
) -> Exported:
    """Write a network as one ONNX file that needs no torch.

    Before the file gets its name, its labels are compared with those of torch.

    Args:
        model: A run folder, the result of `train`, or a weights file.
        out: The .onnx file to write. None: model.onnx in the run folder, or the name of the weights file with .onnx.
        int8: Compute convolutions in eight bits, if that is faster and costs at most one percentage point of mIoU.
        data: Labelled images for `int8`: the training images calibrate it, the validation images give its mIoU.
        force: Write the int8 file even if it loses more or is slower.
        licence: Licence of the weights, for the metadata of the file.
        code: As in `load`.

    Raises:
        UsageError: `int8` without `data`, `force` without `int8`, or another suffix than .onnx.
        ModelError: The network has no ONNX form, fails the comparison, or loses too much in eight bits.
    """
    need_torch()
    if int8 != (data is not None):
        message = "int8 needs data to calibrate and measure it, and data is for int8 only; give both or neither"
        raise UsageError(message, code="int8-needs-data")
    if force and not int8:
        raise UsageError("force is for int8 only; leave it out, or ask for int8, too", code="force-without-int8")
    source = Path(model)
    target = Path(out) if out is not None else source / "model.onnx" if source.is_dir() else source.with_suffix(".onnx")
    if target.suffix != ".onnx":
        raise UsageError(f"{target}: name a file that ends in .onnx", code="not-onnx")
    need("train", "onnx")
    from fullconv.data.layouts import find_dataset
    from fullconv.onnx_export import export as write

    dataset = None if data is None else find_dataset(Path(data))
    return write(source, target, licence=licence, int8=dataset, force=force, code=code)


def convolutionalize(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> Surgery:
    """Turn a classifier for images of `size` into one for images of that size or larger.

    The classifier is not changed. The result's `module` returns a map of logits; `coerced` lists the layers that became
    convolutions; `fidelity` says how a cell compares with the classifier on its crop. See
    `fullconv.net.surgery.convolutionalize.convolutionalize`.

    Args:
        model: A classifier, such as torchvision.models.vgg16().
        size: Height and width of the images that the classifier takes.
        channels: Channels of these images.

    Raises:
        ModelError: The classifier has no dense form, for example because it has attention.
    """
    need_torch()
    from fullconv.net.surgery.convolutionalize import convolutionalize as dense_form

    return dense_form(model, size, channels)


def fcn32s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-32s on a classifier: one score layer, whose output is upsampled 32 times.

    Args:
        model: Name of a classifier, as in `train`.
        num_classes: The number of classes of a pixel.
        weights: Weights of the classifier: a file, "pretrained", "imagenet" or "none"; None is "none".

    Raises:
        ModelError: There is no such classifier, or it has no feature map at this stride.
    """
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn32s as build

    return build(model, num_classes, backbone_weights)


def fcn16s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-16s: FCN-32s with a skip at stride 16. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn16s as build

    return build(model, num_classes, backbone_weights)


def fcn8s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-8s: FCN-16s with a skip at stride 8. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn8s as build

    return build(model, num_classes, backbone_weights)


def fcn4s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-4s: FCN-8s with a skip at stride 4, beyond the paper. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn4s as build

    return build(model, num_classes, backbone_weights)


def _read_weights(weights: str | os.PathLike[str] | None) -> str | None:
    """Return the weights as the builders take them: None for "none". Raises MissingExtra if torch is missing."""
    need_torch()
    return None if weights is None or weights == "none" else os.fspath(weights)

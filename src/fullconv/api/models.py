"""Load, score and export models."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fullconv.choices import Backend, Device, ScoredSplit, WeightsType
from fullconv.data.reading import Reading
from fullconv.errors import UsageError
from fullconv.extras import need, need_torch
from fullconv.labels import check_classes
from fullconv.predict.model import Model, load_model
from fullconv.runtime.models import bundled_names

if TYPE_CHECKING:
    from fullconv.data.dataset import DataSet, Sample
    from fullconv.images import ValueRange
    from fullconv.metrics import Scores
    from fullconv.onnx_export import Exported

__all__ = ["OnSample", "evaluate", "export", "load"]

logger = logging.getLogger(__name__)

OnSample = Callable[[int, int], None]
"""Receives how many samples are done, and of how many."""


def load(
    model: str | os.PathLike[str],
    backend: Backend | None = None,
    *,
    device: Device = "auto",
    code: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model that labels images.

    Args:
        model: A run folder, the result of `train`, a weights or .onnx file, or a bundled model by its name.
        backend: The program that computes the network: "onnx", "openvino" or "torch". None: torch for run folders and
            weights, ONNX Runtime for .onnx files.
        device: "cpu"; "cuda", which ONNX Runtime has only as the package onnxruntime-gpu; or "auto": NVIDIA's GPU for
            torch if there is one, else the CPU.
        code: The FILE.py whose function builds the classifier, if the model was trained with FILE.py:FUNCTION and this
            file is no longer the same at the same place. Its code is run.

    Raises:
        ModelError: There is no such model, or `code` must name the code that builds it.
        UsageError: The backend cannot run this kind of model, there is no such device, or the model needs no `code`.
        MissingExtra: The backend is not installed.
    """
    return load_model(model, backend, code, device)


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: ScoredSplit = "val",
    backend: Backend | None = None,
    device: Device = "auto",
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
        split: The images to use; val736 exists only for VOC. On the data of a fold, val is that fold.
        backend: As in `load`.
        device: As in `load`.
        value_range: Numbers that become 0 and 255 in images of more than 8 bits, instead of the range of the model.
            Without it, images that do not fit the model's range are logged as a warning.
        code: As in `load`.
        tta: Label each image and its mirror image, and take the mean of the probabilities, in twice the time.
        on_sample: Called after each image with the number of images that are done and the number of all images.
        reading: As in `train`. If the model is a run folder, the others are those of its training.

    Raises:
        ModelError: There is no such model, or it has other classes than the data.
        DataError: The data set has faults, or there is no such split.
        UsageError: `value_range` is not two numbers, the smaller one first, or there is no such device.
    """
    from fullconv.evaluation.evaluate import evaluate as score
    from fullconv.predict.ranges import check_range, find_common_misfit
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.runner import RangedRunner, Runner
    from fullconv.runtime.tiles import FlippedRunner

    path = model_path(model)
    dataset = _read_as_trained(path, Path(data), reading)
    samples = dataset.split(split)
    runner: Runner = load_runner(path, backend, code, device=device)
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


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    int8: bool = False,
    data: str | os.PathLike[str] | None = None,
    force: bool = False,
    licence: str | None = None,
    weights_dtype: WeightsType = "float32",
    code: str | os.PathLike[str] | None = None,
) -> Exported:
    """Write a network as one ONNX file that needs no torch, after a comparison of its labels with torch's.

    Args:
        model: A run folder, the result of `train`, or a weights file.
        out: The .onnx file to write. None: model.onnx in the run folder, or the name of the weights file with .onnx;
            with `int8` or float16, that name ends with -int8 or -float16.
        int8: Compute convolutions in eight bits, if that is faster and costs at most one percentage point of mIoU.
        data: Labelled images for `int8`: the training images calibrate it, the validation images give its mIoU. For a
            run folder, they are read as those of the training.
        force: Write the int8 file even if it loses more or is slower.
        licence: Licence of the weights, for the metadata of the file.
        weights_dtype: "float16" halves the file. Computing stays in float32, but a few labels change.
        code: As in `load`.

    Raises:
        UsageError: `int8` without `data`, `force` without `int8`, another suffix than .onnx, or an exported model.
        ModelError: The network has no ONNX form, fails the comparison, or loses too much in eight bits.
    """
    _refuse_exported(model)
    need_torch()
    if int8 != (data is not None):
        message = "int8 needs data to calibrate and measure it, and data is for int8 only; give both or neither"
        raise UsageError(message, code="int8-needs-data")
    if int8 and weights_dtype != "float32":
        raise UsageError("int8 has weights of eight bits; leave weights_dtype out", code="int8-with-weights-type")
    if force and not int8:
        raise UsageError("force is for int8 only; leave it out, or ask for int8, too", code="force-without-int8")
    source = Path(model)
    target = Path(out) if out is not None else _default_target(source, "int8" if int8 else weights_dtype)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"{target}: name a file that ends in .onnx", code="not-onnx")
    need("train", "onnx")
    from fullconv.onnx_export import export as write

    dataset = None if data is None else _read_as_trained(source, Path(data), {})
    return write(source, target, licence=licence, int8=dataset, force=force, weights_dtype=weights_dtype, code=code)


def _refuse_exported(model: str | os.PathLike[str]) -> None:
    path = Path(model)
    if (path.suffix.lower() == ".onnx" and path.is_file()) or (not path.exists() and str(model) in bundled_names()):
        message = f"{path} is exported already; name the run folder, or give --profile or --web"
        raise UsageError(message, code="exported-already")


def _default_target(model: Path, numbers: str) -> Path:
    """Return the file to write. Other commands read model.onnx, so a less exact file gets another name."""
    end = ".onnx" if numbers == "float32" else f"-{numbers}.onnx"
    return model / f"model{end}" if model.is_dir() else model.with_name(f"{model.stem}{end}")


def _read_as_trained(model: Path, data: Path, given: Reading) -> DataSet:
    """Read a data set as `find_run_data` does, and log how it was read."""
    from fullconv.report.source import find_run_data

    dataset = find_run_data(model, data, given)
    for note in dataset.notes:
        logger.info(f"{data}: {note}")
    return dataset

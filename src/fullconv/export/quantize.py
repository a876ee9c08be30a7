"""Eight bits in place of 32: the convolutions of an exported file, calibrated and judged on the user's images."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import ModelError
from fullconv.run.evaluate import evaluate
from fullconv.run.load import load_runner
from fullconv.run.onnx import OnnxFile
from fullconv.run.runner import Runner

__all__ = ["CALIBRATION", "LOSS", "ROUNDS", "Quantized", "compare", "quantize"]

CALIBRATION = 32
"""Training images that the ranges of activations are taken from, evenly spread over the split."""

LOSS = 0.01
"""Mean IU that eight bits may cost."""

ROUNDS = 15
"""Times that each file labels one image, in turn with the other."""

_KINDS = frozenset({"Add", "Clip", "Conv", "MaxPool", "Relu"})

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Quantized:
    """Mean IU on the validation images and seconds for one of them, of both files, on the machine that made them."""

    float_mean_iou: float
    int8_mean_iou: float
    float_seconds: float
    int8_seconds: float

    @property
    def faults(self) -> list[str]:
        """What speaks against the file of eight bits."""
        found = []
        if self.float_mean_iou - self.int8_mean_iou > LOSS:
            found.append(
                f"it loses {100 * (self.float_mean_iou - self.int8_mean_iou):.1f} points of mean IU "
                f"({self.float_mean_iou:.4f} to {self.int8_mean_iou:.4f}), more than {100 * LOSS:.0f}"
            )
        if self.int8_seconds > self.float_seconds:
            found.append(f"it takes {self.int8_seconds / self.float_seconds:.2f} times as long here")
        return found


def quantize(source: Path, target: Path, dataset: DataSet, force: bool = False) -> Quantized:
    """Write the exported file `source` with its convolutional part in eight bits to `target`.

    Static quantization between QuantizeLinear and DequantizeLinear: activations unsigned with one scale each, weights
    signed with one for each output channel. Score layers, fusion, normalisation and label map stay as they are.
    ModelError, unless `force`, where `compare` finds it worse than it may be; `target` is then left to the caller.
    """
    samples = dataset.split("train")
    step = max(1, len(samples) // CALIBRATION)
    model = onnx.load(source)
    logging.getLogger().addFilter(_without_advice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(
                model,
                target,
                _Images(dataset, samples[::step][:CALIBRATION]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted(_KINDS),
                nodes_to_quantize=_convolutional(model),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.getLogger().removeFilter(_without_advice)
    found = compare(load_runner(source), load_runner(target), dataset)
    if found.faults and not force:
        raise ModelError(f"the int8 file is not worth it: {' and '.join(found.faults)}; --force writes it all the same")
    _describe(target, found)
    return found


def compare(exact: Runner, small: Runner, dataset: DataSet) -> Quantized:
    """Both files on the validation images: mean IU over all of them, seconds as the median over the first."""
    samples = dataset.split("val")
    scores = [evaluate(runner, (dataset.read(sample) for sample in samples)).mean_iou for runner in (exact, small)]
    image = dataset.read(samples[0])[0][None]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for runner, own in zip((exact, small), seconds, strict=True):
            start = time.perf_counter()
            runner.label_maps(image)
            own.append(time.perf_counter() - start)
    return Quantized(scores[0], scores[1], median(seconds[0]), median(seconds[1]))


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images one at a time, as the calibration asks for them."""

    def __init__(self, dataset: DataSet, samples: Sequence[Sample]) -> None:
        self._images: Iterator[dict[str, UInt8]] = ({"images": dataset.read(sample)[0][None]} for sample in samples)

    def get_next(self) -> dict[str, UInt8] | None:
        """The next feed, None at the end."""
        return next(self._images, None)


def _convolutional(model: onnx.ModelProto) -> list[str]:
    """Nodes of the network between the padded image and the score layers."""
    ends = {name for node in model.graph.node for name in node.output if name.startswith("score_")}
    nodes = (node for node in model.graph.node if node.op_type in _KINDS)
    ours = (node for node in nodes if not node.name.startswith(("before_", "after_")))
    return [node.name for node in ours if not set(node.output) & ends]


def _describe(path: Path, found: Quantized) -> None:
    """Add the measurements to the file's metadata."""
    about = OnnxFile.load(path).about
    about = replace(about, notes={**about.notes, "quantized": asdict(found)})
    model = onnx.load(path)
    del model.metadata_props[:]
    helper.set_model_props(model, about.to_metadata())
    onnx.save(model, path)


def _without_advice(record: Any) -> bool:
    """The quantizer advises to preprocess the graph first; the exported one has nothing left to fold."""
    return "pre-processing" not in record.getMessage()

"""Eight bits in place of 32: the convolutions of an exported file, calibrated and judged on the user's images."""

from __future__ import annotations

import itertools
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
from fullconv.metrics import Scores
from fullconv.run.evaluate import evaluate
from fullconv.run.load import load_runner
from fullconv.run.onnx import OnnxFile
from fullconv.run.runner import Runner

__all__ = ["CALIBRATION", "KEPT", "LOSS", "ROUNDS", "Quantized", "quantize"]

CALIBRATION = 32
"""Training images that the ranges of activations are taken from, evenly spread over the split."""

LOSS = 0.01
"""Mean IU that eight bits may cost."""

ROUNDS = 15
"""Times that each file labels one image, in turn with the other."""

KEPT = (0, 3, 6, 12)
"""How many of the first convolutions stay in float32, in turn, until the loss is small enough; at most a quarter.

Those of MobileNetV2's finest maps lose most: their depthwise kernels, batch norm folded in, differ widely in range.
"""

_KINDS = frozenset({"Add", "Clip", "Conv", "MaxPool", "Relu"})

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Quantized:
    """Mean IU on the validation images and seconds for one of them, of both files, on the machine that made them.

    `kept` is how many convolutions stayed in float32.
    """

    float_mean_iou: float
    int8_mean_iou: float
    float_seconds: float
    int8_seconds: float
    kept: int = 0

    @property
    def loss(self) -> float:
        """Mean IU that eight bits cost."""
        return self.float_mean_iou - self.int8_mean_iou

    @property
    def faults(self) -> list[str]:
        """What speaks against the file of eight bits."""
        found = []
        if self.loss > LOSS:
            found.append(
                f"it loses {100 * self.loss:.1f} points of mean IU "
                f"({self.float_mean_iou:.4f} to {self.int8_mean_iou:.4f}), more than {100 * LOSS:.0f}"
            )
        if self.int8_seconds > self.float_seconds:
            found.append(f"it takes {self.int8_seconds / self.float_seconds:.2f} times as long here")
        return found


def quantize(source: Path, target: Path, dataset: DataSet, force: bool = False) -> Quantized:
    """Write the exported file `source` with its convolutional part in eight bits to `target`.

    Static quantization between QuantizeLinear and DequantizeLinear: activations unsigned with one scale each, weights
    signed with one for each output channel. Score layers, fusion, normalisation and label map stay as they are, and as
    many of the first convolutions as `KEPT` says are needed. ModelError, unless `force`, where the file is worse than
    it may be; `target` is then left to the caller.
    """
    exact = load_runner(source)
    before = _scores(exact, dataset)
    most = len([node for node in onnx.load(source).graph.node if node.op_type == "Conv"])
    for kept in (kept for kept in KEPT if kept <= most // 4):
        _write(source, target, dataset, kept)
        small = load_runner(target)
        after = _scores(small, dataset)
        if before.mean_iou - after.mean_iou <= LOSS:
            break
    found = Quantized(before.mean_iou, after.mean_iou, *_seconds(exact, small, dataset), kept)
    if found.faults and not force:
        raise ModelError(f"the int8 file is not worth it: {' and '.join(found.faults)}; --force writes it all the same")
    own = {**after.to_dict(), "data": str(dataset.root), "split": "val"}
    own.pop("confusion")
    _describe(target, found, own)
    return found


def _write(source: Path, target: Path, dataset: DataSet, kept: int) -> None:
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
                nodes_to_quantize=_convolutional(model, kept),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.getLogger().removeFilter(_without_advice)


def _scores(runner: Runner, dataset: DataSet) -> Scores:
    return evaluate(runner, (dataset.read(sample) for sample in dataset.split("val")))


def _seconds(exact: Runner, small: Runner, dataset: DataSet) -> tuple[float, float]:
    """The median for the first validation image, by turns."""
    image = dataset.read(dataset.split("val")[0])[0][None]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for runner, own in zip((exact, small), seconds, strict=True):
            start = time.perf_counter()
            runner.label_maps(image)
            own.append(time.perf_counter() - start)
    return median(seconds[0]), median(seconds[1])


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images one at a time, as the calibration asks for them."""

    def __init__(self, dataset: DataSet, samples: Sequence[Sample]) -> None:
        self._images: Iterator[dict[str, UInt8]] = ({"images": dataset.read(sample)[0][None]} for sample in samples)

    def get_next(self) -> dict[str, UInt8] | None:
        """The next feed, None at the end."""
        return next(self._images, None)


def _convolutional(model: onnx.ModelProto, kept: int) -> list[str]:
    """Nodes of the network between the padded image and the score layers, from the convolution behind `kept` on."""
    ends = {name for node in model.graph.node for name in node.output if name.startswith("score_")}
    nodes = (node for node in model.graph.node if node.op_type in _KINDS)
    ours = [node for node in nodes if not node.name.startswith(("before_", "after_")) and not set(node.output) & ends]
    seen = itertools.accumulate(node.op_type == "Conv" for node in ours)
    return [node.name for node, convolutions in zip(ours, seen, strict=True) if convolutions > kept]


def _describe(path: Path, found: Quantized, scores: dict[str, Any]) -> None:
    """Put its own scores and the measurements into the file's metadata."""
    about = OnnxFile.load(path).about
    about = replace(about, notes={**about.notes, "scores": scores, "quantized": asdict(found)})
    model = onnx.load(path)
    del model.metadata_props[:]
    helper.set_model_props(model, about.to_metadata())
    onnx.save(model, path)


def _without_advice(record: Any) -> bool:
    """The quantizer advises to preprocess the graph first; the exported one has nothing left to fold."""
    return "pre-processing" not in record.getMessage()

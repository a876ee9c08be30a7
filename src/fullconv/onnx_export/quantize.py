"""Quantization of an exported file to eight bits, calibrated and evaluated on the user's images."""

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

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import ModelError
from fullconv.evaluation.evaluate import evaluate
from fullconv.geometry.spread import spread
from fullconv.images import open_image
from fullconv.metrics import Scores
from fullconv.onnx_graph.exported import read_exported, write_exported
from fullconv.predict.ranges import find_common_misfit
from fullconv.runtime.load import load_runner
from fullconv.runtime.runner import Runner

__all__ = ["CALIBRATION", "FLOAT_CONVOLUTIONS", "MAX_LOSS", "MAX_SIDE", "ROUNDS", "Quantized", "quantize"]

logger = logging.getLogger(__name__)

CALIBRATION = 32
"""The number of training images from which the ranges of activations are measured, spread evenly over the split."""

MAX_LOSS = 0.01
"""The mIoU that eight bits may cost: one percentage point."""

MAX_SIDE = 1024
"""The largest height and width in pixels of the part, at the centre of an image, that is used to calibrate and time.

Untiled networks take about 1.3 GB per megapixel.
"""

ROUNDS = 15
"""How often each of the two files labels one image, in turns."""

FLOAT_CONVOLUTIONS = (0, 3, 6, 12)
"""Numbers of first convolutions that stay in float32, tried in this order until the loss is small enough.

At most a quarter of all convolutions stay. In MobileNetV2 those of the finest maps lose most, because the ranges of
their depthwise kernels, with batch norm folded in, differ widely.
"""

_QUANTIZED_OPS = frozenset({"Add", "Clip", "Conv", "MaxPool", "Relu"})


@dataclass(frozen=True)
class Quantized:
    """The comparison of both files: mIoU on the validation images, and seconds per image on this machine.

    `kept` is the number of convolutions that stayed in float32.
    """

    float_mean_iou: float
    int8_mean_iou: float
    float_seconds: float
    int8_seconds: float
    kept: int = 0

    @property
    def loss(self) -> float:
        """The mIoU that eight bits cost."""
        return self.float_mean_iou - self.int8_mean_iou

    def problems(self, max_loss: float = MAX_LOSS) -> list[str]:
        """Return the reasons not to use the eight-bit file, one clause each."""
        reasons = []
        if self.loss > max_loss:
            reasons.append(
                f"it loses {100 * self.loss:.1f} percentage points of mIoU "
                f"({self.float_mean_iou:.4f} to {self.int8_mean_iou:.4f}), more than {100 * max_loss:.0f}"
            )
        if self.int8_seconds > self.float_seconds:
            reasons.append(f"it takes {self.int8_seconds / self.float_seconds:.2f} times as long on this machine")
        return reasons


def quantize(
    source: Path,
    target: Path,
    dataset: DataSet,
    force: bool = False,
    *,
    max_loss: float = MAX_LOSS,
    float_convolutions: Sequence[int] = FLOAT_CONVOLUTIONS,
) -> Quantized:
    """Write the exported file `source` to `target` with its convolutions in eight bits.

    This is static quantization with QuantizeLinear and DequantizeLinear nodes: activations are unsigned with one scale
    per tensor, weights are signed with one scale per output channel. Score layers, fusion, normalisation and label map
    stay in float32, and so do the first convolutions: the first number in `float_convolutions` for which the loss is at
    most `max_loss`.

    Raises ModelError if the result loses more than `max_loss` of mIoU, or is slower than `source`, unless `force` is
    set. `target` then exists and is left to the caller.
    """
    samples = [*dataset.split("train"), *dataset.split("val")]
    misfit = find_common_misfit([sample.image for sample in samples], dataset.input)
    if misfit is not None:
        logger.warning(f"{misfit.problem}, so the mIoU in eight bits may say little")
    exact = load_runner(source)
    before = _scores(exact, dataset)
    most = len([node for node in onnx.load(source).graph.node if node.op_type == "Conv"])
    for kept in (number for number in float_convolutions if number <= most // 4):
        _write(source, target, dataset, kept)
        small = load_runner(target)
        after = _scores(small, dataset)
        if before.mean_iou - after.mean_iou <= max_loss:
            break
    quantized = Quantized(before.mean_iou, after.mean_iou, *_measure_seconds(exact, small, dataset), kept)
    problems = quantized.problems(max_loss)
    if problems and not force:
        message = f"the int8 file was not written: {' and '.join(problems)}; use --force to write it anyway"
        raise ModelError(message, code="int8-not-worthwhile")
    scores = {**after.to_dict(), "data": str(dataset.root), "split": "val"}
    scores.pop("confusion")
    _describe(target, quantized, scores)
    return quantized


def _write(source: Path, target: Path, dataset: DataSet, kept: int) -> None:
    model = onnx.load(source)
    logging.getLogger().addFilter(_without_advice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(
                model,
                target,
                _CalibrationImages(dataset, spread(dataset.split("train"), CALIBRATION)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted(_QUANTIZED_OPS),
                nodes_to_quantize=_quantized_nodes(model, kept),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.getLogger().removeFilter(_without_advice)


def _scores(runner: Runner, dataset: DataSet) -> Scores:
    return evaluate(runner, dataset, dataset.split("val"))


def _measure_seconds(exact: Runner, small: Runner, dataset: DataSet) -> tuple[float, float]:
    """Return the median seconds of each runner for the centre of the first validation image; the runners take turns."""
    image = _read_centre(dataset, dataset.split("val")[0])
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for runner, times in zip((exact, small), seconds, strict=True):
            start = time.perf_counter()
            runner.label_maps(image)
            times.append(time.perf_counter() - start)
    return median(seconds[0]), median(seconds[1])


def _read_centre(dataset: DataSet, sample: Sample) -> UInt8:
    """Read at most `MAX_SIDE` x `MAX_SIDE` pixels at the centre of an image, 1 x h x w x C."""
    with open_image(sample.image, dataset.input) as image:
        sides = ((length, min(length, MAX_SIDE)) for length in image.size)
        rows, columns = (range((length - side) // 2, (length + side) // 2) for length, side in sides)
        return image.read(rows, columns)[0][None]


class _CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
    """The centres of the images for calibration, one at a time."""

    def __init__(self, dataset: DataSet, samples: Sequence[Sample]) -> None:
        self._images: Iterator[dict[str, UInt8]] = ({"images": _read_centre(dataset, sample)} for sample in samples)

    def get_next(self) -> dict[str, UInt8] | None:
        """Return the next input, or None at the end."""
        return next(self._images, None)


def _quantized_nodes(model: onnx.ModelProto, kept: int) -> list[str]:
    """Return the nodes between the padded image and the score layers, after the first `kept` convolutions."""
    ends = {name for node in model.graph.node for name in node.output if name.startswith("score_")}
    nodes = (node for node in model.graph.node if node.op_type in _QUANTIZED_OPS)
    candidates = [
        node for node in nodes if not node.name.startswith(("before_", "after_")) and not set(node.output) & ends
    ]
    counts = itertools.accumulate(node.op_type == "Conv" for node in candidates)
    return [node.name for node, convolutions in zip(candidates, counts, strict=True) if convolutions > kept]


def _describe(path: Path, quantized: Quantized, scores: dict[str, Any]) -> None:
    """Write the scores and measurements of the eight-bit file into its metadata."""
    model, metadata = read_exported(path)
    notes = {**metadata.notes, "scores": scores, "quantized": asdict(quantized)}
    write_exported(path, model, replace(metadata, notes=notes))


def _without_advice(record: Any) -> bool:
    """Filter the quantizer's advice to preprocess the graph first. An exported graph has nothing left to fold."""
    return "pre-processing" not in record.getMessage()

"""Export of a network to one ONNX file: assembled, compared with torch, then written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from fullconv.arrays import Float32, UInt8
from fullconv.choices import WeightsType
from fullconv.data.dataset import DataSet
from fullconv.errors import ModelError
from fullconv.files import StrPath, atomic_write
from fullconv.forks import native_call
from fullconv.geometry import bilinear_kernel
from fullconv.labels import check_classes
from fullconv.model_info import ModelInfo
from fullconv.net.checkpoint import Saved, load_net
from fullconv.net.classifiers.backbones import PRETRAINED, bundled_weights
from fullconv.net.fcn.network import FCN
from fullconv.net.fcn.upsample import Upsample
from fullconv.onnx_export.body import OPSET, export_body
from fullconv.onnx_export.decoder import read_refinement, read_score
from fullconv.onnx_export.quantize import Quantized, quantize
from fullconv.onnx_graph.build import Graph, PadTable, add_fusion, add_labels, add_padding, take_gain
from fullconv.onnx_graph.grids import Grid, describe_grid, find_grids
from fullconv.onnx_graph.half import store_halves
from fullconv.onnx_graph.refine import add_refinement
from fullconv.report.source import read_score_values
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx import OnnxFile

__all__ = [
    "SIZES",
    "TOLERANCE",
    "Exported",
    "assemble",
    "check_file",
    "compare_labels",
    "describe",
    "export",
    "tabulate_padding",
    "weights_origin",
]

SIZES = ((1, 1, 1), (2, 37, 53), (1, 97, 131), (1, 256, 320))
"""Batches on which a file is compared with torch: number of images, height, width."""

TOLERANCE = 1e-3
"""The largest allowed difference between logits of the file and of torch."""

RELATIVE = 1e-5
"""The same, as a fraction of the largest logit. The larger of the two limits applies."""


@dataclass(frozen=True)
class Exported:
    """An exported file.

    `difference` is the largest difference between its float32 logits and those of torch, over the batches in `SIZES`.
    `classes` is the number of classes among the compared labels: if it is 1, the comparison of labels proves little.
    `equal_labels` is the share of them that weights in float16 do not change; None if they are float32.
    """

    path: Path
    difference: float
    classes: int
    quantized: Quantized | None = None
    equal_labels: float | None = None


def export(
    model: Path,
    out: Path,
    *,
    licence: str | None = None,
    int8: DataSet | None = None,
    force: bool = False,
    weights_dtype: WeightsType = "float32",
    code: StrPath | None = None,
) -> Exported:
    """Export the network of a run folder or weights file to the ONNX file `out`.

    The file is written only if it passes `check_file`. With `int8`, the network is quantized to eight bits instead,
    calibrated and evaluated on that data set (see `quantize`). `licence` goes into the metadata. `weights_dtype` are
    the numbers in which a file of float32 stores its weights. `code` is as in `load_net`.

    Raises ModelError, and writes nothing, if the network cannot be exported, if it fails the check, or if eight bits
    lose too much and `force` is not set.
    """
    net, saved = load_net(model, code)
    metadata = describe(net, saved, _notes(model, saved, licence))
    if int8 is not None:
        check_classes(model, saved.labels, int8.root, int8.labels)
    with atomic_write(out) as temporary, TemporaryDirectory() as folder:
        plain = int8 is None and weights_dtype == "float32"
        checked = temporary if plain else Path(folder) / "float.onnx"
        onnx.save(assemble(net, metadata), checked)
        difference, classes = check_file(checked, net)
        quantized = equal_labels = None
        if int8 is not None:
            calibration = int8.read_as(metadata.info.input)
            quantized = quantize(checked, temporary, calibration, force)
        elif not plain:
            onnx.save(store_halves(onnx.load(checked)), temporary)
            equal_labels = compare_labels(checked, temporary)
    return Exported(out, difference, classes, quantized, equal_labels)


def describe(net: FCN, saved: Saved, notes: dict[str, Any]) -> ModelMetadata:
    """Describe the network for its file. ModelError for upsampling that is not a transposed convolution."""
    if net.spec.upsample not in ("fixed", "learned"):
        message = f"a network with --upsample {net.spec.upsample} cannot be exported; use fixed or learned"
        raise ModelError(message, code="upsampling-not-exportable")
    vertical, horizontal = net.geometry
    final = net.get_submodule(net.upscores[-1])
    kernel = _kernel(final, net.spec.num_classes) if net.spec.upsample == "learned" else None
    return ModelMetadata(
        ModelInfo(saved.labels, net.windows, net.exact, net.spec.input),
        net.spec.stride,
        (vertical.upsamplings[-1], horizontal.upsamplings[-1]),
        (vertical.lead, horizontal.lead),
        kernel,
        notes,
    )


def assemble(net: FCN, metadata: ModelMetadata) -> onnx.ModelProto:
    """Assemble the whole network: input `images`, N x H x W x C uint8; outputs `logits` and `label_map`.

    `logits` is N x K x h x w float32; where its cells lie is in the metadata (see `ModelMetadata`). `label_map` is
    N x H x W uint8. Batch size, height and width are free.
    """
    body = export_body(net)
    before, after = Graph("before_"), Graph("after_")
    color = (net.mean.flatten().tolist(), take_gain(body.graph, net.std.flatten().tolist()))
    lead = [g.lead for g in net.geometry]
    padded = add_padding(before, color, lead, [tabulate_padding(net, axis) for axis in (0, 1)])
    before.rename(padded, "padded")
    names = [output.name for output in body.graph.output]
    classes = net.spec.num_classes
    axes = [g.upsamplings[:-1] for g in net.geometry]
    decode = Graph("decode_")
    grids = find_grids(body.graph.node, body.graph.initializer, {"padded": Grid(metadata.info.input.channels)})
    if net.decoder is None:
        kernels = [_kernel(net.get_submodule(name), classes) for name in net.upscores[:-1]]
        fused = add_fusion(after, names, axes, kernels)
    else:
        refinements = [read_refinement(net.decoder, skip) for skip in net.skips]
        fused = add_refinement(decode, names, axes, refinements, read_score(net.score_fr), grids)
        grids = find_grids(decode.nodes, decode.constants.values(), grids)
    after.rename(add_labels(after, fused, metadata), "label_map")
    after.nodes.append(helper.make_node("Identity", [fused], ["logits"], name="logits"))
    constants = [
        *before.constants.values(),
        *body.graph.initializer,
        *decode.constants.values(),
        *after.constants.values(),
    ]
    graph = helper.make_graph(
        [*before.nodes, *body.graph.node, *decode.nodes, *after.nodes],
        "fullconv",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", metadata.info.input.channels])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes, "h", "w"]),
            helper.make_tensor_value_info("label_map", TensorProto.UINT8, ["N", "H", "W"]),
        ],
        constants,
        value_info=[describe_grid(name, grid) for name, grid in grids.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fullconv")
    model.ir_version = 10
    helper.set_model_props(model, metadata.to_metadata())
    onnx.checker.check_model(model)
    return model


def tabulate_padding(net: FCN, axis: int) -> PadTable:
    """Return the network's padding after the image along an axis, as a table.

    The table is compared with the network's geometry for four periods after its last irregular entry. Raises ModelError
    if the padding is not periodic in the size of the image.
    """
    period = net.windows[axis].period
    lead = net.geometry[axis].lead

    def pad_after(size: int) -> int:
        before, after = net.padding((size, size))[axis]
        assert before == lead
        return after

    most = sum(net.padding((1, 1))[axis]) + 1 + 6 * period
    values = [pad_after(1), *(pad_after(size) for size in range(1, most))]
    table = PadTable(values, period)
    if table.start + 4 * period >= most or any(table(size) != values[size] for size in range(1, most)):
        message = f"the padding of {net.spec.model} does not repeat every {period} pixels of image size"
        raise ModelError(f"{message}, so it cannot be exported", code="padding-not-periodic")
    return table


def check_file(path: Path, net: FCN) -> tuple[float, int]:
    """Compare a file with its network on batches of all `SIZES`.

    Returns the largest difference between logits, and the number of classes in the labels. Raises ModelError if a
    difference is above both `TOLERANCE` and `RELATIVE`, or if labels differ at pixels whose two largest logits do not
    tie.
    """
    file, random = OnnxFile.load(path), np.random.default_rng(0)
    runner = ExportedRunner(file.metadata, file.scores)
    largest, classes = 0.0, set[int]()
    for size in SIZES:
        images = _make_images(random, size, file.metadata.info.input.channels)
        with native_call(), torch.inference_mode():
            batch = torch.from_numpy(images).permute(0, 3, 1, 2)
            scores = net.score(net.encode(batch), size[1:])
            logits = net.upsample(scores, size[1:])
        bound = max(TOLERANCE, RELATIVE * float(scores.abs().max()))
        outputs = (("logits", file.scores(images), scores), ("full-size logits", runner.logits(images), logits))
        batch_name = f"{size[0]} images of {size[2]}x{size[1]} pixels"
        for name, actual, expected in outputs:
            same_shape = actual.shape == expected.shape
            difference = float(np.abs(actual - expected.numpy()).max()) if same_shape else np.inf
            if not difference <= bound:
                message = f"the exported file differs from torch: {name} of {batch_name} by {difference:.2g}"
                raise ModelError(message, code="exported-logits-differ")
            largest = max(largest, difference)
        for labels in (file.label_maps(images), runner.label_maps(images)):
            classes |= set(np.unique(labels).tolist())
            wrong = _count_wrong(labels, logits, bound)
            if wrong:
                message = f"the exported file differs from torch: {wrong} labels of {batch_name}"
                raise ModelError(message, code="exported-labels-differ")
    return largest, len(classes)


def compare_labels(first: Path, second: Path) -> float:
    """Return the share of equal labels of two files on batches of all `SIZES`."""
    files, random = [OnnxFile.load(path) for path in (first, second)], np.random.default_rng(0)
    runners = [ExportedRunner(file.metadata, file.scores) for file in files]
    equal = total = 0
    for size in SIZES:
        images = _make_images(random, size, files[0].metadata.info.input.channels)
        one, other = (runner.label_maps(images) for runner in runners)
        equal, total = equal + int(np.count_nonzero(one == other)), total + one.size
    return equal / total


def _make_images(random: np.random.Generator, size: tuple[int, int, int], channels: int) -> UInt8:
    """Return images of noisy squares in random colours. Networks label them with more classes than plain noise."""
    count, height, width = size
    coarse = random.integers(0, 192, (count, height // 24 + 1, width // 24 + 1, channels), np.uint8)
    squares = coarse.repeat(24, 1).repeat(24, 2)[:, :height, :width]
    noisy: UInt8 = squares + random.integers(0, 64, squares.shape, np.uint8)
    return noisy


def _count_wrong(labels: UInt8, logits: torch.Tensor, bound: float) -> int:
    """Count the pixels whose logit is more than `bound` below the largest; all pixels if the shapes differ."""
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        return labels.size
    best = logits.max(1).values
    labelled = logits.gather(1, torch.from_numpy(labels).long()[:, None])[:, 0]
    return int((best - labelled > bound).sum())


def _kernel(layer: torch.nn.Module, classes: int) -> Float32:
    """Return an upsampling layer's kernel for ConvTranspose: K x K x h x w if learned, K x 1 x h x w if fixed."""
    assert isinstance(layer, Upsample)
    if layer.mode == "learned":
        learned: Float32 = layer.weight.detach().numpy()
        return learned
    rows, columns = (np.array(bilinear_kernel(up)) for up in layer.axes)
    return np.repeat(np.outer(rows, columns)[None, None].astype(np.float32), classes, 0)


def _notes(model: Path, saved: Saved, licence: str | None) -> dict[str, Any]:
    """Collect recipe, scores and origin, as far as the run folder or the weights file has them."""
    settings = saved.notes.get("settings", {})
    scores: dict[str, Any] = dict(saved.notes.get("val", {}))
    if model.is_dir() and (model / "scores.json").is_file():
        scores = read_score_values(model / "scores.json")
        scores.pop("confusion", None)
    if scores:
        scores |= {"data": Path(str(settings.get("data", ""))).name or None, "split": "val"}
    weights = {
        "file": str(model),
        "from": weights_origin(saved, settings.get("weights")),
        "start": settings.get("start"),
    }
    weights |= {name: settings[name] for name in ("fullconv", "torch") if name in settings}
    weights |= {name: saved.notes[name] for name in ("imported", "net", "step") if name in saved.notes}
    return {
        "network": saved.spec.to_dict(),
        "recipe": settings.get("recipe"),
        "scores": scores or None,
        "weights": weights,
        "licence": licence,
    }


def weights_origin(saved: Saved, weights: str | None) -> str | None:
    """Return the weights that a run started from; for bundled weights the file name and its hash.

    The hash is needed because another version of fullconv may bundle other weights.
    """
    bundled = bundled_weights(saved.spec.model) if weights == PRETRAINED else None
    if bundled is None:
        return weights
    return f"{bundled.name} of fullconv, sha256 {hashlib.sha256(bundled.read_bytes()).hexdigest()}"

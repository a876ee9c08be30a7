"""One ONNX file of a network: put together, checked against torch, written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper

from fullconv.data.dataset import DataSet
from fullconv.errors import ModelError
from fullconv.files import atomic_write
from fullconv.geometry import bilinear_kernel
from fullconv.net.backbones import PRETRAINED, bundled_weights
from fullconv.net.checkpoint import Saved, load_net
from fullconv.net.fcn import FCN
from fullconv.net.upsample import Upsample
from fullconv.onnx_export.body import OPSET, exported_body
from fullconv.onnx_export.graph import Graph, PadTable, add_fusion, add_labels, add_padding
from fullconv.onnx_export.quantize import Quantized, quantize
from fullconv.run.about import About
from fullconv.run.exported import ExportedRunner
from fullconv.run.onnx import OnnxFile

__all__ = ["SIZES", "TOLERANCE", "Exported", "assemble", "check_file", "describe", "export", "pad_table"]

SIZES = ((1, 1, 1), (2, 37, 53), (1, 97, 131), (1, 256, 320))
"""Images, height and width of the batches on which a file is compared with torch."""

TOLERANCE = 1e-3
"""How far its logits may be from torch's."""

RELATIVE = 1e-5
"""The same as a share of the largest of them, where that allows more."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    `difference` is the largest from torch's of its logits in float32 over `SIZES`, `classes` how many classes the
    labels that were compared belong to: a network that sees one class in everything has not been tested as hard.
    """

    path: Path
    difference: float
    classes: int
    quantized: Quantized | None = None


def export(
    model: Path, out: Path, *, licence: str | None = None, int8: DataSet | None = None, force: bool = False
) -> Exported:
    """Write the network of a run folder or weights file to the ONNX file `out`, once it has passed `check_file`.

    With `int8`, `quantize` then calibrates and judges its form in eight bits on that data, and that is what is
    written. `licence` is for the metadata. ModelError, with nothing written, where the network has no ONNX form, fails
    the check, or loses too much in eight bits and `force` is not set.
    """
    net, saved = load_net(model)
    about = describe(net, saved, _notes(model, saved, licence))
    if int8 is not None and int8.labels.class_names != saved.labels.class_names:
        raise ModelError(f"{model} and {int8.root} have different classes; calibrate on data of the model's own")
    read = about.channels, about.value_range
    with atomic_write(out) as temporary, TemporaryDirectory() as folder:
        checked = temporary if int8 is None else Path(folder) / "float.onnx"
        onnx.save(assemble(net, about), checked)
        difference, classes = check_file(checked, net)
        found = None if int8 is None else quantize(checked, temporary, int8.read_as(*read), force)
    return Exported(out, difference, classes, found)


def describe(net: FCN, saved: Saved, notes: dict[str, Any]) -> About:
    """What the file says about the network. ModelError for upsampling that is no transposed convolution."""
    if net.spec.upsample not in ("fixed", "learned"):
        raise ModelError(
            f"a network with --upsample {net.spec.upsample} cannot be exported; one with fixed or learned can"
        )
    vertical, horizontal = net.geometry
    final = net.get_submodule(net.upscores[-1])
    kernel = _kernel(final, net.spec.num_classes) if net.spec.upsample == "learned" else None
    return About(
        saved.labels,
        net.windows,
        net.exact,
        net.spec.stride,
        (vertical.upsamplings[-1], horizontal.upsamplings[-1]),
        (vertical.lead, horizontal.lead),
        net.mean.numel(),
        kernel,
        notes,
        net.spec.value_range,
    )


def assemble(net: FCN, about: About) -> onnx.ModelProto:
    """The whole network: `images`, N x H x W x C uint8, to `logits` at the prediction stride and `label_map`.

    `logits` is N x K x h x w float32; where its cells lie is in the metadata (see `About`). `label_map` is
    N x H x W uint8. Batch, height and width are free.
    """
    body = exported_body(net)
    before, after = Graph("before_"), Graph("after_")
    color = (net.mean.flatten().tolist(), net.std.flatten().tolist())
    lead = [g.lead for g in net.geometry]
    padded = add_padding(before, color, lead, [pad_table(net, axis) for axis in (0, 1)])
    before.rename(padded, "padded")
    names = [output.name for output in body.graph.output]
    kernels = [_kernel(net.get_submodule(name), net.spec.num_classes) for name in net.upscores[:-1]]
    fused = add_fusion(after, names, [g.upsamplings[:-1] for g in net.geometry], kernels)
    after.rename(add_labels(after, fused, about), "label_map")
    after.nodes.append(helper.make_node("Identity", [fused], ["logits"], name="logits"))
    constants = [*before.constants.values(), *body.graph.initializer, *after.constants.values()]
    graph = helper.make_graph(
        [*before.nodes, *body.graph.node, *after.nodes],
        "fullconv",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", about.channels])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", about.labels.num_classes, "h", "w"]),
            helper.make_tensor_value_info("label_map", TensorProto.UINT8, ["N", "H", "W"]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fullconv")
    model.ir_version = 10
    helper.set_model_props(model, about.to_metadata())
    onnx.checker.check_model(model)
    return model


def pad_table(net: FCN, axis: int) -> PadTable:
    """The network's padding along an axis as a table, compared with it for four periods behind the last change."""
    period = net.windows[axis].period
    lead = net.geometry[axis].lead

    def behind(size: int) -> int:
        before, after = net.padding((size, size))[axis]
        assert before == lead
        return after

    most = sum(net.padding((1, 1))[axis]) + 1 + 6 * period
    values = [behind(1), *(behind(size) for size in range(1, most))]
    table = PadTable(values, period)
    if table.start + 4 * period >= most or any(table(size) != values[size] for size in range(1, most)):
        raise ModelError(f"the padding of {net.spec.model} repeats with no period of {period} pixels")
    return table


def check_file(path: Path, net: FCN) -> tuple[float, int]:
    """The largest difference of a file's logits from the network's on images of all `SIZES`, and the classes seen.

    ModelError where it is above both `TOLERANCE` and `RELATIVE`, or where labels differ at pixels whose two largest
    logits do not tie.
    """
    file, random = OnnxFile.load(path), np.random.default_rng(0)
    runner = ExportedRunner(file.about, file.scores)
    largest, classes = 0.0, set[int]()
    for size in SIZES:
        images = _blocks(random, size, file.about.channels)
        with torch.inference_mode():
            batch = torch.from_numpy(images).permute(0, 3, 1, 2)
            scores = net.scores(net.encode(batch), size[1:])
            logits = net.upsampled(scores, size[1:])
        bound = max(TOLERANCE, RELATIVE * float(scores.abs().max()))
        found = (("logits", file.scores(images), scores), ("full-size logits", runner.logits(images), logits))
        for name, ours, theirs in found:
            apart = float(np.abs(ours - theirs.numpy()).max()) if ours.shape == theirs.shape else np.inf
            if not apart <= bound:
                raise ModelError(f"the exported file fails its check: {name} of {_named(size)} are {apart:.2g} off")
            largest = max(largest, apart)
        for labels in (file.label_maps(images), runner.label_maps(images)):
            classes |= set(np.unique(labels).tolist())
            wrong = _wrong(labels, logits, bound)
            if wrong:
                raise ModelError(f"the exported file fails its check: {wrong} labels of {_named(size)} differ")
    return largest, len(classes)


def _blocks(random: np.random.Generator, size: tuple[int, int, int], channels: int) -> npt.NDArray[np.uint8]:
    """Noisy squares of random colours: networks call them by more names than they have for noise alone."""
    count, height, width = size
    coarse = random.integers(0, 192, (count, height // 24 + 1, width // 24 + 1, channels), np.uint8)
    squares = coarse.repeat(24, 1).repeat(24, 2)[:, :height, :width]
    noisy: npt.NDArray[np.uint8] = squares + random.integers(0, 64, squares.shape, np.uint8)
    return noisy


def _wrong(labels: npt.NDArray[np.uint8], logits: torch.Tensor, bound: float) -> int:
    """Pixels whose label is not that of the largest logit, ties aside; all of them where the shapes differ."""
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        return labels.size
    best = logits.max(1).values
    ours = logits.gather(1, torch.from_numpy(labels).long()[:, None])[:, 0]
    return int((best - ours > bound).sum())


def _named(size: tuple[int, int, int]) -> str:
    return f"{size[0]} x {size[1]}x{size[2]} pixels"


def _kernel(layer: torch.nn.Module, classes: int) -> npt.NDArray[np.float32]:
    """The kernel of an upsampling layer for ConvTranspose: K x K learned, K x 1 the fixed one for each class."""
    assert isinstance(layer, Upsample)
    if layer.mode == "learned":
        learned: npt.NDArray[np.float32] = layer.weight.detach().numpy()
        return learned
    rows, columns = (np.array(bilinear_kernel(up)) for up in layer.axes)
    return np.repeat(np.outer(rows, columns)[None, None].astype(np.float32), classes, 0)


def _notes(model: Path, saved: Saved, licence: str | None) -> dict[str, Any]:
    """Recipe, scores and origin, as far as the run folder or the weights file knows them."""
    settings = saved.notes.get("settings", {})
    scores: dict[str, Any] = dict(saved.notes.get("val", {}))
    if model.is_dir() and (model / "scores.json").is_file():
        scores = json.loads((model / "scores.json").read_text(encoding="utf-8"))
        scores.pop("confusion", None)
    if scores:
        scores |= {"data": settings.get("data"), "split": "val"}
    weights = {"file": str(model), "from": _origin(saved, settings.get("weights")), "start": settings.get("start")}
    weights |= {name: settings[name] for name in ("fullconv", "torch") if name in settings}
    weights |= {name: saved.notes[name] for name in ("imported", "net", "step") if name in saved.notes}
    return {
        "network": saved.spec.to_dict(),
        "recipe": settings.get("recipe"),
        "scores": scores or None,
        "weights": weights,
        "licence": licence,
    }


def _origin(saved: Saved, weights: str | None) -> str | None:
    """What a run's weights began with; of those that come along the file and its hash, since there may be others."""
    bundled = bundled_weights(saved.spec.model) if weights == PRETRAINED else None
    if bundled is None:
        return weights
    return f"{bundled.name} of fullconv, sha256 {hashlib.sha256(bundled.read_bytes()).hexdigest()}"

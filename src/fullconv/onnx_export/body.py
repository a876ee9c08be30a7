"""Export of a network's convolutions to an ONNX graph, from the padded image to one score map per tap."""

from __future__ import annotations

import copy
import io
import warnings

import onnx
import torch
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.net.fcn.network import FCN
from fullconv.net.fcn.score_layers import Scale

__all__ = ["OPSET", "Body", "export_body"]

OPSET = 18


class Body(nn.Module):
    """An FCN without arithmetic on sizes.

    It maps N x C x H x W floats, normalised and padded, to the score map of each tap; with the refined decoder, to the
    projection of each tap.
    """

    def __init__(self, net: FCN) -> None:
        """Take the layers of `net`; batch norms of taps are merged into copies of their score layers."""
        super().__init__()
        self.backbone, self.head, self.skips = net.backbone, net.head, len(net.skips)
        if net.decoder is not None:
            projections = [net.decoder.get_submodule(f"project_{name}") for name in ("fr", *net.skips)]
            projections[0] = nn.Sequential(projections[0], net.decoder.context)
            self.scores = nn.ModuleList(projections)
            return
        fine = (_merge_norm(net.get_submodule(f"norm_{s}"), net.get_submodule(f"score_{s}")) for s in net.skips)
        self.scores = nn.ModuleList([net.score_fr, *fine])

    def forward(self, padded: Tensor) -> tuple[Tensor, ...]:
        """Return the score maps, coarse to fine, each N x num_classes x h x w, or the projections."""
        maps = list(self.backbone(padded))
        coarsest = maps.pop(self.skips)
        return tuple(score(features) for score, features in zip(self.scores, [self.head(coarsest), *maps], strict=True))


def export_body(net: FCN) -> onnx.ModelProto:
    """Export the `Body` of a network in evaluation mode: input `padded`, outputs `score_0`, `score_1`, ...

    With the refined decoder, the outputs are `tap_0`, `tap_1`, ...

    It uses torch's tracing exporter, which takes two seconds for a MobileNetV2 with free height and width. The exporter
    based on torch.export needs over a minute for it. If tracing makes the graph depend on the size of its example,
    `check_file` notices.

    Raises ModelError if torch cannot export the network.
    """
    file = io.BytesIO()
    size = [n + sum(pads) for n, pads in zip((123, 157), net.padding((123, 157)), strict=True)]
    example = torch.zeros(2, net.mean.numel(), *size)
    kind = "score" if net.decoder is None else "tap"
    names = [f"{kind}_{index}" for index in range(1 + len(net.skips))]
    free = {name: {0: "n", 2: f"{name}_h", 3: f"{name}_w"} for name in ("padded", *names)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Body(net).eval(),
                (example,),
                file,  # type: ignore[arg-type]  # the tracing exporter takes a buffer, its stub does not say so
                input_names=["padded"],
                output_names=names,
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        message = f"torch cannot export {net.spec.model} to ONNX: {error}"
        raise ModelError(message, code="onnx-export-failed") from error
    return _remove_aliases(onnx.load_from_string(file.getvalue()))


def _remove_aliases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the Identity nodes through which the exporter shares equal constants; their users read the constant."""
    constants = {tensor.name for tensor in model.graph.initializer}
    aliases = [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in constants]
    names = {node.output[0]: node.input[0] for node in aliases}
    for node in aliases:
        model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    return model


def _merge_norm(norm: nn.Module, score: nn.Module) -> nn.Module:
    """Return one layer that equals a tap's batch norm or scale followed by its 1 x 1 score layer."""
    score = copy.deepcopy(score)
    assert isinstance(score, nn.Conv2d)
    assert score.bias is not None
    with torch.no_grad():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            score.bias.add_(score.weight[:, :, 0, 0] @ (norm.bias - norm.running_mean * gain))
            score.weight *= gain[:, None, None]
        elif isinstance(norm, Scale):
            score.weight *= norm.factor
    return score

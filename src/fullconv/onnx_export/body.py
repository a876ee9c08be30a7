"""The convolutions of a network as an ONNX graph: from the padded image to one score map for each tap."""

from __future__ import annotations

import copy
import io
import warnings

import onnx
import torch
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.net.fcn import FCN, Scale

__all__ = ["OPSET", "Body", "exported_body"]

OPSET = 18


class Body(nn.Module):
    """An FCN without arithmetic on sizes: N x C x H x W floats, normalised and padded, to the score map of each tap."""

    def __init__(self, net: FCN) -> None:
        super().__init__()
        self.backbone, self.head, self.skips = net.backbone, net.head, len(net.skips)
        fine = (_merged(net.get_submodule(f"norm_{s}"), net.get_submodule(f"score_{s}")) for s in net.skips)
        self.scores = nn.ModuleList([net.score_fr, *fine])

    def forward(self, padded: Tensor) -> tuple[Tensor, ...]:
        """Coarse to fine, N x num_classes x h x w each."""
        maps = list(self.backbone(padded))
        features = maps.pop(self.skips)
        return tuple(score(own) for score, own in zip(self.scores, [self.head(features), *maps], strict=True))


def exported_body(net: FCN) -> onnx.ModelProto:
    """The `Body` of a network in evaluation mode; input `padded`, outputs `score_0`, `score_1`, ...

    By the tracing exporter: the one by torch.export takes over a minute of symbolic arithmetic for a MobileNetV2
    whose height and width stay free, this one two seconds. What tracing would fix to one size, the check finds.
    """
    file = io.BytesIO()
    size = [n + sum(pads) for n, pads in zip((123, 157), net.padding((123, 157)), strict=True)]
    example = torch.zeros(2, net.mean.numel(), *size)
    names = [f"score_{index}" for index in range(1 + len(net.skips))]
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
        raise ModelError(f"{net.spec.model} cannot be written as ONNX: {error}") from error
    return _without_aliases(onnx.load_from_string(file.getvalue()))


def _without_aliases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Equal constants, which the exporter keeps once and hands on by Identity, read where they are."""
    constants = {tensor.name for tensor in model.graph.initializer}
    aliases = [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in constants]
    names = {node.output[0]: node.input[0] for node in aliases}
    for node in aliases:
        model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    return model


def _merged(norm: nn.Module, score: nn.Module) -> nn.Module:
    """A tap's batch norm or scale and its 1 x 1 score layer as one layer."""
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

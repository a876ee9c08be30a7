"""The weights of a refined decoder for its ONNX graph, with batch norm merged into the convolutions."""

from __future__ import annotations

import torch
from torch import nn

from fullconv.net.fcn import refined
from fullconv.net.fcn.refined import RefinedDecoder
from fullconv.onnx_graph.refine import ConvWeights, Refinement

__all__ = ["read_refinement", "read_score"]


def read_refinement(decoder: RefinedDecoder, skip: str) -> Refinement:
    """Return the two convolutions after the sum on a skip."""
    layers = decoder.get_submodule(f"refine_{skip}")
    assert isinstance(layers, refined.Refinement)
    return _merge_norm(*layers.depthwise), _merge_norm(*layers.pointwise)


def read_score(score: nn.Conv2d) -> ConvWeights:
    """Return the score layer."""
    assert score.bias is not None
    return ConvWeights(score.weight.detach().numpy(), score.bias.detach().numpy())


def _merge_norm(conv: nn.Module, norm: nn.Module) -> ConvWeights:
    """Return the convolution that equals this one followed by a batch norm in evaluation mode."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = (conv.weight * gain[:, None, None, None]).float().numpy()
        return ConvWeights(weight, (norm.bias - norm.running_mean * gain).float().numpy())

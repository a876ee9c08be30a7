"""The skip network of the paper on any classifier, and its builders fcn32s, fcn16s, fcn8s and fcn4s."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.errors import UsageError
from fullconv.geometry import SkipGeometry
from fullconv.net.backbones import classifier, input_size
from fullconv.net.dilate import dilate
from fullconv.net.head import head_of, head_width, through
from fullconv.net.skips import SKIP_NAMES, skip_nodes, taps_of
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import Surgery, convolutionalize
from fullconv.net.upsample import Upsample

__all__ = ["FCN", "build", "fcn4s", "fcn8s", "fcn16s", "fcn32s", "rebuild"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FCN(nn.Module):
    """A fully convolutional network with skips.

    Input: N x 3 x H x W, RGB, uint8 in 0..255 or floats in 0..1, H and W from 1 on.
    Output: logits, N x num_classes x H x W, in the type of `mean`: float32, under autocast too.

    The backbone is the dense classifier up to its last feature map; the head its hidden linear layers as
    convolutions (none in ResNet), padded to keep their input's size (one cell more for even kernels); one 1 x 1
    score layer on the head and one on each skip, all starting at zero; each score map is upsampled onto the next
    and added (the paper, section 4.2). Skips are the last map at each stride that all paths pass, or the paper's
    own for VGG16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dense: Surgery, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        nodes = dense.nodes
        names = skip_nodes(dense.module, nodes, dense.features, spec)
        self.head = head_of(dense, nodes, spec)
        features = nodes[dense.features]
        self.score_fr = _score(head_width(self.head, features), spec.num_classes)
        for stride, name in names.items():
            channels = nodes[name].shape[0]
            self.add_module(f"norm_{SKIP_NAMES[stride]}", nn.BatchNorm2d(channels) if spec.norm else nn.Identity())
            self.add_module(f"score_{SKIP_NAMES[stride]}", _score(channels, spec.num_classes))
        self.skips = tuple(SKIP_NAMES[stride] for stride in names)
        taps = [through(self.head, taps_of(features)), *(taps_of(nodes[name]) for name in names.values())]
        self.geometry = tuple(SkipGeometry(tuple(tap[axis] for tap in taps)) for axis in (0, 1))
        for name, *axes in zip(self.upscores, *(g.upsamplings for g in self.geometry), strict=True):
            self.add_module(name, Upsample(spec.num_classes, axes[0], axes[1], spec.upsample))
        self._strides = {node.target: node.taps[0].field.stride for node in nodes.values() if node.module and node.taps}
        self.backbone = _cut(dense.module, [*names.values(), dense.features])

    @property
    def upscores(self) -> tuple[str, ...]:
        """The upsampling layers by name, coarsest first: upscore2, upscore_pool4, upscore8 in FCN-8s."""
        onto_skips = ("upscore2", *(f"upscore_{skip}" for skip in self.skips))[: len(self.skips)]
        return (*onto_skips, f"upscore{self.spec.stride}")

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the size of the image."""
        return self.decode(self.encode(image), (image.shape[-2], image.shape[-1]))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The maps that the score layers read: the head's, then each skip's from coarse to fine."""
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        vertical, horizontal = (g.padding(n) for g, n in zip(self.geometry, image.shape[-2:], strict=True))
        padded = functional.pad((image - self.mean) / self.std, (*horizontal, *vertical))
        *skips, features = self.backbone(padded)
        return [self.head(features), *skips]

    def decode(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Score, upsample and fuse the maps of `encode` to logits at `size` (height, width)."""
        score = self.score_fr(maps[0]).to(self.mean.dtype)
        for index, (skip, fine) in enumerate(zip(self.skips, maps[1:], strict=True)):
            fine = self.get_submodule(f"score_{skip}")(self.get_submodule(f"norm_{skip}")(fine))
            score = self._fuse(index, score, fine.to(self.mean.dtype))
        final = self.get_submodule(self.upscores[-1])
        start = tuple(g.upsamplings[-1].crop + g.lead for g in self.geometry)
        logits: Tensor = final(score, size, start)
        return logits

    def _fuse(self, index: int, coarse: Tensor, fine: Tensor) -> Tensor:
        """The sum on the cells that both have; a negative crop cuts the finer map instead."""
        ups = [g.upsamplings[index] for g in self.geometry]
        cuts = [max(0, -up.crop) for up in ups]
        starts = [max(0, up.crop) for up in ups]
        size = [up.fused_size(n, m) for up, n, m in zip(ups, coarse.shape[2:], fine.shape[2:], strict=True)]
        upsampled: Tensor = self.get_submodule(self.upscores[index])(coarse, tuple(size), tuple(starts))
        return upsampled + fine[:, :, cuts[0] : cuts[0] + size[0], cuts[1] : cuts[1] + size[1]]

    def fine_modules(self, stride: int) -> list[str]:
        """The backbone's modules, by name, whose maps are finer than `stride`."""
        kept = dict(self.backbone.named_modules())
        return [name for name, own in self._strides.items() if own < stride and name in kept]

    def is_pretrained(self, name: str) -> bool:
        """Whether the parameter of that name comes from the classifier, so that it wants the lower learning rate."""
        return name.startswith("backbone.") or (name.startswith("head.") and not self.spec.head_norm)


def build(spec: NetSpec, weights: str | Path | None = None) -> FCN:
    """The network of `spec` on its classifier with `weights` (see `backbones.classifier`).

    Where the weights lack the classifier's hidden layers, or `head_width` changes them, the head starts from
    scratch and gets batch norm if `spec.norm`; the built network's own `spec` says so.
    """
    if spec.stride not in (32, 16, 8, 4):
        raise UsageError(f"stride {spec.stride}: a prediction stride is 32, 16, 8 or 4")
    model, missing = classifier(spec.model, weights)
    dense = dilate(convolutionalize(model, input_size(spec.model)), spec.dilate)
    hidden = [f"{name}.weight" for name in dense.linears[:-1]]
    fresh = bool(hidden) and (spec.head_width is not None or any(name in missing for name in hidden))
    return FCN(dense, replace(spec, head_norm=spec.norm and fresh))


def rebuild(spec: NetSpec) -> FCN:
    """The network that `spec` describes to the letter, for weights that are loaded next."""
    model, _ = classifier(spec.model)
    return FCN(dilate(convolutionalize(model, input_size(spec.model)), spec.dilate), spec)


def fcn32s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """The coarse network: one score layer, upsampled 32 times."""
    return build(NetSpec(model, num_classes, stride=32), weights)


def fcn16s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """FCN-32s and a skip at stride 16."""
    return build(NetSpec(model, num_classes, stride=16), weights)


def fcn8s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """FCN-16s and a skip at stride 8."""
    return build(NetSpec(model, num_classes, stride=8), weights)


def fcn4s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """FCN-8s and a skip at stride 4, beyond the paper."""
    return build(NetSpec(model, num_classes, stride=4), weights)


def _score(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _cut(graph: fx.GraphModule, names: list[str]) -> fx.GraphModule:
    """The graph with these nodes as its outputs and nothing behind them."""
    by_name = {node.name: node for node in graph.graph.nodes}
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    output.args = (tuple(by_name[name] for name in names),)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph

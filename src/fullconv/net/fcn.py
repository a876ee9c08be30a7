"""The skip network of the paper on any classifier, and its builders fcn32s, fcn16s, fcn8s and fcn4s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import lcm
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.errors import UsageError
from fullconv.geometry import Upsampling
from fullconv.net.backbones import classifier, input_size, mean_std
from fullconv.net.caffe import caffe_mean_std
from fullconv.net.dilate import dilate
from fullconv.net.head import head_of, head_width, through
from fullconv.net.padding import reference_padding
from fullconv.net.skips import SKIP_NAMES, skip_nodes, taps_of
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import Surgery, convolutionalize
from fullconv.net.trace import Node, Taps
from fullconv.net.unpooling import Pool, keep_indices, poolings, skip_geometry
from fullconv.net.upsample import Unpool, Upsample
from fullconv.net.widen import CHANNEL_MEAN_STD, widened
from fullconv.tiling import Window

__all__ = ["FCN", "Scale", "build", "fcn4s", "fcn8s", "fcn16s", "fcn32s", "rebuild"]

AT_ONCE_SCALES = {16: 1e-2, 8: 1e-4, 4: 1e-4}
"""What the published FCN-8s-at-once multiplies pool4 and pool3 by (pool2 is beyond it)."""


class FCN(nn.Module):
    """A fully convolutional network with skips.

    Input: N x C x H x W, RGB where `spec.channels` is 3, uint8 in 0..255 or floats in 0..1, H and W from 1 on.
    Output: logits, N x num_classes x H x W, in the type of `mean`: float32, under autocast too.

    The backbone is the dense classifier up to its last feature map; the head its hidden linear layers as
    convolutions (none in ResNet), padded to keep their input's size (one cell more for even kernels), or not at
    all where `spec.padding` is the reference's; one 1 x 1 score layer on the head and one on each skip, all
    starting at zero; each score map is upsampled onto the next and added (the paper, section 4.2). Skips are the
    last map at each stride that all paths pass, or the paper's own for VGG16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dense: Surgery, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.padding == "reference":
            dense = reference_padding(dense, spec.model)
        norms = mean_std(spec.model)
        if spec.channels != 3:
            dense = widened(dense, spec.channels)
            norms = (CHANNEL_MEAN_STD[0],) * spec.channels, (CHANNEL_MEAN_STD[1],) * spec.channels
        for name, values in zip(("mean", "std"), norms, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))
        nodes = dense.nodes
        names = skip_nodes(dense.module, nodes, dense.features, spec)
        self.head = head_of(dense, nodes, spec)
        features = nodes[dense.features]
        self.score_fr = _score(head_width(self.head, dense), spec.num_classes)
        for stride, name in names.items():
            channels = nodes[name].shape[0]
            self.add_module(f"norm_{SKIP_NAMES[stride]}", _conditioning(stride, channels, spec))
            self.add_module(f"score_{SKIP_NAMES[stride]}", _score(channels, spec.num_classes))
        self.skips = tuple(SKIP_NAMES[stride] for stride in names)
        taps = [through(self.head, taps_of(features)), *(taps_of(nodes[name]) for name in names.values())]
        pools = poolings(dense, taps) if spec.upsample == "unpool" else ((),) * len(taps)
        self.geometry = tuple(skip_geometry(taps, pools, axis) for axis in (0, 1))
        for name, *axes in zip(self.upscores, *(g.upsamplings for g in self.geometry), strict=True):
            self.add_module(name, Upsample(spec.num_classes, axes[0], axes[1], spec.upsample))
        self.unpools = nn.ModuleList(
            _unpools(spec.num_classes, *parts)
            for parts in zip(pools, *(g.alignments for g in self.geometry), strict=True)
        )
        self._multiple, self._size = dense.multiple, dense.size
        self.context = dense.context
        self.exact = not dense.context and spec.upsample != "resize"
        self._strides = {name: taps[0].field.stride for name, taps in _owners(nodes)}
        self.backbone = _cut(dense.module, [*names.values(), dense.features], [pool for own in pools for pool in own])

    @property
    def upscores(self) -> tuple[str, ...]:
        """The upsampling layers by name, coarsest first: upscore2, upscore_pool4, upscore8 in FCN-8s."""
        onto_skips = ("upscore2", *(f"upscore_{skip}" for skip in self.skips))[: len(self.skips)]
        return (*onto_skips, f"upscore{self.spec.stride}")

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and columns of the image a pixel's logits depend on, alone if the network is `exact`."""
        alone = (Window.of(g.field) for g in self.geometry)
        vertical, horizontal = (replace(window, period=lcm(window.period, self._multiple)) for window in alone)
        return vertical, horizontal

    def normalise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Shift and scale each channel, 0..1, by these from now on."""
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values).view_as(buffer))

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the size of the image."""
        return self.decode(self.encode(image), (image.shape[-2], image.shape[-1]))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The maps that the score layers read: the head's, then each skip's from coarse to fine.

        With `unpool`, the indices of the poolings that are undone follow, from coarse to fine.
        """
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        vertical, horizontal = self.padding((image.shape[-2], image.shape[-1]))
        padded = functional.pad((image - self.mean) / self.std, (*horizontal, *vertical))
        maps = list(self.backbone(padded))
        features = maps.pop(len(self.skips))
        return [self.head(features), *maps]

    def decode(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Score, upsample and fuse the maps of `encode` to logits at `size` (height, width)."""
        return self.upsampled(self.scores(maps, size), size)

    def scores(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The maps of `encode` for an image of `size` scored and fused: N x num_classes x h x w.

        They are at the prediction stride; with `unpool`, at that of the finest pooling's input.
        """
        score: Tensor = self.score_fr(maps[0]).to(self.mean.dtype)
        places = maps[1 + len(self.skips) :]
        for index, skip in enumerate(self.skips):
            fine = self.get_submodule(f"score_{skip}")(self.get_submodule(f"norm_{skip}")(maps[1 + index]))
            score = self._unpooled(index, score, places, size)
            score = self._fuse(index, score, fine.to(self.mean.dtype))
        return self._unpooled(len(self.skips), score, places, size)

    def upsampled(self, score: Tensor, size: tuple[int, int], rows: range | None = None) -> Tensor:
        """Logits at `size` (height, width) from `scores`; with `rows`, those rows of them, and no others are made."""
        rows = rows or range(size[0])
        crop = 0 if self.spec.upsample == "resize" else 1
        top, left = (g.upsamplings[-1].crop * crop + g.lead for g in self.geometry)
        whole = tuple(n + sum(pads) for n, pads in zip(size, self.padding(size), strict=True))
        final = self.get_submodule(self.upscores[-1])
        logits: Tensor = final(score, (len(rows), size[1]), (top + rows.start, left), whole)
        return logits

    def padding(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels (before, after) that an image of `size` is padded by, vertically and horizontally."""
        vertical, horizontal = (g.padding(n) for g, n in zip(self.geometry, size, strict=True))
        if self._multiple > 1:
            vertical, horizontal = (
                (before, after + (own - n - before - after) % self._multiple)
                for own, n, (before, after) in zip(self._size, size, (vertical, horizontal), strict=True)
            )
        return vertical, horizontal

    def _unpooled(self, index: int, score: Tensor, places: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The score map of one tap behind its unpoolings, if it has any; takes their indices out of `places`."""
        padded = [n + sum(pads) for n, pads in zip(size, self.padding(size), strict=True)]
        for number, unpool in enumerate(self.unpools[index].children()):
            fine = [g.unpoolings[index][number].fine.size(n) for g, n in zip(self.geometry, padded, strict=True)]
            score = unpool(score, places.pop(0), (fine[0], fine[1]))
        return score

    def _fuse(self, index: int, coarse: Tensor, fine: Tensor) -> Tensor:
        """The sum on the cells that both have; a negative crop cuts the finer map instead."""
        ups = [g.upsamplings[index] for g in self.geometry]
        cuts = [max(0, -up.crop) for up in ups]
        starts = [max(0, up.crop) for up in ups]
        if self.spec.upsample == "resize":
            stretched: Tensor = self.get_submodule(self.upscores[index])(coarse, tuple(fine.shape[2:]))
            return stretched + fine
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
    published = str(weights).endswith(".caffemodel")
    if published and spec.channels != 3:
        raise UsageError(f"{weights}: Caffe's weights take RGB in its own units, not {spec.channels} channels")
    model, missing = classifier(spec.model, weights)
    dense = dilate(convolutionalize(model, input_size(spec.model)), spec.dilate)
    hidden = [f"{name}.weight" for name in dense.linears[:-1]]
    fresh = bool(hidden) and (spec.head_width is not None or any(name in missing for name in hidden))
    net = FCN(dense, replace(spec, head_norm=spec.norm and fresh))
    if published:
        net.mean, net.std = caffe_mean_std()
    return net


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


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """The map times the factor."""
        return features * self.factor

    def extra_repr(self) -> str:
        """The factor, for `print(net)`."""
        return str(self.factor)


def _conditioning(stride: int, channels: int, spec: NetSpec) -> nn.Module:
    """What a tap goes through before its score layer."""
    if spec.norm:
        return nn.BatchNorm2d(channels)
    return Scale(AT_ONCE_SCALES[stride]) if spec.at_once else nn.Identity()


def _owners(nodes: dict[str, Node]) -> Iterator[tuple[str, Taps]]:
    """The backbone's modules by name, those whose parameters a function uses too, with the geometry of their maps."""
    for node in nodes.values():
        if node.seen.taps and node.module:
            yield node.target, node.seen.taps
        elif node.seen.taps:
            yield from ((owner, node.seen.taps) for name in node.owned if (owner := name.rpartition(".")[0]))


def _score(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _unpools(
    classes: int, pools: Sequence[Pool], vertical: Sequence[Upsampling], horizontal: Sequence[Upsampling]
) -> nn.ModuleList:
    ways = zip(pools, zip(vertical, horizontal, strict=True), strict=True)
    return nn.ModuleList(Unpool(classes, pool.channels, pool.module, axes) for pool, axes in ways)


def _cut(graph: fx.GraphModule, names: list[str], pools: list[Pool]) -> fx.GraphModule:
    """The graph with these nodes, and the indices of these poolings, as its outputs and nothing behind them."""
    nodes = {node.name: node for node in graph.graph.nodes}
    kept = keep_indices(graph, pools)
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    maps = [kept[name][0] if name in kept else nodes[name] for name in names]
    output.args = ((*maps, *(kept[pool.node][1] for pool in pools)),)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph

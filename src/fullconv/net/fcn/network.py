"""The paper's skip network on any classifier, and its builders fcn32s, fcn16s, fcn8s, fcn4s and fcn2s."""

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
from fullconv.geometry.tiles import Window
from fullconv.net.classifiers.backbones import build_classifier, input_size, mean_std
from fullconv.net.classifiers.caffe import caffe_mean_std
from fullconv.net.classifiers.user_file import hash_code
from fullconv.net.fcn.head import build_head, count_channels, propagate_through
from fullconv.net.fcn.late import drop_late_layers, find_narrow
from fullconv.net.fcn.refined import REFINEMENT, RefinedDecoder, widest_context
from fullconv.net.fcn.score_layers import make_norm, make_score_layer
from fullconv.net.fcn.skips import SKIP_NAMES, find_skips
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.fcn.unpooling import Pool, find_poolings, make_skip_geometry, return_indices
from fullconv.net.fcn.upsample import Unpool, Upsample
from fullconv.net.surgery.activations import unclip
from fullconv.net.surgery.convolutionalize import Surgery, convolutionalize
from fullconv.net.surgery.dilate import dilate
from fullconv.net.surgery.input_channels import CHANNEL_MEAN_STD, adapt_input_channels
from fullconv.net.surgery.reference_padding import apply_reference_padding
from fullconv.net.trace.nodes import Node, geometry_of
from fullconv.net.trace.values import FeatureGeometry

__all__ = ["FCN", "build", "fcn2s", "fcn4s", "fcn8s", "fcn16s", "fcn32s", "rebuild"]


class FCN(nn.Module):
    """A fully convolutional network with skips (the paper, section 4.2).

    Input: N x C x H x W, RGB where `spec.channels` is 3, uint8 in 0..255 or floats in 0..1, H and W at least 1.
    Output: logits, N x num_classes x H x W, in the dtype of `mean`: float32, under autocast, too.

    The backbone is the dense classifier up to its last feature map. The head is its hidden linear layers as
    convolutions (none in ResNet), padded so that the map keeps its size (one cell more for even kernels), or without
    padding where `spec.padding` is the reference's. One 1 x 1 score layer reads the head and one reads each skip; all
    start at zero. Each score map is upsampled onto the next one and added. Skips are the last maps at each stride on
    all paths, or the paper's own for VGG16. The refined decoder upsamples and adds features instead of scores, and one
    score layer reads the last sum.

    `exact` is true if a pixel's logits depend on the pixels in `windows` only. `context` names the operations at which
    values of the whole image enter.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dense: Surgery, spec: NetSpec) -> None:
        """Build the network of `spec` on a dense classifier, whose modules it takes over."""
        super().__init__()
        self.spec = spec
        if spec.padding == "reference":
            dense = apply_reference_padding(dense, spec.model)
        norms = mean_std(spec.model)
        if spec.channels != 3:
            dense = adapt_input_channels(dense, spec.channels)
            norms = (CHANNEL_MEAN_STD[0],) * spec.channels, (CHANNEL_MEAN_STD[1],) * spec.channels
        for name, values in zip(("mean", "std"), norms, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))
        dense = dense if spec.late == "keep" else drop_late_layers(dense, spec.model, spec.late)
        nodes = dense.nodes
        skips = find_skips(dense.module, nodes, dense.features, spec)
        if spec.late in ("narrow", "short"):
            skips = {stride: find_narrow(dense.module, nodes, node) for stride, node in skips.items()}
        self.skips = tuple(SKIP_NAMES[stride] for stride in skips)
        self.head = build_head(dense, nodes, spec) if spec.late == "keep" else nn.Sequential()
        self._add_decoder({stride: nodes[node].shape[0] for stride, node in skips.items()}, dense)
        head_geometry = propagate_through(self.head, geometry_of(nodes[dense.features]))
        if spec.context:
            head_geometry = head_geometry.after((widest_context(),) * 2)
        maps = [head_geometry, *(geometry_of(nodes[node]) for node in skips.values())]
        pools = find_poolings(dense, maps) if spec.upsample == "unpool" else ((),) * len(maps)
        refinement = None if self.decoder is None else REFINEMENT
        self.geometry = tuple(make_skip_geometry(maps, pools, axis, refinement) for axis in (0, 1))
        for name, *axes in zip(self.upscores, *(g.upsamplings for g in self.geometry), strict=True):
            inner = self.decoder is not None and name != self.upscores[-1]
            channels = spec.decoder_width if inner else spec.num_classes
            self.add_module(name, Upsample(channels, axes[0], axes[1], spec.upsample, repeat_border=inner))
        self.unpools = nn.ModuleList(
            _make_unpools(spec.num_classes, *parts)
            for parts in zip(pools, *(g.alignments for g in self.geometry), strict=True)
        )
        self._multiple, self._size = dense.multiple, dense.size
        self.context = dense.context
        self.exact = not dense.context and spec.upsample != "resize"
        self._strides = {name: geometry.vertical.field.stride for name, geometry in _owners(nodes)}
        self.backbone = _cut(dense.module, [*skips.values(), dense.features], [pool for part in pools for pool in part])
        if spec.activation == "relu":
            unclip(self, spec.model)

    def _add_decoder(self, channels: dict[int, int], dense: Surgery) -> None:
        """Add the layers that read the taps; `channels` are those of the skips by stride, coarse to fine."""
        spec = self.spec
        features = dense.nodes[dense.features].shape[0]
        coarsest = count_channels(self.head, dense) if spec.late == "keep" else features
        self.decoder: RefinedDecoder | None = None
        if spec.decoder == "refined":
            taps = {"fr": coarsest, **{SKIP_NAMES[stride]: count for stride, count in channels.items()}}
            self.decoder = RefinedDecoder(taps, spec.decoder_width, spec.context)
            self.score_fr = make_score_layer(spec.decoder_width, spec.num_classes)
            return
        self.score_fr = make_score_layer(coarsest, spec.num_classes)
        for stride, count in channels.items():
            self.add_module(f"norm_{SKIP_NAMES[stride]}", make_norm(stride, count, spec))
            self.add_module(f"score_{SKIP_NAMES[stride]}", make_score_layer(count, spec.num_classes))

    @property
    def upscores(self) -> tuple[str, ...]:
        """The names of the upsampling layers, coarsest first: upscore2, upscore_pool4, upscore8 in FCN-8s.

        The last one of FCN-2s is upscore_pool1, because upscore2 is the name of the first.
        """
        onto_skips = ("upscore2", *(f"upscore_{skip}" for skip in self.skips))[: len(self.skips)]
        return (*onto_skips, "upscore_pool1" if self.spec.stride == 2 else f"upscore{self.spec.stride}")

    @property
    def windows(self) -> tuple[Window, Window]:
        """The rows and the columns of the image that a pixel's logits depend on; all of them if `exact`."""
        windows = (Window.of(g.field) for g in self.geometry)
        vertical, horizontal = (replace(window, period=lcm(window.period, self._multiple)) for window in windows)
        return vertical, horizontal

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the mean and std of each image channel, 0..1."""
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values).view_as(buffer))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits at the size of the image."""
        return self.decode(self.encode(image), (image.shape[-2], image.shape[-1]))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the maps that the score layers read: the head's, then those of the skips from coarse to fine.

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
        """Return logits at `size` (height, width): the maps of `encode` scored, upsampled and fused."""
        return self.upsample(self.score(maps, size), size)

    def score(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Score and fuse the maps of `encode` for an image of `size`: N x num_classes x h x w.

        The result is at the prediction stride; with `unpool`, at that of the finest pooling's input.
        """
        if self.decoder is not None:
            fused: Tensor = self.score_fr(self.fuse(maps)[-1])
            return fused.to(self.mean.dtype)
        score: Tensor = self.score_fr(maps[0]).to(self.mean.dtype)
        indices = maps[1 + len(self.skips) :]
        for index, skip in enumerate(self.skips):
            fine = self.get_submodule(f"score_{skip}")(self.get_submodule(f"norm_{skip}")(maps[1 + index]))
            score = self._unpool(index, score, indices, size)
            score = self._fuse(index, score, fine.to(self.mean.dtype))
        return self._unpool(len(self.skips), score, indices, size)

    def score_all(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return the scores of deep supervision on the coarser sums, coarse to fine, then the result of `score`."""
        if self.decoder is None or not self.decoder.auxiliary:
            return [self.score(maps, size)]
        fused = self.fuse(maps)
        layers = [*self.decoder.auxiliary, self.score_fr]
        return [layer(features).to(self.mean.dtype) for layer, features in zip(layers, fused, strict=True)]

    def fuse(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the features of the refined decoder on each tap, coarse to fine: N x decoder_width x h x w each."""
        assert self.decoder is not None
        fused = [self.decoder.project("fr", maps[0])]
        for index, skip in enumerate(self.skips):
            fine = self.decoder.project(skip, maps[1 + index])
            fused.append(self.decoder.refine(skip, self._fuse(index, fused[-1], fine)))
        return fused

    def upsample(self, score: Tensor, size: tuple[int, int], rows: range | None = None) -> Tensor:
        """Upsample the result of `score` to logits at `size` (height, width); with `rows`, compute only those rows."""
        rows = rows or range(size[0])
        crop = 0 if self.spec.upsample == "resize" else 1
        top, left = (g.upsamplings[-1].crop * crop + g.lead for g in self.geometry)
        whole = tuple(n + sum(pads) for n, pads in zip(size, self.padding(size), strict=True))
        final = self.get_submodule(self.upscores[-1])
        logits: Tensor = final(score, (len(rows), size[1]), (top + rows.start, left), whole)
        return logits

    def padding(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the pixels (before, after) by which an image of `size` is padded, vertically and horizontally."""
        vertical, horizontal = (g.padding(n) for g, n in zip(self.geometry, size, strict=True))
        if self._multiple > 1:
            vertical, horizontal = (
                (before, after + (reference - n - before - after) % self._multiple)
                for reference, n, (before, after) in zip(self._size, size, (vertical, horizontal), strict=True)
            )
        return vertical, horizontal

    def _unpool(self, index: int, score: Tensor, indices: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Apply the unpoolings of one score map, if it has any, and remove their `indices` from the list."""
        padded = [n + sum(pads) for n, pads in zip(size, self.padding(size), strict=True)]
        for number, unpool in enumerate(self.unpools[index].children()):
            fine = [g.unpoolings[index][number].fine.size(n) for g, n in zip(self.geometry, padded, strict=True)]
            score = unpool(score, indices.pop(0), (fine[0], fine[1]))
        return score

    def _fuse(self, index: int, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return the sum on the cells that both maps have; a negative crop cuts the finer map."""
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
        """Return the names of the backbone's modules whose maps are finer than `stride`."""
        modules = dict(self.backbone.named_modules())
        return [name for name, fine in self._strides.items() if fine < stride and name in modules]

    def is_pretrained(self, name: str) -> bool:
        """Return whether the parameter of that name comes from the classifier and so gets the lower learning rate."""
        return name.startswith("backbone.") or (name.startswith("head.") and not self.spec.head_norm)


def build(spec: NetSpec, weights: str | Path | None = None) -> FCN:
    """Build the network of `spec` on its classifier with `weights` (see `backbones.build_classifier`).

    Where the weights lack the classifier's hidden layers, or `head_width` changes them, the head starts from
    random weights and gets batch norm if `spec.norm`; the `spec` of the result says so. Raises UsageError for an
    invalid stride and for options that the classifier does not support, ModelError for a classifier that cannot be
    converted.
    """
    if spec.stride not in (32, 16, 8, 4, 2):
        message = f"stride {spec.stride} is not supported; use 32, 16, 8, 4 or 2"
        raise UsageError(message, code="invalid-stride")
    spec.check()
    published = str(weights).lower().endswith(".caffemodel")
    if published and spec.channels != 3:
        message = (
            f"{weights} cannot be used for images of {spec.channels} channels: Caffe's weights take RGB images only"
        )
        raise UsageError(message, code="caffe-weights-rgb-only")
    model, missing = build_classifier(spec.model, weights)
    dense = dilate(convolutionalize(model, input_size(spec.model)), spec.dilate)
    hidden = [f"{name}.weight" for name in dense.linears[:-1]]
    fresh = (
        bool(hidden)
        and spec.late == "keep"
        and (spec.head_width is not None or any(name in missing for name in hidden))
    )
    net = FCN(dense, replace(spec, head_norm=spec.norm and fresh, code_sha256=hash_code(spec.model)))
    if published:
        net.mean, net.std = caffe_mean_std()
    return net


def rebuild(spec: NetSpec) -> FCN:
    """Build exactly the network that `spec` describes, for weights that are loaded next."""
    model, _ = build_classifier(spec.model)
    return FCN(dilate(convolutionalize(model, input_size(spec.model)), spec.dilate), spec)


def fcn32s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """Build FCN-32s: one score layer, upsampled 32 times. `weights` as for `backbones.build_classifier`."""
    return build(NetSpec(model, num_classes, stride=32), weights)


def fcn16s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """Build FCN-16s: FCN-32s with a skip at stride 16."""
    return build(NetSpec(model, num_classes, stride=16), weights)


def fcn8s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """Build FCN-8s: FCN-16s with a skip at stride 8."""
    return build(NetSpec(model, num_classes, stride=8), weights)


def fcn4s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """Build FCN-4s: FCN-8s with a skip at stride 4, which the paper does not have."""
    return build(NetSpec(model, num_classes, stride=4), weights)


def fcn2s(model: str, num_classes: int, weights: str | Path | None = None) -> FCN:
    """Build FCN-2s: FCN-4s with a skip at stride 2, which the paper does not have."""
    return build(NetSpec(model, num_classes, stride=2), weights)


def _owners(nodes: dict[str, Node]) -> Iterator[tuple[str, FeatureGeometry]]:
    """Yield the backbone's modules whose parameters are used, by name, each with the geometry of its output."""
    for node in nodes.values():
        geometry = node.info.geometry
        if geometry and node.module:
            yield node.target, geometry
        elif geometry:
            yield from ((owner, geometry) for name in node.parameters if (owner := name.rpartition(".")[0]))


def _make_unpools(
    classes: int, pools: Sequence[Pool], vertical: Sequence[Upsampling], horizontal: Sequence[Upsampling]
) -> nn.ModuleList:
    pools_and_axes = zip(pools, zip(vertical, horizontal, strict=True), strict=True)
    return nn.ModuleList(Unpool(classes, pool.channels, pool.module, axes) for pool, axes in pools_and_axes)


def _cut(graph: fx.GraphModule, names: list[str], pools: list[Pool]) -> fx.GraphModule:
    """Make these nodes, and the indices of these poolings, the outputs of the graph; remove all later nodes."""
    nodes = {node.name: node for node in graph.graph.nodes}
    outputs = return_indices(graph, pools)
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    maps = [outputs[name][0] if name in outputs else nodes[name] for name in names]
    output.args = ((*maps, *(outputs[pool.node][1] for pool in pools)),)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph

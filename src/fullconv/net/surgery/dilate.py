"""Dilate a dense network: finer maps with the same filters, whose kernels get holes.

The paper, section 3.2, calls it filter rarefaction. Shift-and-stitch needs f * f passes over shifted images; one pass
gives the same when a layer drops its stride f and all later layers spread their kernels by f (the algorithme a trous).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.errors import ModelError, UsageError
from fullconv.geometry import Layer
from fullconv.net.surgery.convolutionalize import Surgery
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.nodes import Node, geometry_of, trace

__all__ = ["DilatedAvgPool2d", "PaddedMaxPool2d", "dilate"]

Pair = tuple[int, int]


class DilatedAvgPool2d(nn.AvgPool2d):
    """Mean pooling with dilation: N x C x H x W to N x C x h x w. Padding counts as zeros."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, divisor: int | None = None) -> None:
        """Take the arguments of torch's mean pooling, and the dilation."""
        super().__init__(kernel, stride, padding, divisor_override=divisor)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of each dilated window, computed as a convolution of each channel."""
        rows, columns = self.kernel_size  # type: ignore[misc]
        kernel = x.new_full((x.shape[1], 1, rows, columns), 1 / (self.divisor_override or rows * columns))
        return functional.conv2d(x, kernel, None, self.stride, self.padding, self.dilation, groups=x.shape[1])


class PaddedMaxPool2d(nn.MaxPool2d):
    """Dilated max pooling that may pad by more than half its kernel, which torch's module does not allow."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the maximum of each window; padding is minus infinity."""
        rows, columns = self.padding  # type: ignore[misc]
        padded = functional.pad(x, (columns, columns, rows, rows), value=-torch.inf)
        return functional.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


def dilate(dense: Surgery, stride: int | None) -> Surgery:
    """Return the dense network with no map coarser than `stride` pixels; with None, the network unchanged.

    A layer whose output would be coarser drops its stride, and all later layers are dilated and padded by as much, so
    that every filter meets the same pixels as before, with the same weights and state dict keys. It follows that:

    - On the cells of the coarse network, each f-th one of the finer map, the outputs are equal, padded or not. (Where
      pooling rounds its size up, the cells of its last, partial windows are missing.)
    - Without padding, the map is that of shift-and-stitch: its cell f * i + a is cell i of the coarse network on the
      image without its first `a` strides, for all f shifts `a` along each axis.
    - With padding, that holds in the interior only: a shifted image has its padding elsewhere than the image, so the
      cells between differ where a window reaches into padding.

    The weights are shared with `dense`, which stays unchanged. Raises UsageError for a stride below 1, and ModelError
    where a layer has no dilated form or two branches end at different strides.
    """
    if stride is None:
        return dense
    if stride < 1:
        message = f"a network cannot be dilated to stride {stride}: the stride must be 1 pixel or more"
        raise UsageError(message, code="invalid-dilated-stride")
    graph = fx.GraphModule(dense.module, copy.deepcopy(dense.module.graph))
    for name, module in dense.module.named_modules():
        graph.get_submodule(name).training = module.training
    _Dilator(graph, dense.nodes, stride).run()
    channels = next(iter(dense.nodes.values())).shape[0]
    room = [0 if dense.multiple > 1 else int(tap.field.stride) for tap in dense.geometry]  # for the last windows
    size = dense.size[0] + room[0], dense.size[1] + room[1]
    return replace(dense, module=graph, nodes=trace(graph, size, channels))


class _Dilator:
    """One pass over the graph that keeps, for each map, how many times as fine it has become along each axis."""

    def __init__(self, graph: fx.GraphModule, nodes: dict[str, Node], stride: int) -> None:
        self.graph, self.nodes, self.stride = graph, nodes, stride
        self.factors: dict[str, Pair] = {}
        self.new_layers: dict[str, tuple[Layer, Layer]] = {}

    def run(self) -> None:
        """Rewrite each layer whose input became finer or whose output would be too coarse."""
        for node in self.graph.graph.nodes:
            if node.name not in self.nodes or not self.nodes[node.name].is_map:
                continue
            factors = {self.factors[source.name] for source in node.all_input_nodes if source.name in self.factors}
            if len(factors) > 1:
                message = f"{node.name} combines branches that would end at different strides when dilated"
                raise ModelError(f"{message} to stride {self.stride}", code="branches-differ-in-stride")
            factor = factors.pop() if factors else (1, 1)
            module = self.nodes[node.name].module
            layers = layers_of_module(module) if module else None
            if layers is None or isinstance(module, nn.PixelUnshuffle):
                self._check_unchanged(node, factor)
            self.factors[node.name] = factor if layers is None else self._dilate_layer(node, layers, factor)

    def _check_unchanged(self, node: fx.Node, factor: Pair) -> None:
        """Refuse an operation that moves positions, would have to be dilated, and is not a module of torch.nn."""
        op, maps = self.nodes[node.name], [n for n in node.all_input_nodes if self.nodes[n.name].is_map]
        before, after = (self.nodes[n.name].info.geometry for n in (maps[0], node)) if maps else (None, None)
        if len(maps) != 1 or before is None or after is None or before == after:
            return
        strides = [(old.field.stride, new.field.stride) for old, new in zip(before, after, strict=True)]
        if factor != (1, 1) or any(old < new and new > self.stride for old, new in strides):
            name = f"{op.target} ({type(op.module).__name__})" if op.module else node.name
            raise ModelError(
                f"{name} has no dilated form, which stride {self.stride} needs: it moves or merges positions and is "
                "not a torch.nn module such as Conv2d or MaxPool2d",
                code="no-dilated-form",
            )

    def _dilate_layer(self, node: fx.Node, layers: tuple[Layer, Layer], factor: Pair) -> Pair:
        """Put the dilated layer into the graph and return how many times as fine its output is."""
        before = geometry_of(self.nodes[node.all_input_nodes[0].name])
        if layers[0].transposed:
            if factor != (1, 1):
                raise _no_dilated_form(str(node.target), "it is a transposed convolution after a dropped stride")
            return factor
        new = [
            layer.rarefy(f, int(self.stride * f / tap.field.stride))
            for layer, f, tap in zip(layers, factor, before, strict=True)
        ]
        target, both = str(node.target), (new[0], new[1])
        if self.new_layers.setdefault(target, both) != both:
            raise _no_dilated_form(target, "it is used at several strides, which would need different dilations")
        if both != layers:
            self.graph.add_submodule(target, _with_layers(target, self.graph.get_submodule(target), both))
        ratio = [f * old.stride // now.stride for f, old, now in zip(factor, layers, both, strict=True)]
        return ratio[0], ratio[1]


def _with_layers(name: str, module: nn.Module, layers: tuple[Layer, Layer]) -> nn.Module:
    """Return the module with the strides, padding and dilation of `layers` and the same parameters."""
    if any(layer.padding[0] != layer.padding[1] for layer in layers):
        raise _no_dilated_form(name, "it pads its two sides by different amounts")
    stride, padding, dilation = (
        (layers[0].stride, layers[1].stride),
        (layers[0].padding[0], layers[1].padding[0]),
        (layers[0].dilation, layers[1].dilation),
    )
    if isinstance(module, nn.Conv2d):
        with torch.device("meta"):
            conv = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size,  # type: ignore[arg-type]
                stride, padding, dilation, module.groups, module.bias is not None, module.padding_mode,
            )  # fmt: skip
        conv.weight, conv.bias = module.weight, module.bias
        return conv.train(module.training)
    kernel = layers[0].kernel, layers[1].kernel
    if isinstance(module, nn.MaxPool2d) and any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
        if module.ceil_mode and stride != (1, 1):
            raise _no_dilated_form(
                name, "it is max pooling that rounds its size up and pads by more than half its kernel"
            )
        return PaddedMaxPool2d(kernel, stride, padding, dilation).train(module.training)
    if isinstance(module, nn.MaxPool2d):
        return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=module.ceil_mode).train(module.training)
    assert isinstance(module, nn.AvgPool2d)
    if dilation == (1, 1):
        pool = nn.AvgPool2d(
            kernel, stride, padding, module.ceil_mode, module.count_include_pad, module.divisor_override
        )
        return pool.train(module.training)
    if module.ceil_mode or (any(padding) and not module.count_include_pad):
        raise _no_dilated_form(name, "it is mean pooling that rounds its size up or does not count its padding")
    return DilatedAvgPool2d(kernel, stride, padding, dilation, module.divisor_override).train(module.training)


def _no_dilated_form(name: str, why: str) -> ModelError:
    return ModelError(f"{name} has no dilated form: {why}", code="no-dilated-form")

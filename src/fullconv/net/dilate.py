"""Resolution for strides: the same filters on a finer map, with holes between their taps.

The paper, section 3.2, calls it filter rarefaction: what shift-and-stitch gives with f * f passes over shifted images,
one pass gives when a layer drops its stride f and the layers behind it spread their taps by f (the algorithme a trous).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.errors import ModelError, UsageError
from fullconv.geometry import Layer
from fullconv.net.skips import taps_of
from fullconv.net.surgery import Surgery
from fullconv.net.trace import Node, layers_of, trace

__all__ = ["DilatedAvgPool2d", "PaddedMaxPool2d", "dilate"]

Pair = tuple[int, int]


class DilatedAvgPool2d(nn.AvgPool2d):
    """Mean pooling whose window has holes: N x C x H x W to N x C x h x w. Padding counts as zeros."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, divisor: int | None = None) -> None:
        super().__init__(kernel, stride, padding, divisor_override=divisor)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the taps, as a convolution of each channel."""
        rows, columns = self.kernel_size  # type: ignore[misc]
        taps = x.new_full((x.shape[1], 1, rows, columns), 1 / (self.divisor_override or rows * columns))
        return functional.conv2d(x, taps, None, self.stride, self.padding, self.dilation, groups=x.shape[1])


class PaddedMaxPool2d(nn.MaxPool2d):
    """Max pooling that may pad by more than half its kernel, as torch's own may not, with holes between its taps."""

    def forward(self, x: Tensor) -> Tensor:
        """The maxima, padding never being one."""
        rows, columns = self.padding  # type: ignore[misc]
        padded = functional.pad(x, (columns, columns, rows, rows), value=-torch.inf)
        return functional.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


def dilate(dense: Surgery, stride: int | None) -> Surgery:
    """The dense network with no map coarser than `stride` pixels; None leaves it as it is.

    A layer whose cells would lie further apart drops its stride, and all layers behind it are dilated and padded by as
    much, so that every filter meets the pixels that it met, with the same weights and state dict keys. What follows:

    - On the cells of the coarse network, each f-th one of the finer map, the outputs are equal, padded or not (but
      where pooling rounds its size up, the cells of its last, partial windows are gone).
    - Without padding, the map is that of shift-and-stitch: its cell f * i + a is cell i of the coarse network on the
      image without its first `a` strides, for all f shifts `a` along each axis.
    - With padding, that holds inside only: a shifted image is padded elsewhere than the image, so the cells between
      differ wherever a window reaches into padding.

    The weights are shared with `dense`, which is left alone. Raises UsageError for a stride below 1, ModelError where a
    layer has no dilated form, or two branches do not end at one stride.
    """
    if stride is None:
        return dense
    if stride < 1:
        raise UsageError(f"a network cannot be dilated to stride {stride}: name 1 pixel or more")
    graph = fx.GraphModule(dense.module, copy.deepcopy(dense.module.graph))
    for name, module in dense.module.named_modules():
        graph.get_submodule(name).training = module.training
    _Spread(graph, dense.nodes, stride).run()
    channels = next(iter(dense.nodes.values())).shape[0]
    room = [0 if dense.multiple > 1 else int(tap.field.stride) for tap in dense.taps]  # for windows of the last cells
    size = dense.size[0] + room[0], dense.size[1] + room[1]
    return replace(dense, module=graph, nodes=trace(graph, size, channels))


class _Spread:
    """One pass over the graph that knows, for each map, how many times as fine it has become, by axis."""

    def __init__(self, graph: fx.GraphModule, nodes: dict[str, Node], stride: int) -> None:
        self.graph, self.nodes, self.stride = graph, nodes, stride
        self.finer: dict[str, Pair] = {}
        self.done: dict[str, tuple[Layer, Layer]] = {}

    def run(self) -> None:
        """Rewrite each layer that has something to see at another scale."""
        for node in self.graph.graph.nodes:
            if node.name not in self.nodes or not self.nodes[node.name].is_map:
                continue
            found = {self.finer[source.name] for source in node.all_input_nodes if source.name in self.finer}
            if len(found) > 1:
                raise ModelError(f"{node.name} joins maps that stride {self.stride} leaves at different strides")
            finer, known = found.pop() if found else (1, 1), self.nodes[node.name]
            layers = layers_of(known.module) if known.module else None
            if layers is None or isinstance(known.module, nn.PixelUnshuffle):
                self._keeps(node, finer)
            self.finer[node.name] = finer if layers is None else self._layer(node, layers, finer)

    def _keeps(self, node: fx.Node, finer: Pair) -> None:
        """Refuse what would have to see at another scale and is no layer that can be rewritten."""
        known, maps = self.nodes[node.name], [n for n in node.all_input_nodes if self.nodes[n.name].is_map]
        before, after = (self.nodes[n.name].seen.taps for n in (maps[0], node)) if maps else (None, None)
        if len(maps) != 1 or before is None or after is None or before == after:
            return
        strides = [(old.field.stride, new.field.stride) for old, new in zip(before, after, strict=True)]
        if finer != (1, 1) or any(old < new and new > self.stride for old, new in strides):
            name = f"{known.target} ({type(known.module).__name__})" if known.module else node.name
            raise ModelError(
                f"{name} moves or merges places and is no module of torch.nn as Conv2d and MaxPool2d are: it has no "
                f"dilated form, which stride {self.stride} needs"
            )

    def _layer(self, node: fx.Node, layers: tuple[Layer, Layer], finer: Pair) -> Pair:
        """Put the rarefied layer into the graph and say how fine its output is."""
        before = taps_of(self.nodes[node.all_input_nodes[0].name])
        if layers[0].transposed:
            if finer != (1, 1):
                raise ModelError(f"{node.target} is a transposed convolution behind a dropped stride: not supported")
            return finer
        new = [
            layer.rarefy(f, int(self.stride * f / tap.field.stride))
            for layer, f, tap in zip(layers, finer, before, strict=True)
        ]
        target, both = str(node.target), (new[0], new[1])
        if self.done.setdefault(target, both) != both:
            raise ModelError(f"{target} is used at several strides, which stride {self.stride} would make different")
        if both != layers:
            self.graph.add_submodule(target, _with_layers(target, self.graph.get_submodule(target), both))
        ratio = [f * old.stride // now.stride for f, old, now in zip(finer, layers, both, strict=True)]
        return ratio[0], ratio[1]


def _with_layers(name: str, module: nn.Module, layers: tuple[Layer, Layer]) -> nn.Module:
    """The module with the strides, padding and dilation of `layers`, and its own parameters."""
    if any(layer.padding[0] != layer.padding[1] for layer in layers):
        raise ModelError(f"{name} pads its two sides by different amounts: it has no dilated form")
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
            raise ModelError(f"{name}: max pooling that rounds up and pads so much has no dilated form")
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
        raise ModelError(f"{name}: mean pooling that rounds up or leaves out its padding has no dilated form")
    return DilatedAvgPool2d(kernel, stride, padding, dilation, module.divisor_override).train(module.training)

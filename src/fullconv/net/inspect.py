"""A network layer by layer: what each cell sees, and what each layer costs. Nothing is computed or allocated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fullconv.errors import ModelError
from fullconv.geometry import Field, Layer, Upsampling
from fullconv.net.backbones import CLASSIFIERS, classifier, input_size, is_classifier
from fullconv.net.checkpoint import read_saved
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import convolutionalize
from fullconv.net.trace import Node, Taps, layers_of, trace
from fullconv.net.upsample import Unpool, Upsample

__all__ = [
    "Inspection",
    "LayerRow",
    "SkipFacts",
    "UpsamplingFacts",
    "inspect_classifier",
    "inspect_fcn",
    "inspect_model",
]

Pair = tuple[int, int]
Fractions = tuple[Fraction, Fraction]

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.MaxPool2d: "max pool",
    nn.AvgPool2d: "mean pool",
    nn.BatchNorm2d: "batch norm",
    nn.ConvTranspose2d: "transposed conv",
}


@dataclass(frozen=True)
class LayerRow:
    """One layer. Pairs are (vertical, horizontal); None where a layer has no such thing or it cannot be followed.

    `shape` is the output, C x H x W. `stride`, `receptive_field` and `offset` are of the output's cells, in
    pixels of the image: from cell to cell, how many a cell sees, and where the centre of the first cell lies.
    `macs` counts multiply-accumulates for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    kernel: Pair | None = None
    step: Pair | None = None
    padding: Pair | None = None
    stride: Fractions | None = None
    receptive_field: Pair | None = None
    offset: Fractions | None = None


@dataclass(frozen=True)
class UpsamplingFacts:
    """How a score map is put onto the next finer grid; `crop` is negative where the finer map is cropped instead."""

    name: str
    factor: Pair
    kernel: Pair
    crop: Pair


@dataclass(frozen=True)
class SkipFacts:
    """The geometry of a skip network at one input size: pixels (before, after) and crops in cells, by axis."""

    padding: tuple[Pair, Pair]
    upsamplings: tuple[UpsamplingFacts, ...]
    halo: tuple[Pair, Pair]


@dataclass(frozen=True)
class Inspection:
    """The layers of a network for images of `size` (height, width); `skip` for a network that labels pixels.

    `context` names where values of the whole image come back into the map, so that tiles differ from the whole.
    """

    name: str
    size: Pair
    rows: tuple[LayerRow, ...]
    skip: SkipFacts | None = None
    context: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Parameters in all, buffers not counted."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates in all, for one image."""
        return sum(row.macs for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; strides and offsets that are whole are integers."""
        plain: dict[str, Any] = _plain({**asdict(self), "params": self.params, "macs": self.macs})
        return plain


def inspect_model(model: str, size: Pair | None = None) -> Inspection:
    """A classifier by name, or the network of a run folder or a weights file; see the two functions below."""
    if is_classifier(model):
        return inspect_classifier(model, size)
    try:
        spec = read_saved(Path(model)).spec
    except ModelError as error:
        raise ModelError(f"{error}. Classifiers by name: {', '.join(CLASSIFIERS)}") from error
    return inspect_fcn(spec, size)


def inspect_classifier(name: str, size: Pair | None = None) -> Inspection:
    """The convolutionalized classifier, at the size that it is made for unless `size` is given.

    Its layers are its convolutions, poolings and norms, and the sums that join its branches; activations and
    dropout change neither sizes nor fields and have no parameters. The MACs of a convolution are kernel area x
    input channels / groups x output channels x output cells (of a transposed one, input cells); norms,
    pooling and sums are not counted, as in the numbers that are published.
    """
    size = size or input_size(name)
    with torch.device("meta"):
        dense = convolutionalize(classifier(name)[0], input_size(name))
        nodes = trace(dense.module, size)
        held = {key: value.numel() for key, value in dense.module.named_parameters()}
    return Inspection(f"{name}, convolutionalized", size, tuple(_node_rows(nodes, held)), None, dense.context)


def inspect_fcn(spec: NetSpec, size: Pair | None = None) -> Inspection:
    """The skip network of `spec`: backbone, head, score layers and upsampling.

    The rules of `inspect_classifier` hold. A fixed upsampling is two matrix products for each class, H x h by
    h x w and H x w by w x W, and so many MACs; a learned one is a transposed convolution. The rows of
    `upscore...` give the fused map. Offsets are in pixels of the image, not of the padded one.
    """
    size = size or input_size(spec.model)
    with torch.device("meta"):
        net = rebuild(spec).eval().to("meta")
        padding = net.padding(size)
        padded = size[0] + sum(padding[0]), size[1] + sum(padding[1])
        nodes = trace(net.backbone, padded, spec.channels)
        maps = [tuple(m.shape[1:]) for m in net.encode(torch.zeros(1, spec.channels, *size))]
        held = {key: value.numel() for key, value in net.backbone.named_parameters()}
    lead = padding[0][0], padding[1][0]
    rows = [*_node_rows(nodes, held, lead, "backbone."), *_head_rows(net, nodes, lead), *_decoder_rows(net, maps, size)]
    halo = net.geometry[0].field.halo, net.geometry[1].field.halo
    skip = SkipFacts(padding, _upsamplings(net), halo)
    return Inspection(f"{spec.name} on {spec.model}", size, tuple(rows), skip, net.context)


def _node_rows(
    nodes: dict[str, Node], held: dict[str, int], lead: Pair = (0, 0), prefix: str = ""
) -> Iterator[LayerRow]:
    """The nodes that have a geometry or parameters, and those that join maps; `held` sizes parameters by name."""
    for node in nodes.values():
        fields = _fields(node.seen.taps)
        if node.module is not None and (layers_of(node.module) or _params(node.module)):
            yield _module_row(prefix + node.target, node.module, node.shape, fields, lead)
        elif node.module is None and (node.layers or node.owned):
            params = sum(held[name] for name in node.owned)
            name = prefix + (node.owned[0].rpartition(".")[0] if node.owned else node.name)
            yield _function_row(name, node, params, fields, lead)
        elif node.module is None and node.kind in ("add", "cat") and node.seen.kind == "map":
            kind = "concat" if node.kind == "cat" else "sum"
            yield LayerRow(prefix + node.name, kind, node.shape, 0, 0, **_seen(fields, lead))


def _function_row(name: str, node: Node, params: int, seen: tuple[Field, Field] | None, lead: Pair) -> LayerRow:
    """A function that has a kernel, parameters or both."""
    kind = {"conv2d": "conv", "max_pool2d": "max pool", "avg_pool2d": "mean pool"}.get(node.kind, node.kind)
    numbers: dict[str, Any] = {}
    macs = 0
    if node.layers:
        numbers = _kernel(node.layers)
        macs = prod(node.weight[1:]) * prod(node.shape)
    return LayerRow(name, kind, node.shape, params, macs, **numbers, **_seen(seen, lead))


def _kernel(layers: tuple[Layer, Layer]) -> dict[str, Any]:
    vertical, horizontal = layers
    return {
        "kernel": (vertical.kernel, horizontal.kernel),
        "step": (vertical.stride, horizontal.stride),
        "padding": (vertical.padding[0], horizontal.padding[0]),
    }


def _head_rows(net: FCN, nodes: dict[str, Node], lead: Pair) -> Iterator[LayerRow]:
    """What lies between the backbone's last map and the score layer."""
    (output,) = (node for node in net.backbone.graph.nodes if node.op == "output")
    last = nodes[output.args[0][len(net.skips)].name]
    taps, shape = last.taps, last.shape
    for name, module in net.head.named_children():
        layers = layers_of(module)
        if layers and taps:
            taps = taps[0].after(layers[0]), taps[1].after(layers[1])
            channels = module.out_channels if isinstance(module, nn.Conv2d) else shape[0]
            shape = (channels, *(layer.output_size(n) for layer, n in zip(layers, shape[1:], strict=True)))
        if layers or _params(module):
            yield _module_row(f"head.{name}", module, shape, _fields(taps), lead)


def _decoder_rows(net: FCN, maps: list[tuple[int, ...]], size: Pair) -> Iterator[LayerRow]:
    """Score layers and upsampling, in the order of `FCN.decode`."""
    vertical, horizontal = net.geometry
    lead, classes = (vertical.lead, horizontal.lead), net.spec.num_classes
    steps = list(zip(net.upscores, vertical.upsamplings, horizontal.upsamplings, strict=True))
    fused = list(zip(vertical.fused, horizontal.fused, strict=True))
    cells: Pair = (0, 0)
    for index, name in enumerate(("fr", *net.skips)):
        seen = vertical.taps[index].field, horizontal.taps[index].field
        norm = getattr(net, f"norm_{name}", None)
        if norm is not None and _params(norm):
            yield _module_row(f"norm_{name}", norm, maps[index], seen, lead)
        here = maps[index][1], maps[index][2]
        if index > 0:
            cells = yield from _unpool_rows(net, index - 1, cells, size)
        yield _module_row(f"score_{name}", net.get_submodule(f"score_{name}"), (classes, *here), seen, lead)
        if index > 0:
            upscore, *ups = steps[index - 1]
            sizes = [up.fused_size(n, m) for up, n, m in zip(ups, cells, here, strict=True)]
            yield _upsample_row(upscore, net, cells, (sizes[0], sizes[1]), fused[index - 1], lead)
            here = sizes[0], sizes[1]
        cells = here
    cells = yield from _unpool_rows(net, len(net.skips), cells, size)
    yield _upsample_row(steps[-1][0], net, cells, size, fused[-1], (0, 0))


def _unpool_rows(net: FCN, index: int, cells: Pair, size: Pair) -> Generator[LayerRow, None, Pair]:
    """The unpoolings behind one tap; gives back the cells of the last one's output."""
    padded = [n + sum(pads) for n, pads in zip(size, net.padding(size), strict=True)]
    for number, unpool in enumerate(net.unpools[index].children()):
        assert isinstance(unpool, Unpool)
        ways = [g.unpoolings[index][number] for g in net.geometry]
        fine = [way.fine.size(n) for way, n in zip(ways, padded, strict=True)]
        macs = unpool.widen.weight.numel() * prod(way.coarse.size(n) for way, n in zip(ways, padded, strict=True))
        entered = ways[0].coarse.size(padded[0]), ways[1].coarse.size(padded[1])
        crops = unpool.enter.axes[0].crop, unpool.enter.axes[1].crop
        macs += _upsample_macs(unpool.enter, net.spec.num_classes, cells, entered, crops)
        cells, macs = (fine[0], fine[1]), macs + unpool.fill.weight.numel() * prod(fine)
        kernel, step = ((ways[0].pool.kernel, ways[1].pool.kernel), (ways[0].pool.stride, ways[1].pool.stride))
        shape = (net.spec.num_classes, *cells)
        yield LayerRow(f"unpools.{index}.{number}", "unpool", shape, _params(unpool), macs, kernel, step)
    return cells


def _upsample_row(name: str, net: FCN, coarse: Pair, fine: Pair, seen: tuple[Field, Field], lead: Pair) -> LayerRow:
    module = net.get_submodule(name)
    assert isinstance(module, Upsample)
    axes, classes = module.axes, net.spec.num_classes
    kernel, step = (axes[0].kernel, axes[1].kernel), (axes[0].factor, axes[1].factor)
    last = name == net.upscores[-1]
    starts = [up.crop + g.lead if last else max(0, up.crop) for up, g in zip(axes, net.geometry, strict=True)]
    macs = _upsample_macs(module, classes, coarse, fine, (starts[0], starts[1]))
    shape = (classes, *fine)
    return LayerRow(name, f"upsample, {module.mode}", shape, _params(module), macs, kernel, step, **_seen(seen, lead))


def _upsample_macs(module: Upsample, classes: int, coarse: Pair, fine: Pair, start: Pair) -> int:
    kernel = prod(axis.kernel for axis in module.axes)
    if module.mode == "learned":  # whole blocks of factor x factor pixels, with kernels of whole cells
        ways = list(zip(module.axes, start, fine, strict=True))
        blocks = [(begin + length - 1) // axis.factor - begin // axis.factor + 1 for axis, begin, length in ways]
        reach = [-(-axis.kernel // axis.factor) * axis.factor for axis in module.axes]
        return classes**2 * prod(reach) * prod(blocks) if kernel > 1 else 0
    if module.mode != "resize":
        used = [len(up.sources(*way)) for up, *way in zip(module.axes, start, fine, coarse, strict=True)]
        coarse = used[0], used[1]
    return classes * (fine[0] * coarse[0] * coarse[1] + fine[0] * coarse[1] * fine[1]) * (kernel > 1)


def _module_row(
    name: str, module: nn.Module, shape: tuple[int, ...], seen: tuple[Field, Field] | None, lead: Pair
) -> LayerRow:
    layers = layers_of(module)
    numbers = _kernel(layers) if layers else {}
    return LayerRow(name, _kind(module), shape, _params(module), _macs(module, shape), **numbers, **_seen(seen, lead))


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return "depthwise conv" if module.groups == module.in_channels else "group conv"
    return next((kind for base, kind in _KINDS.items() if isinstance(module, base)), type(module).__name__)


def _macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Of a convolution whose output is `shape`; 0 for every other layer."""
    if not isinstance(module, nn.Conv2d):
        return 0
    return prod(module.kernel_size) * module.in_channels // module.groups * prod(shape)


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _fields(taps: Taps | None) -> tuple[Field, Field] | None:
    return (taps[0].field, taps[1].field) if taps else None


def _seen(seen: tuple[Field, Field] | None, lead: Pair) -> dict[str, Any]:
    """The three columns of a row that tell what its cells see."""
    if seen is None:
        return {}
    vertical, horizontal = seen
    return {
        "stride": (vertical.stride, horizontal.stride),
        "receptive_field": (vertical.receptive_field, horizontal.receptive_field),
        "offset": (vertical.offset - lead[0], horizontal.offset - lead[1]),
    }


def _upsamplings(net: FCN) -> tuple[UpsamplingFacts, ...]:
    def pair(axes: list[Upsampling], name: str) -> Pair:
        return getattr(axes[0], name), getattr(axes[1], name)

    steps = zip(net.upscores, net.geometry[0].upsamplings, net.geometry[1].upsamplings, strict=True)
    return tuple(
        UpsamplingFacts(name, pair(axes, "factor"), pair(axes, "kernel"), pair(axes, "crop")) for name, *axes in steps
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return value

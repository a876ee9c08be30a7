"""Inspect a network layer by layer: receptive fields and cost. Nothing is computed or allocated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from math import prod
from pathlib import Path

import torch
from torch import nn

from fullconv.choices import refuse_code
from fullconv.errors import ModelError
from fullconv.files import StrPath
from fullconv.geometry import Field, Upsampling
from fullconv.net.checkpoint import read_saved
from fullconv.net.classifiers.backbones import CLASSIFIERS, build_classifier, input_size, is_classifier
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.refined import RefinedDecoder
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.fcn.upsample import Unpool, Upsample
from fullconv.net.inspect.inspection import Inspection, LayerRow, Pair, SkipFacts, UpsamplingFacts
from fullconv.net.inspect.layer_rows import count_parameters, fields_of, list_nodes, make_geometry, make_row
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.surgery.dense_check import DenseCheck, check_dense, randomize_scales
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.nodes import Node, trace

__all__ = ["check_classifier", "inspect_classifier", "inspect_fcn", "inspect_model"]


def inspect_model(model: str, size: Pair | None = None, code: StrPath | None = None) -> Inspection:
    """Inspect a classifier by name, or the network of a run folder or a model file.

    `size` is (height, width); see `inspect_classifier` and `inspect_fcn`. `code` is as in `load_net`. Raises ModelError
    for anything else.
    """
    if is_classifier(model):
        refuse_code(model, code)
        return inspect_classifier(model, size)
    if not Path(model).exists():
        raise ModelError(
            f"{model} is neither a classifier ({', '.join(CLASSIFIERS)}, ...) nor a bundled model, nor a run folder, "
            "or a .safetensors or .onnx file, that fullconv wrote",
            code="no-model",
        )
    spec = read_saved(Path(model), code).spec
    return inspect_fcn(spec, size)


def inspect_classifier(name: str, size: Pair | None = None) -> Inspection:
    """Inspect the convolutionalized classifier for images of `size`, by default the size that it takes.

    Its rows are its convolutions, poolings and norms, and the sums that join its branches. Activations and dropout
    change neither sizes nor fields and have no parameters. The MACs of a convolution are kernel area x input channels
    / groups x output channels x output cells (input cells for a transposed convolution), those of a linear layer inside
    the network input x output numbers x cells; norms, pooling and sums are not counted, as in published numbers. The
    parameters of a module that is called several times count in its first row.
    """
    size = size or input_size(name)
    with torch.device("meta"):
        dense = convolutionalize(build_classifier(name)[0], input_size(name))
        nodes = trace(dense.module, size)
        sizes = {key: value.numel() for key, value in dense.module.named_parameters()}
    return Inspection(f"{name}, convolutionalized", size, tuple(list_nodes(nodes, sizes)), None, dense.context)


def inspect_fcn(spec: NetSpec, size: Pair | None = None) -> Inspection:
    """Inspect the skip network of `spec`: backbone, head, score layers and upsampling.

    Rows and MACs are as in `inspect_classifier`. A fixed upsampling consists of two matrix products for each class,
    H x h by h x w and H x w by w x W; a learned one is a transposed convolution. The rows of `upscore...` describe the
    fused map. Offsets are in pixels of the image, without the padding.
    """
    size = size or input_size(spec.model)
    with torch.device("meta"):
        net = rebuild(spec).eval().to("meta")
        padding = net.padding(size)
        padded = size[0] + sum(padding[0]), size[1] + sum(padding[1])
        nodes = trace(net.backbone, padded, spec.channels)
        maps = [tuple(m.shape[1:]) for m in net.encode(torch.zeros(1, spec.channels, *size))]
        sizes = {key: value.numel() for key, value in net.backbone.named_parameters()}
    lead = padding[0][0], padding[1][0]
    backbone = list_nodes(nodes, sizes, lead, "backbone.")
    rows = [*backbone, *_list_head(net, nodes, lead), *_list_decoder(net, maps, size)]
    halo = net.geometry[0].field.halo, net.geometry[1].field.halo
    skip = SkipFacts(padding, _list_upsamplings(net), halo)
    return Inspection(f"{spec.name} on {spec.model}", size, tuple(rows), skip, net.context)


def check_classifier(name: str, size: Pair | None = None) -> DenseCheck:
    """Compare a classifier with its dense form (`check_dense`), with random weights and random scales."""
    torch.manual_seed(0)
    model = randomize_scales(build_classifier(name)[0]).eval()
    return check_dense(model, convolutionalize(model, input_size(name)), size)


def _list_head(net: FCN, nodes: dict[str, Node], lead: Pair) -> Iterator[LayerRow]:
    """Yield the rows of the layers between the backbone's last map and the score layer."""
    (output,) = (node for node in net.backbone.graph.nodes if node.op == "output")
    last = nodes[output.args[0][len(net.skips)].name]
    geometry, shape = last.geometry, last.shape
    for name, module in net.head.named_children():
        layers = layers_of_module(module)
        if layers and geometry:
            geometry = geometry.after(layers)
            channels = module.out_channels if isinstance(module, nn.Conv2d) else shape[0]
            shape = (channels, *(layer.output_size(n) for layer, n in zip(layers, shape[1:], strict=True)))
        if layers or count_parameters(module):
            yield make_row(f"head.{name}", module, shape, fields_of(geometry), lead)


def _list_decoder(net: FCN, maps: list[tuple[int, ...]], size: Pair) -> Iterator[LayerRow]:
    """Yield the rows of score layers and upsampling, in the order of `FCN.decode`."""
    if net.decoder is not None:
        yield from _list_refined(net, net.decoder, maps, size)
        return
    vertical, horizontal = net.geometry
    lead, classes = (vertical.lead, horizontal.lead), net.spec.num_classes
    steps = list(zip(net.upscores, vertical.upsamplings, horizontal.upsamplings, strict=True))
    fused = list(zip(vertical.fused, horizontal.fused, strict=True))
    cells: Pair = (0, 0)
    for index, name in enumerate(("fr", *net.skips)):
        fields = vertical.taps[index].field, horizontal.taps[index].field
        norm = getattr(net, f"norm_{name}", None)
        if norm is not None and count_parameters(norm):
            yield make_row(f"norm_{name}", norm, maps[index], fields, lead)
        grid = maps[index][1], maps[index][2]
        if index > 0:
            cells = yield from _list_unpools(net, index - 1, cells, size)
        yield make_row(f"score_{name}", net.get_submodule(f"score_{name}"), (classes, *grid), fields, lead)
        if index > 0:
            upscore, *ups = steps[index - 1]
            sizes = [up.fused_size(n, m) for up, n, m in zip(ups, cells, grid, strict=True)]
            yield _make_upsample_row(upscore, net, cells, (sizes[0], sizes[1]), fused[index - 1], lead)
            grid = sizes[0], sizes[1]
        cells = grid
    cells = yield from _list_unpools(net, len(net.skips), cells, size)
    yield _make_upsample_row(steps[-1][0], net, cells, size, fused[-1], (0, 0))


def _list_refined(net: FCN, decoder: RefinedDecoder, maps: list[tuple[int, ...]], size: Pair) -> Iterator[LayerRow]:
    """Yield the rows of the refined decoder, of its upsampling and of the score layer."""
    vertical, horizontal = net.geometry
    lead, width = (vertical.lead, horizontal.lead), net.spec.decoder_width
    fields, cells = (vertical.taps[0].field, horizontal.taps[0].field), (maps[0][1], maps[0][2])
    yield from _list_inside(decoder, "project_fr", (width, *cells), fields, lead)
    yield from _list_inside(decoder, "context", (width, *cells), fields, lead)
    for index, skip in enumerate(net.skips):
        grid = maps[index + 1][1], maps[index + 1][2]
        taps = vertical.taps[index + 1].field, horizontal.taps[index + 1].field
        yield from _list_inside(decoder, f"project_{skip}", (width, *grid), taps, lead)
        fields = vertical.fused[index], horizontal.fused[index]
        ups = vertical.upsamplings[index], horizontal.upsamplings[index]
        sizes = [up.fused_size(n, m) for up, n, m in zip(ups, cells, grid, strict=True)]
        yield _make_upsample_row(net.upscores[index], net, cells, (sizes[0], sizes[1]), fields, lead)
        cells = sizes[0], sizes[1]
        yield from _list_inside(decoder, f"refine_{skip}", (width, *cells), fields, lead)
    yield make_row("score_fr", net.score_fr, (net.spec.num_classes, *cells), fields, lead)
    last = vertical.fused[-1], horizontal.fused[-1]
    yield _make_upsample_row(net.upscores[-1], net, cells, size, last, (0, 0))


def _list_inside(
    decoder: RefinedDecoder, name: str, shape: tuple[int, ...], fields: tuple[Field, Field], lead: Pair
) -> Iterator[LayerRow]:
    """Yield the rows of the convolutions and norms in a part of the decoder, which all return maps of this shape."""
    for inner, module in decoder.get_submodule(name).named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            yield make_row(f"decoder.{name}.{inner}", module, shape, fields, lead)


def _list_unpools(net: FCN, index: int, cells: Pair, size: Pair) -> Generator[LayerRow, None, Pair]:
    """Yield the rows of the unpoolings after one score map, and return the cells of the last output."""
    padded = [n + sum(pads) for n, pads in zip(size, net.padding(size), strict=True)]
    for number, unpool in enumerate(net.unpools[index].children()):
        assert isinstance(unpool, Unpool)
        axes = [g.unpoolings[index][number] for g in net.geometry]
        fine = [axis.fine.size(n) for axis, n in zip(axes, padded, strict=True)]
        macs = unpool.widen.weight.numel() * prod(axis.coarse.size(n) for axis, n in zip(axes, padded, strict=True))
        entered = axes[0].coarse.size(padded[0]), axes[1].coarse.size(padded[1])
        crops = unpool.enter.axes[0].crop, unpool.enter.axes[1].crop
        macs += _count_upsample_macs(unpool.enter, net.spec.num_classes, cells, entered, crops)
        cells, macs = (fine[0], fine[1]), macs + unpool.fill.weight.numel() * prod(fine)
        kernel, step = (axes[0].pool.kernel, axes[1].pool.kernel), (axes[0].pool.stride, axes[1].pool.stride)
        shape = (net.spec.num_classes, *cells)
        yield LayerRow(f"unpools.{index}.{number}", "unpool", shape, count_parameters(unpool), macs, kernel, step)
    return cells


def _make_upsample_row(
    name: str, net: FCN, coarse: Pair, fine: Pair, fields: tuple[Field, Field], lead: Pair
) -> LayerRow:
    module = net.get_submodule(name)
    assert isinstance(module, Upsample)
    last = name == net.upscores[-1]
    axes, classes = module.axes, net.spec.num_classes if last or net.decoder is None else net.spec.decoder_width
    kernel, step = (axes[0].kernel, axes[1].kernel), (axes[0].factor, axes[1].factor)
    starts = [up.crop + g.lead if last else max(0, up.crop) for up, g in zip(axes, net.geometry, strict=True)]
    macs = _count_upsample_macs(module, classes, coarse, fine, (starts[0], starts[1]))
    shape = (classes, *fine)
    return LayerRow(
        name,
        f"upsample, {module.mode}",
        shape,
        count_parameters(module),
        macs,
        kernel,
        step,
        **make_geometry(fields, lead),
    )


def _count_upsample_macs(module: Upsample, classes: int, coarse: Pair, fine: Pair, start: Pair) -> int:
    kernel = prod(axis.kernel for axis in module.axes)
    if module.mode == "learned":  # in blocks of factor x factor pixels, with kernels of whole cells
        windows = list(zip(module.axes, start, fine, strict=True))
        blocks = [(begin + length - 1) // axis.factor - begin // axis.factor + 1 for axis, begin, length in windows]
        reach = [-(-axis.kernel // axis.factor) * axis.factor for axis in module.axes]
        return classes**2 * prod(reach) * prod(blocks) if kernel > 1 else 0
    if module.mode != "resize":
        used = [len(up.sources(*window)) for up, *window in zip(module.axes, start, fine, coarse, strict=True)]
        coarse = used[0], used[1]
    return classes * (fine[0] * coarse[0] * coarse[1] + fine[0] * coarse[1] * fine[1]) * (kernel > 1)


def _list_upsamplings(net: FCN) -> tuple[UpsamplingFacts, ...]:
    def pair(axes: list[Upsampling], name: str) -> Pair:
        return getattr(axes[0], name), getattr(axes[1], name)

    steps = zip(net.upscores, net.geometry[0].upsamplings, net.geometry[1].upsamplings, strict=True)
    return tuple(
        UpsamplingFacts(name, pair(axes, "factor"), pair(axes, "kernel"), pair(axes, "crop")) for name, *axes in steps
    )

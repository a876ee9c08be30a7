"""Rows of an inspection for the modules and functions of a traced network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from torch import nn

from fullconv.geometry import Field, Layer
from fullconv.net.inspect.inspection import LayerRow, Pair
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.nodes import Node
from fullconv.net.trace.values import FeatureGeometry

__all__ = ["count_parameters", "fields_of", "list_nodes", "make_geometry", "make_row"]

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.MaxPool2d: "max pool",
    nn.AvgPool2d: "mean pool",
    nn.BatchNorm2d: "batch norm",
    nn.ConvTranspose2d: "transposed conv",
    nn.Linear: "linear",
}


def list_nodes(
    nodes: dict[str, Node], sizes: dict[str, int], lead: Pair = (0, 0), prefix: str = ""
) -> Iterator[LayerRow]:
    """Yield a row for each node that has a kernel or parameters, or that joins maps.

    `sizes` has the number of values of each parameter, by name; `lead` are the pixels of padding before the image,
    and `prefix` stands before the names of nodes.
    """
    sizes = dict(sizes)  # each parameter counts in the first row that uses it
    for node in nodes.values():
        fields = fields_of(node.info.geometry)
        if node.module is not None and (layers_of_module(node.module) or count_parameters(node.module)):
            names = [f"{node.target}.{name}" for name, _ in node.module.named_parameters()]
            params = sum(sizes.pop(name, 0) for name in names)
            yield replace(make_row(prefix + node.target, node.module, node.shape, fields, lead), params=params)
        elif node.module is None and (node.layers or node.parameters):
            params = sum(sizes.pop(name, 0) for name in node.parameters)
            name = prefix + (node.parameters[0].rpartition(".")[0] if node.parameters else node.name)
            yield _make_function_row(name, node, params, fields, lead)
        elif node.module is None and node.kind in ("add", "cat") and node.is_map:
            kind = "concat" if node.kind == "cat" else "sum"
            yield LayerRow(prefix + node.name, kind, node.shape, 0, 0, **make_geometry(fields, lead))


def _make_function_row(name: str, node: Node, params: int, fields: tuple[Field, Field] | None, lead: Pair) -> LayerRow:
    """Return the row of a function that has a kernel, parameters or both."""
    kind = {
        "conv2d": "conv",
        "max_pool2d": "max pool",
        "avg_pool2d": "mean pool",
        "conv_transpose2d": "transposed conv",
    }.get(node.kind, node.kind)
    numbers = _make_kernel(node.layers) if node.layers else {}
    macs = _count_macs(node.weight, node.shape, node.layers)
    return LayerRow(name, kind, node.shape, params, macs, **numbers, **make_geometry(fields, lead))


def _make_kernel(layers: tuple[Layer, Layer]) -> dict[str, Any]:
    """Return the columns of a row for the kernel."""
    vertical, horizontal = layers
    return {
        "kernel": (vertical.kernel, horizontal.kernel),
        "step": (vertical.stride, horizontal.stride),
        "padding": (vertical.padding[0], horizontal.padding[0]),
    }


def make_row(
    name: str, module: nn.Module, shape: tuple[int, ...], fields: tuple[Field, Field] | None, lead: Pair
) -> LayerRow:
    """Return the row of a module whose output has this shape, without the batch, and these fields."""
    layers = layers_of_module(module)
    numbers = _make_kernel(layers) if layers else {}
    weight = tuple(module.weight.shape) if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) else ()
    return LayerRow(
        name,
        _name_kind(module),
        shape,
        count_parameters(module),
        _count_macs(weight, shape, layers),
        **numbers,
        **make_geometry(fields, lead),
    )


def _name_kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return "depthwise conv" if module.groups == module.in_channels else "group conv"
    return next((kind for base, kind in _KINDS.items() if isinstance(module, base)), type(module).__name__)


def _count_macs(weight: tuple[int, ...], shape: tuple[int, ...], layers: tuple[Layer, Layer] | None) -> int:
    """Return the multiply-accumulates of a layer with weights of this shape, whose output is `shape`; 0 without any."""
    if not weight:
        return 0
    if layers and layers[0].transposed:
        return prod(weight) * prod(layer.input_size(n) for layer, n in zip(layers, shape[1:], strict=True))
    return prod(weight[1:]) * prod(shape)


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def fields_of(geometry: FeatureGeometry | None) -> tuple[Field, Field] | None:
    """Return the fields of a map's cells, vertical and horizontal; None for an unknown geometry."""
    return geometry.fields if geometry else None


def make_geometry(fields: tuple[Field, Field] | None, lead: Pair) -> dict[str, Any]:
    """Return the columns of a row for the receptive field of its cells."""
    if fields is None:
        return {}
    vertical, horizontal = fields
    return {
        "stride": (vertical.stride, horizontal.stride),
        "receptive_field": (vertical.receptive_field, horizontal.receptive_field),
        "offset": (vertical.offset - lead[0], horizontal.offset - lead[1]),
    }

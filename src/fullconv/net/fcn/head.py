"""Build the head of a skip network: the classifier's hidden linear layers as convolutions fc6, fc7, ..."""

from __future__ import annotations

import copy
from collections import OrderedDict

from torch import fx, nn

from fullconv.errors import UsageError
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import Surgery
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.nodes import Node
from fullconv.net.trace.values import FeatureGeometry

__all__ = ["build_head", "count_channels", "propagate_through"]


def build_head(dense: Surgery, nodes: dict[str, Node], spec: NetSpec) -> nn.Sequential:
    """Return fc6, fc7, ... and the layers between them: from the features to the last linear layer, without pooling.

    Operations that are not a single module (a layer norm between two permutes, for example) become one. Raises
    UsageError where `spec.head_width` is given but there is no hidden layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number, width = 5, nodes[dense.features].shape[0]
    if spec.head_width is not None and len(dense.linears) < 2:
        message = f"{spec.model} has no hidden linear layer, whose width --head-width sets; leave the option out"
        raise UsageError(message, code="no-hidden-layer")
    for piece in _split_into_pieces(dense, nodes):
        name = piece[-1].name
        module, target = nodes[name].module, nodes[name].target
        if len(piece) > 1 or module is None:
            layers[f"{name}{number}"] = _as_module(dense, piece)
        elif target in dense.linears and isinstance(module, nn.Conv2d):
            number += 1
            layers[f"fc{number}"] = conv = _make_hidden(module, width, spec)
            width = conv.out_channels
            if spec.head_norm:
                layers[f"norm{number}"] = nn.BatchNorm2d(width)
        elif not isinstance(module, nn.Identity):
            kind = "drop" if isinstance(module, nn.Dropout) else "relu" if isinstance(module, nn.ReLU) else name
            layers[f"{kind}{number}" if f"{kind}{number}" not in layers else f"{name}_{number}"] = _not_in_place(module)
    return nn.Sequential(layers)


def _split_into_pieces(dense: Surgery, nodes: dict[str, Node]) -> list[list[fx.Node]]:
    """Return the nodes between the features and the last linear layer, split where a single map connects them."""
    order = {node: index for index, node in enumerate(dense.module.graph.nodes)}
    (end,) = (node for node in order if node.target == dense.linears[-1])
    between, todo = set[fx.Node](), list(end.all_input_nodes)
    while todo:
        node = todo.pop()
        if node.name != dense.features and node not in between:
            between.add(node)
            todo += node.all_input_nodes
    pieces: list[list[fx.Node]] = [[]]
    for node in sorted(between, key=order.__getitem__):
        pieces[-1].append(node)
        done = all(order[user] <= order[node] for other in pieces[-1][:-1] for user in other.users)
        if nodes[node.name].geometry is not None and done:
            pieces.append([])
    return [piece for piece in pieces if piece and not (len(piece) == 1 and piece[0].name in dense.pools)]


def _as_module(dense: Surgery, piece: list[fx.Node]) -> nn.Module:
    """Return these nodes, whose only outside input is one map, as a module; window pooling is left out."""
    graph = fx.Graph()
    image = graph.placeholder("x")
    copies: dict[fx.Node, fx.Node] = {}
    for node in piece:
        if node.name in dense.pools:
            copies[node] = copies.get(node.all_input_nodes[0], image)
        else:
            copies[node] = graph.node_copy(node, lambda n: copies.get(n, image))
    graph.output(copies[piece[-1]])
    return fx.GraphModule(dense.module, graph)


def _not_in_place(module: nn.Module) -> nn.Module:
    """Return the module without in-place operation: without the pooling, its input may be the backbone's map."""
    if getattr(module, "inplace", False):
        module = copy.copy(module)
        module.inplace = False  # type: ignore[assignment]
    return module


def _make_hidden(linear: nn.Conv2d, channels: int, spec: NetSpec) -> nn.Conv2d:
    """Return a hidden layer, padded so that the map keeps its size (not in the reference), with its weights if kept."""
    width = spec.head_width or linear.out_channels
    kernel, dilation = (linear.kernel_size[0], linear.kernel_size[1]), (linear.dilation[0], linear.dilation[1])
    same = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
    padding = (0, 0) if spec.padding == "reference" else same
    conv = nn.Conv2d(channels, width, kernel, 1, padding, dilation, bias=linear.bias is not None)
    if spec.head_norm or spec.head_width is not None:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    else:
        conv.load_state_dict(linear.state_dict())
    return conv


def propagate_through(head: nn.Sequential, geometry: FeatureGeometry) -> FeatureGeometry:
    """Return the geometry of the head's output for that of its input."""
    for module in head:
        layers = layers_of_module(module)
        if layers:
            geometry = geometry.after(layers)
    return geometry


def count_channels(head: nn.Sequential, dense: Surgery) -> int:
    """Return the number of channels of the map that the score layer on the head reads."""
    convs = [module for module in head if isinstance(module, nn.Conv2d)]
    last = dense.module.get_submodule(dense.linears[-1])
    assert isinstance(last, nn.Conv2d)
    return convs[-1].out_channels if convs else last.in_channels

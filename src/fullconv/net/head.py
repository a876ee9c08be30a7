"""The head of a skip network: the classifier's hidden linear layers as convolutions, fc6, fc7, ..."""

from __future__ import annotations

import copy
from collections import OrderedDict

from torch import fx, nn

from fullconv.errors import UsageError
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import Surgery
from fullconv.net.trace import Node, Taps, layers_of

__all__ = ["head_of", "head_width", "through"]


def head_of(dense: Surgery, nodes: dict[str, Node], spec: NetSpec) -> nn.Sequential:
    """fc6, fc7, ... with what lies between them: from the features to the last linear layer, without pooling.

    What is no single module there (a layer norm between two permutes, say) becomes one.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number, width = 5, nodes[dense.features].shape[0]
    if spec.head_width is not None and len(dense.linears) < 2:
        raise UsageError(f"{spec.model} has no hidden linear layer: --head-width does not apply")
    for piece in _pieces(dense, nodes):
        name = piece[-1].name
        module, target = nodes[name].module, nodes[name].target
        if len(piece) > 1 or module is None:
            layers[f"{name}{number}"] = _as_module(dense, piece)
        elif target in dense.linears and isinstance(module, nn.Conv2d):
            number += 1
            layers[f"fc{number}"] = conv = _hidden(module, width, spec)
            width = conv.out_channels
            if spec.head_norm:
                layers[f"norm{number}"] = nn.BatchNorm2d(width)
        elif not isinstance(module, nn.Identity):
            kind = "drop" if isinstance(module, nn.Dropout) else "relu" if isinstance(module, nn.ReLU) else name
            layers[f"{kind}{number}" if f"{kind}{number}" not in layers else f"{name}_{number}"] = _gentle(module)
    return nn.Sequential(layers)


def _pieces(dense: Surgery, nodes: dict[str, Node]) -> list[list[fx.Node]]:
    """The nodes between the features and the last linear layer, cut wherever a single map goes on."""
    place = {node: index for index, node in enumerate(dense.module.graph.nodes)}
    (end,) = (node for node in place if node.target == dense.linears[-1])
    above, todo = set[fx.Node](), list(end.all_input_nodes)
    while todo:
        node = todo.pop()
        if node.name != dense.features and node not in above:
            above.add(node)
            todo += node.all_input_nodes
    pieces: list[list[fx.Node]] = [[]]
    for node in sorted(above, key=place.__getitem__):
        pieces[-1].append(node)
        done = all(place[user] <= place[node] for other in pieces[-1][:-1] for user in other.users)
        if nodes[node.name].taps is not None and done:
            pieces.append([])
    return [piece for piece in pieces if piece and not (len(piece) == 1 and piece[0].name in dense.pools)]


def _as_module(dense: Surgery, piece: list[fx.Node]) -> nn.Module:
    """These nodes, whose one input from outside is a map, as a module of their own; window pooling is left out."""
    graph = fx.Graph()
    image = graph.placeholder("x")
    made: dict[fx.Node, fx.Node] = {}
    for node in piece:
        if node.name in dense.pools:
            made[node] = made.get(node.all_input_nodes[0], image)
        else:
            made[node] = graph.node_copy(node, lambda n: made.get(n, image))
    graph.output(made[piece[-1]])
    return fx.GraphModule(dense.module, graph)


def _gentle(module: nn.Module) -> nn.Module:
    """The module without working in place: what it gets may be the backbone's map, which pooling is not before now."""
    if getattr(module, "inplace", False):
        module = copy.copy(module)
        module.inplace = False  # type: ignore[assignment]
    return module


def _hidden(linear: nn.Conv2d, channels: int, spec: NetSpec) -> nn.Conv2d:
    """A hidden layer with padding that keeps the map's size, or none; its own weights unless the width changes."""
    width = spec.head_width or linear.out_channels
    kernel, holes = (linear.kernel_size[0], linear.kernel_size[1]), (linear.dilation[0], linear.dilation[1])
    same = (holes[0] * (kernel[0] // 2), holes[1] * (kernel[1] // 2))
    padding = (0, 0) if spec.padding == "reference" else same
    conv = nn.Conv2d(channels, width, kernel, 1, padding, holes, bias=linear.bias is not None)
    if spec.head_norm or spec.head_width is not None:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    else:
        conv.load_state_dict(linear.state_dict())
    return conv


def through(head: nn.Sequential, taps: Taps) -> Taps:
    for module in head:
        layers = layers_of(module)
        if layers:
            taps = (taps[0].after(layers[0]), taps[1].after(layers[1]))
    return taps


def head_width(head: nn.Sequential, dense: Surgery) -> int:
    """Channels of the map that the score layer on the head reads."""
    convs = [module for module in head if isinstance(module, nn.Conv2d)]
    last = dense.module.get_submodule(dense.linears[-1])
    assert isinstance(last, nn.Conv2d)
    return convs[-1].out_channels if convs else last.in_channels

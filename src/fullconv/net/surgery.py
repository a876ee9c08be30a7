"""From a classifier to a network that is convolutional throughout, with the same weights.

A fully connected layer over a C x h x w map is a convolution whose kernel covers the whole map (the paper,
section 3.1): VGG16's 7 x 7 x 512 -> 4096 becomes F = 7, K = 4096, and the layers after it become 1 x 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from fullconv.errors import ModelError
from fullconv.net.trace import Node, trace, traced

__all__ = ["Surgery", "convolutionalize", "transplant"]

_FLATTEN: tuple[Callable[..., Any], ...] = (torch.flatten,)
_ADAPTIVE: tuple[Callable[..., Any], ...] = (functional.adaptive_avg_pool2d,)


@dataclass
class Surgery:
    """A dense network and what was done to get it.

    `features` names the node whose map the classifier's head starts from; `linears` the modules that were fully
    connected, first to last. `copied` keeps its parameters as they were, `coerced` got another shape or
    became another layer, `dropped` is gone; each entry is a module's name and what happened. `nodes` is the
    trace of `module` on an image of `size`.
    """

    module: fx.GraphModule
    size: tuple[int, int]
    features: str
    linears: tuple[str, ...]
    copied: list[str] = field(default_factory=list)
    coerced: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict, repr=False)


def convolutionalize(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> Surgery:
    """Turn a classifier for images of `size` into one for images of that size or larger.

    The classifier itself is left alone. Where it gives N x K logits for N x C x size images, the dense network
    gives N x K x 1 x 1 with the same numbers; on a larger image, its cell (i, j) is what the classifier gives
    on the crop that starts at (i, j) times the stride, where no padding is involved. Global pooling becomes a
    window of the size that it had; state dict keys stay.

    Raises ModelError where the classifier cannot be traced, does not end in flatten and linear layers, or
    does something that is not the same at every place of an image, as squeeze-and-excitation does.
    """
    graph = copy.deepcopy(traced(model))
    operation = _Operation(graph, trace(graph, size, channels), size)
    for node in list(graph.graph.nodes):
        operation.treat(node)
    if not operation.linears:
        raise ModelError(f"{type(model).__name__} has no linear layer after a flatten: nothing to convolutionalize")
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    nodes = trace(graph, size, channels)
    lost = next((node for node in nodes.values() if node.shape and node.taps is None), None)
    if lost:
        kind = f" ({type(lost.module).__name__})" if lost.module else ""
        raise ModelError(f"what {lost.target}{kind} does cannot be followed from cell to cell: not supported")
    return operation.report(nodes)


def transplant(source: nn.Module, target: nn.Module) -> tuple[list[str], list[str]]:
    """Copy every parameter and buffer that `target` has too, by name and shape.

    Gives the names that were copied and those of `target` that were not, which keep their values.
    """
    theirs, ours = source.state_dict(), target.state_dict()
    copied = [name for name, value in ours.items() if name in theirs and theirs[name].shape == value.shape]
    target.load_state_dict({name: theirs[name] for name in copied}, strict=False)
    return copied, [name for name in ours if name not in set(copied)]


class _Operation:
    """One pass over the graph; the map behind each flattened node is remembered until a linear meets it."""

    def __init__(self, graph: fx.GraphModule, nodes: dict[str, Node], size: tuple[int, int]) -> None:
        self.graph, self.nodes, self.size = graph, nodes, size
        self.flat: dict[str, tuple[int, ...]] = {}
        self.features = ""
        self.linears: list[str] = []
        self.coerced: list[str] = []
        self.dropped: list[str] = []

    def treat(self, node: fx.Node) -> None:
        """Replace one node if it is pooling to a fixed size, flatten or linear."""
        module = self.nodes[node.name].module if node.name in self.nodes else None
        function = node.target if node.op == "call_function" else None
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None:
            return
        if isinstance(module, nn.AdaptiveAvgPool2d) or function in _ADAPTIVE:
            self._pool(node, source)
        elif isinstance(module, nn.Flatten) or function in _FLATTEN or self._views(node):
            self._flatten(node, source)
        elif isinstance(module, nn.Linear):
            self._linear(node, source, module)
        elif source.name in self.flat:
            self.flat[node.name] = self.flat[source.name]

    def _pool(self, node: fx.Node, source: fx.Node) -> None:
        (_, *before), (_, *after) = self.nodes[source.name].shape, self.nodes[node.name].shape
        self.features = self.features or source.name
        if before == after:
            self.dropped.append(f"{node.target}: pooling {before[0]}x{before[1]} to its own size")
            node.replace_all_uses_with(source)
            self.graph.graph.erase_node(node)
            return
        if any(b % a for b, a in zip(before, after, strict=True)):
            raise ModelError(f"{node.target} pools {before} cells to {after}: windows of unequal size")
        window = (before[0] // after[0], before[1] // after[1])
        stride = window if after != [1, 1] else (1, 1)
        name = str(node.target) if node.op == "call_module" else f"{node.name}_window"
        self.graph.add_submodule(name, nn.AvgPool2d(window, stride))
        with self.graph.graph.inserting_before(node):
            new = self.graph.graph.call_module(name, (source,))
        node.replace_all_uses_with(new)
        self.graph.graph.erase_node(node)
        self.nodes[new.name] = self.nodes[node.name]
        self.coerced.append(f"{name}: adaptive pooling became a {window[0]}x{window[1]} window")

    def _views(self, node: fx.Node) -> bool:
        """Whether this is x.view(n, -1), x.reshape(n, -1) or x.flatten(1) on a map."""
        named = node.op == "call_method" and node.target in {"view", "reshape", "flatten"}
        found, source = self.nodes.get(node.name), self.nodes.get(node.all_input_nodes[0].name)
        return bool(named and found and source and len(found.shape) == 1 and len(source.shape) == 3)

    def _flatten(self, node: fx.Node, source: fx.Node) -> None:
        shape = self.nodes[source.name].shape
        if len(self.nodes[node.name].shape) != 1 or len(shape) != 3:
            raise ModelError(f"{node.name} flattens {shape} to {self.nodes[node.name].shape}, not a map to a vector")
        self.features = self.features or source.name
        node.replace_all_uses_with(source)
        self.graph.graph.erase_node(node)
        self.flat[source.name] = shape
        self.dropped.append(f"{node.name}: flatten of {shape[0]}x{shape[1]}x{shape[2]}")

    def _linear(self, node: fx.Node, source: fx.Node, linear: nn.Linear) -> None:
        if source.name not in self.flat:
            raise ModelError(f"{node.target} is linear but its input was not flattened from a map: not supported")
        channels, height, width = self.flat[source.name]
        window = (height, width)
        conv = nn.Conv2d(channels, linear.out_features, window, bias=linear.bias is not None, device="meta")
        conv.weight = nn.Parameter(linear.weight.detach().view(conv.weight.shape), linear.weight.requires_grad)
        conv.bias = linear.bias
        self.graph.add_submodule(str(node.target), conv.train(linear.training))
        self.flat[node.name] = (linear.out_features, 1, 1)
        self.linears.append(str(node.target))
        self.coerced.append(f"{node.target}: linear became a {height}x{width} convolution to {linear.out_features}")

    def report(self, nodes: dict[str, Node]) -> Surgery:
        """The outcome, with the untouched modules listed."""
        touched = {entry.split(":")[0] for entry in self.coerced}
        copied = [
            name
            for name, module in self.graph.named_modules()
            if name not in touched and any(True for _ in module.parameters(recurse=False))
        ]
        linears = tuple(self.linears)
        return Surgery(self.graph, self.size, self.features, linears, copied, self.coerced, self.dropped, nodes)

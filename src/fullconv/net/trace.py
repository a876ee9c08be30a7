"""What every node of a network sees: its graph is run once, on the meta device, and geometry follows along."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer, Tap
from fullconv.net.operations import LAYERS, kind_of
from fullconv.net.rules import Call, Seen, Taps, follow
from fullconv.net.shapes import layers_of_call, layers_of_module
from fullconv.net.tracer import run_node, traced

__all__ = ["Node", "Taps", "layers_of", "trace", "traced"]


@dataclass(frozen=True)
class Node:
    """One node of a traced network: its output's shape without the batch, and its geometry by axis.

    `taps` is (vertical, horizontal), or None where the output is not a C x H x W map (after Flatten, say) or cannot
    be followed; `module` is the module that the node calls, if it calls one. `kind` is the operation under torch's
    name, `layers` its kernel where it has one, be it a module or a function, and `seen` all that is known of its
    output; `owned` names the parameters that a function gets, directly or from other functions of parameters, and
    `weight` is the shape of a convolution's kernel that is one of them.
    """

    name: str
    target: str
    module: nn.Module | None
    shape: tuple[int, ...]
    taps: Taps | None
    kind: str = ""
    layers: tuple[Layer, Layer] | None = None
    seen: Seen = field(default_factory=Seen)
    owned: tuple[str, ...] = ()
    weight: tuple[int, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether the output has rows and columns, in whatever order its dimensions are."""
        return self.seen.kind == "map"


def trace(graph: fx.GraphModule, size: tuple[int, int] = (224, 224), channels: int = 3) -> dict[str, Node]:
    """Every node by name, in order, with its shape for one image of `size` (height, width) and its geometry.

    Nothing is computed: shapes are found on the meta device, in evaluation mode.
    """
    modes = {module: module.training for module in graph.modules()}
    graph.eval()
    dtype = next((p.dtype for p in graph.parameters() if p.is_floating_point()), torch.float32)
    try:
        return _Follower(graph, torch.empty(1, channels, *size, device="meta", dtype=dtype)).run()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        cause = str(error).partition("\n")[0]
        raise ModelError(f"the network does not run on a {size[0]}x{size[1]} image: {cause}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def layers_of(module: nn.Module) -> tuple[Layer, Layer] | None:
    """The vertical and the horizontal `Layer` of a convolution or pooling module; None for other modules."""
    return layers_of_module(module)


class _Follower:
    """Goes through the graph once and notes each node."""

    def __init__(self, graph: fx.GraphModule, image: Tensor) -> None:
        self.graph, self.image = graph, image
        self.values: dict[fx.Node, Any] = {}
        self.seen: dict[fx.Node, Seen] = {}
        self.held: dict[fx.Node, tuple[str, ...]] = {}
        self.parameters = {name for name, _ in graph.named_parameters()}

    def run(self) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for node in self.graph.graph.nodes:
            if node.op == "output":
                break
            nodes[node.name] = self._visit(node)
        return nodes

    def _visit(self, node: fx.Node) -> Node:
        module = self.graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        kind, layers, weight = node.op, None, tuple[int, ...]()
        if node.op == "placeholder":
            first = not self.values
            self.values[node] = self.image if first else (node.args[0] if node.args else None)
            self.seen[node] = Seen("map", (Tap(), Tap())) if first else Seen()
        else:
            self.values[node] = run_node(module, node, self.values, self.graph)
            self.seen[node] = Seen()
        if node.op.startswith("call"):
            kind = kind_of(node, module)
            if not kind and module is not None and _alone(module, *self._first(node)):
                kind = "identity"
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: self.values[n])
            call = Call(node, kind, module, args, kwargs, self.values[node], self.seen, self.values)
            self.seen[node] = follow(call)
            if kind in LAYERS:
                layers = layers_of_module(module) if module is not None else layers_of_call(kind, call)
                weight = tuple(call.arg(1, "weight").shape) if module is None and kind.startswith("conv") else ()
        value, seen = self.values[node], self.seen[node]
        value = value[0] if isinstance(value, tuple) and value else value  # a pooling that keeps its indices, chunks
        shape = tuple(int(n) for n in value.shape[1:]) if isinstance(value, Tensor) else ()
        plain_map = seen.kind == "map" and len(shape) == 3 and seen.axes == (-2, -1)
        target = (
            str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        )
        owned = self._owned(node)
        return Node(
            node.name, target, module, shape, seen.taps if plain_map else None, kind, layers, seen, owned, weight
        )

    def _owned(self, node: fx.Node) -> tuple[str, ...]:
        """The parameters that go into a node and have not been named by an earlier one that meets the image."""
        names = dict.fromkeys(name for source in node.all_input_nodes for name in self.held.get(source, ()))
        if node.op == "get_attr" and node.target in self.parameters:
            names = {str(node.target): None}
        if self.seen[node].kind == "plain":
            self.held[node] = tuple(names)
            return ()
        self.parameters -= set(names)
        for source in node.all_input_nodes:
            self.held.pop(source, None)
        return tuple(names)

    def _first(self, node: fx.Node) -> tuple[Any, Seen]:
        source = node.all_input_nodes[0]
        return self.values[source], self.seen[source]


def _alone(module: nn.Module, like: Any, seen: Seen) -> bool:
    """Whether a module that is not torch's own treats every cell of a map alone, and all of them alike.

    Asked of a copy with random parameters, in evaluation mode: a change in one cell must change no other cell, and
    cells in another order must come out in that order.
    """
    if not isinstance(like, Tensor) or like.dim() != 4 or seen.axes not in ((-2, -1), (-3, -2)):
        return False
    last = seen.axes == (-3, -2)
    inner = copy.deepcopy(module).to_empty(device="cpu").double().eval()

    def probe(x: Tensor) -> Tensor:
        out: Tensor = inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if last else inner(x)
        return out

    generator = torch.Generator().manual_seed(0)
    for value in [*inner.parameters(), *inner.buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.5, 1.5, generator=generator)
    image = (
        torch.rand(1, int(like.shape[3 if last else 1]), 3, 4, generator=generator, dtype=torch.float64, device="cpu")
        - 0.5
    )
    other = image.clone()
    other[..., 1, 2] += 1
    order = torch.randperm(12, generator=generator, device="cpu")
    mixed = image.flatten(2)[..., order].view_as(image)
    with torch.no_grad():
        try:
            first, second, third = probe(image.clone()), probe(other), probe(mixed)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return False
    if not isinstance(first, Tensor) or first.shape[2:] != image.shape[2:]:
        return False
    second[..., 1, 2] = first[..., 1, 2]
    return torch.equal(first, second) and torch.allclose(first.flatten(2)[..., order].view_as(first), third)

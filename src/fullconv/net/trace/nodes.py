"""The nodes of a traced network, each with its shape and the geometry of its cells."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer, Tap
from fullconv.net.trace.layers import layers_of_call, layers_of_module
from fullconv.net.trace.operations import LAYERS, kind_of
from fullconv.net.trace.rules import propagate
from fullconv.net.trace.tracer import run_node
from fullconv.net.trace.values import Call, FeatureGeometry, ValueInfo

__all__ = ["Node", "geometry_of", "modules_outside", "trace"]


@dataclass(frozen=True)
class Node:
    """One node of a traced network.

    `target` is the module or function that the node calls, `module` the module itself, None for a function. `kind` is
    torch's name of the operation, and `layers` its kernel (vertical, horizontal), None where it has none. `shape` is
    the output's without the batch, `geometry` that of its cells, None where the output is not a C x H x W map (after
    Flatten, for example) or is not supported; `info` is all that is known of the output. `parameters` names the
    parameters that a function gets, directly or through other functions of parameters alone, and `weight` is the shape
    of the weights of a convolution or linear layer among them. `constant` is the whole shape of a tensor that does not
    depend on the image.
    """

    name: str
    target: str
    module: nn.Module | None
    shape: tuple[int, ...]
    geometry: FeatureGeometry | None
    kind: str = ""
    layers: tuple[Layer, Layer] | None = None
    info: ValueInfo = field(default_factory=ValueInfo)
    parameters: tuple[str, ...] = ()
    weight: tuple[int, ...] = ()
    constant: tuple[int, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether the output has rows and columns, in any order of its dimensions."""
        return self.info.kind == "spatial"


def trace(graph: fx.GraphModule, size: tuple[int, int] = (224, 224), channels: int = 3) -> dict[str, Node]:
    """Return every node by name, in order, with its shape and geometry for one image of `size` (height, width).

    Shapes come from the meta device, in evaluation mode, so nothing is computed. Raises ModelError where the network
    does not run on an image of this size.
    """
    modes = {module: module.training for module in graph.modules()}
    graph.eval()
    dtype = next((p.dtype for p in graph.parameters() if p.is_floating_point()), torch.float32)
    try:
        return _Interpreter(graph, torch.empty(1, channels, *size, device="meta", dtype=dtype)).run()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        cause = str(error).partition("\n")[0]
        message = f"the network does not run on a {size[0]}x{size[1]} image: {cause}"
        raise ModelError(message, code="network-does-not-run") from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def geometry_of(node: Node) -> FeatureGeometry:
    """Return the geometry of a node's map; ModelError where it has none."""
    if node.geometry is None:
        raise ModelError(f"the geometry of {node.name} is not known: not supported", code="unknown-geometry")
    return node.geometry


def modules_outside(graph: fx.GraphModule, part: set[fx.Node]) -> set[str]:
    """Return the names of the modules that nodes outside this part call, or whose parameters they use."""
    nodes = graph.graph.nodes
    called = {str(node.target) for node in nodes if node.op == "call_module" and node not in part}
    read = [node for node in nodes if node.op == "get_attr" and not part.issuperset(node.users)]
    return called | {str(node.target).rpartition(".")[0] for node in read}


class _Interpreter:
    """One pass over the graph: runs each node on the meta device and propagates geometry through it."""

    def __init__(self, graph: fx.GraphModule, image: Tensor) -> None:
        self.graph, self.image = graph, image
        self.values: dict[fx.Node, Any] = {}
        self.infos: dict[fx.Node, ValueInfo] = {}
        self.computed_from: dict[fx.Node, tuple[str, ...]] = {}
        self.unclaimed = {name for name, _ in graph.named_parameters()}

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
            is_image = not self.values
            self.values[node] = self.image if is_image else (node.args[0] if node.args else None)
            self.infos[node] = ValueInfo("spatial", FeatureGeometry(Tap(), Tap())) if is_image else ValueInfo()
        else:
            self.values[node] = run_node(module, node, self.values, self.graph)
            self.infos[node] = ValueInfo()
        if node.op.startswith("call"):
            kind, call = self._make_call(node, module)
            self.infos[node] = propagate(call)
            if kind in LAYERS:
                layers = layers_of_module(module) if module is not None else layers_of_call(kind, call)
            if module is None and kind in ("conv2d", "conv_transpose2d", "linear"):
                weight = tuple(call.arg(1, "weight").shape)
        value, info = self.values[node], self.infos[node]
        value = value[0] if isinstance(value, tuple) and value else value  # max pooling with indices, or chunks
        shape = tuple(int(n) for n in value.shape[1:]) if isinstance(value, Tensor) else ()
        is_channels_first = info.kind == "spatial" and len(shape) == 3 and info.axes == (-2, -1)
        geometry = info.geometry if is_channels_first else None
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        parameters = self._claim_parameters(node)
        constant = tuple(value.shape) if info.kind == "constant" and isinstance(value, Tensor) else ()
        return Node(node.name, target, module, shape, geometry, kind, layers, info, parameters, weight, constant)

    def _make_call(self, node: fx.Node, module: nn.Module | None) -> tuple[str, Call]:
        """Return the kind of the node's operation, and its call with values for nodes."""
        kind = kind_of(node, module)
        if not kind and module is not None and node.all_input_nodes:
            first = node.all_input_nodes[0]
            kind = "identity" if _works_cellwise(module, self.values[first], self.infos[first]) else ""
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: self.values[n])
        return kind, Call(node, kind, module, args, kwargs, self.values[node], self.infos, self.values)

    def _claim_parameters(self, node: fx.Node) -> tuple[str, ...]:
        """Return the parameters that go into a node that depends on the image, except those of earlier such nodes."""
        names = dict.fromkeys(name for source in node.all_input_nodes for name in self.computed_from.get(source, ()))
        if node.op == "get_attr" and node.target in self.unclaimed:
            names = {str(node.target): None}
        if self.infos[node].kind == "constant":
            self.computed_from[node] = tuple(names)
            return ()
        self.unclaimed -= set(names)
        for source in node.all_input_nodes:
            self.computed_from.pop(source, None)
        return tuple(names)


def _works_cellwise(module: nn.Module, like: Any, info: ValueInfo) -> bool:
    """Return whether a custom module treats every cell of a map separately, and all cells alike.

    A copy with random parameters is tried in evaluation mode: a change in one cell must change no other cell, and
    cells in another order must come out in that order.
    """
    if not isinstance(like, Tensor) or like.dim() != 4 or info.axes not in ((-2, -1), (-3, -2)):
        return False
    channels_last = info.axes == (-3, -2)
    trial = copy.deepcopy(module).to_empty(device="cpu").double().eval()

    def run(x: Tensor) -> Tensor:
        out: Tensor = trial(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if channels_last else trial(x)
        return out

    generator = torch.Generator().manual_seed(0)
    for value in [*trial.parameters(), *trial.buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.5, 1.5, generator=generator)
    shape = 1, int(like.shape[3 if channels_last else 1]), 3, 4
    image = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu") - 0.5
    changed = image.clone()
    changed[..., 1, 2] += 1
    order = torch.randperm(12, generator=generator, device="cpu")
    shuffled = image.flatten(2)[..., order].view_as(image)
    with torch.no_grad():
        try:
            first, second, third = run(image.clone()), run(changed), run(shuffled)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return False
    if not isinstance(first, Tensor) or first.shape[2:] != image.shape[2:]:
        return False
    second[..., 1, 2] = first[..., 1, 2]
    return torch.equal(first, second) and torch.allclose(first.flatten(2)[..., order].view_as(first), third)

"""What every node of a network sees: torch.fx runs the network once and geometry follows along.

torch.fx is used rather than torch.export because it keeps the modules and their names, so that the state dict
stays what it was, and because its graphs stay free of the example's height and width.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.errors import ModelError
from fullconv.geometry import Layer, Tap

__all__ = ["Node", "layers_of", "trace", "traced"]

Taps = tuple[Tap, Tap]

_JOINS: tuple[Callable[..., Any], ...] = (
    operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul, torch.cat,
)  # fmt: skip
_POINTWISE: tuple[Callable[..., Any], ...] = (
    functional.relu, functional.relu6, functional.silu, functional.gelu, functional.hardswish,
    functional.hardtanh, functional.leaky_relu, functional.dropout, torch.relu, torch.sigmoid, torch.tanh,
    operator.getitem,
)  # fmt: skip
_POINTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.modules.batchnorm._BatchNorm, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ReLU,
    nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.LocalResponseNorm,
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One node of a traced network: its output's shape without the batch, and its geometry by axis.

    `taps` is (vertical, horizontal), or None where the output is not a map (after Flatten, say) or cannot be
    followed; `module` is the module that the node calls, if it calls one.
    """

    name: str
    target: str
    module: nn.Module | None
    shape: tuple[int, ...]
    taps: Taps | None


def traced(model: nn.Module) -> fx.GraphModule:
    """The model as a torch.fx graph; ModelError where its forward cannot be followed symbolically."""
    if isinstance(model, fx.GraphModule):
        return model
    try:
        return fx.symbolic_trace(model)
    except Exception as error:
        name = type(model).__name__
        message = f"{name} cannot be traced by torch.fx: {error}. Its forward must not branch on data."
        raise ModelError(message) from error


def trace(graph: fx.GraphModule, size: tuple[int, int] = (224, 224), channels: int = 3) -> dict[str, Node]:
    """Every node by name, in order, with its shape for one image of `size` (height, width) and its geometry."""
    tracer = _Tracer(graph)
    modes = {module: module.training for module in graph.modules()}
    graph.eval()
    like = next((p for p in graph.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        with torch.no_grad():
            tracer.run(like.new_zeros(1, channels, *size))
    except (RuntimeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise ModelError(f"the network does not run on a {size[0]}x{size[1]} image: {cause}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return tracer.nodes


def layers_of(module: nn.Module) -> tuple[Layer, Layer] | None:
    """The vertical and the horizontal `Layer` of a convolution or pooling module; None for other modules."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d):
        layers = [_layer(module, axis) for axis in (0, 1)]
        return layers[0], layers[1]
    return None


def _layer(module: nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d, axis: int) -> Layer:
    def pick(value: Any) -> int:
        return int(value[axis]) if isinstance(value, Sequence) else int(value)

    kernel, dilation = pick(module.kernel_size), pick(getattr(module, "dilation", 1))
    padding = getattr(module, "padding", 0)
    if padding == "same":
        both = dilation * (kernel - 1)
        pads = (both // 2, both - both // 2)
    else:
        pads = (0, 0) if padding == "valid" else (pick(padding),) * 2
    return Layer(
        kernel=kernel,
        stride=pick(module.stride),
        padding=pads,
        dilation=dilation,
        ceil_mode=bool(getattr(module, "ceil_mode", False)),
        transposed=isinstance(module, nn.ConvTranspose2d),
        output_padding=pick(module.output_padding) if isinstance(module, nn.ConvTranspose2d) else 0,
    )


class _Tracer(fx.Interpreter):
    """Runs the graph once and notes each node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.nodes: dict[str, Node] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output":
            return result
        module = cast(nn.Module, self.fetch_attr(n.target)) if n.op == "call_module" else None  # type: ignore[arg-type]
        value = result[0] if isinstance(result, tuple) and result else result  # a pooling that keeps its indices
        shape = tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
        target = str(n.target) if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))
        self.nodes[n.name] = Node(n.name, target, module, shape, self._taps(n, module, shape))
        return result

    def _taps(self, n: fx.Node, module: nn.Module | None, shape: tuple[int, ...]) -> Taps | None:
        if n.op == "placeholder":
            return Tap(), Tap()
        inputs = [self.nodes[node.name] for node in n.all_input_nodes]
        taps = [node.taps for node in inputs]
        if len(shape) != 3 or not taps or any(tap is None for tap in taps):
            return None
        known = cast(list[Taps], taps)
        if module is not None:
            layers = layers_of(module)
            if layers:
                return known[0][0].after(layers[0]), known[0][1].after(layers[1])
            return known[0] if isinstance(module, _POINTWISE_MODULES) else None
        cell_by_cell = all(node.shape[1:] == shape[1:] for node in inputs)
        if n.op == "call_function" and (n.target in _POINTWISE or n.target in _JOINS) and cell_by_cell:
            return _joined(known)
        return None


def _joined(taps: list[Taps]) -> Taps:
    axes = []
    for axis in (0, 1):
        field = taps[0][axis].field
        for other in taps[1:]:
            field = field.joined(other[axis].field)
        axes.append(Tap(field, taps[0][axis].layers))
    return axes[0], axes[1]

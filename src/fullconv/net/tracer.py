"""The graph of a network: torch.fx follows its forward once, for images of one size.

torch.fx is used rather than torch.export because it keeps the modules and their names, so that the state dict
and the modes stay what they were, and because its graphs do not fix the batch, height and width of the example.
Plain symbolic tracing stops where a forward computes with the size of the image ("same" padding, checks). Here
every value has a shape too, on the meta device and so without any computation: decisions on sizes are taken as
the example's size demands, decisions on the image's content are refused.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional

from fullconv.errors import ModelError

__all__ = ["run_node", "traced"]

_CHECKS: tuple[Callable[..., Any], ...] = (torch._assert,)


def traced(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> fx.GraphModule:
    """The model as a torch.fx graph; it shares the model's parameters. A graph is given back as it is.

    The forward is followed as in evaluation mode, so that heads for training only are left out; the modules of the
    graph have the modes that they had. Raises ModelError where the forward does not run on `channels` x `size`
    or decides on the content of the image.
    """
    if isinstance(model, fx.GraphModule):
        return model
    modes = {module: module.training for module in model.modules()}
    model.eval()
    name = type(model).__name__
    try:
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        tracer = _Tracer(torch.empty(1, channels, *size, device="meta", dtype=dtype))
        graph = tracer.trace(model)
        result = fx.GraphModule(tracer.root, graph, name)
        result.graph.eliminate_dead_code()
        result.delete_all_unused_submodules()
        _forget_constants(result, set(model.state_dict()))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be traced by torch.fx: {_in_words(error)}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    result.training = model.training
    _revive_dropout(result)
    return result


def run_node(module: nn.Module | None, node: fx.Node, values: dict[fx.Node, Any], root: nn.Module) -> Any:
    """What the node gives for these values of the nodes before it, on the meta device."""
    if node.op == "get_attr":
        return _to_meta(_attribute(root, str(node.target)))
    args, kwargs = fx.node.map_arg(
        (node.args, dict(node.kwargs)),
        lambda n: values[n] if n in values else run_node(None, n, values, root),
    )
    with torch.no_grad():
        if node.op == "call_module":
            assert module is not None
            held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            return functional_call(module, {key: _to_meta(value) for key, value in held.items()}, args, kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], node.target)(*args, **kwargs)


def _to_meta(value: Any) -> Any:
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def _attribute(root: nn.Module, path: str) -> Any:
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


class _Value(fx.Proxy):
    """A value of the forward that knows its shape; numbers that come from sizes can be counted with."""

    @property
    def example(self) -> Any:
        assert isinstance(self.tracer, _Tracer)
        return self.tracer.values[self.node]

    def __getattr__(self, k: str) -> Any:
        example = self.example
        if isinstance(example, Tensor) and k == "shape":
            return self.size()
        if isinstance(example, Tensor) and k in ("ndim", "is_cuda", "is_sparse", "requires_grad", "layout", "names"):
            return getattr(example, k)
        return super().__getattr__(k)

    def size(self, dim: int | None = None) -> Any:
        if dim is not None:
            return self.tracer.create_proxy("call_method", "size", (self, dim), {})
        return tuple(self.size(index) for index in range(self.example.dim()))

    def dim(self) -> int:
        return int(self.example.dim())

    def __len__(self) -> int:
        return len(self.example)

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __ceil__(self) -> int:
        return math.ceil(float(self._number()))

    def __floor__(self) -> int:
        return math.floor(float(self._number()))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._number(), digits)

    def _number(self) -> Any:
        if isinstance(self.example, Tensor):
            raise fx.proxy.TraceError("it reads a number out of the image")
        return self.example


class _Tracer(fx.Tracer):
    """Follows a forward; `values` has what each node gives for the example, on the meta device."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.values: dict[fx.Node, Any] = {}
        self.inside = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_args_for_root(self, *args: Any, **others: Any) -> Any:
        """Arguments beside the image have their defaults: a mask that may be given is not."""
        forward, values = super().create_args_for_root(*args, **others)
        return forward, [*values[:2], *(_default(v.node) if isinstance(v, _Value) else v for v in values[2:])]

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **others: Any) -> Any:
        if kind == "call_function" and target in _CHECKS:
            return None
        if kind == "call_function" and target is functional.pad:
            args, kwargs = _whole(args), _whole(kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **others)
        node = proxy.node
        if kind == "placeholder":
            self.values[node] = self.example if not self.values else _default(node)
        elif kind != "output":
            self.values[node] = self._evaluate(node)
        return proxy

    def _evaluate(self, node: fx.Node) -> Any:
        self.inside = True
        try:
            module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
            return run_node(module, node, self.values, self.root)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            height, width = self.example.shape[2:]
            cause = str(error).partition("\n")[0]
            if "meta tensors" in cause:
                raise fx.proxy.TraceError("it reads a number out of the image") from error
            if _in_words(error) == _OF_ITS_OWN:
                raise ModelError(f"{type(self.root).__name__} cannot be traced by torch.fx: {_OF_ITS_OWN}") from error
            raise ModelError(
                f"the network does not run on a {height}x{width} image: {cause}{_hint(self.root)}"
            ) from error
        finally:
            self.inside = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """torch.nn's own; subclasses that keep its forward; norms with statistics; what asks for the mode."""
        forward = getattr(m.forward, "__func__", m.forward)
        if isinstance(m, nn.Sequential):
            return False
        if super().is_leaf_module(m, module_qualified_name) or forward.__module__.startswith("torch.nn."):
            return not isinstance(m, nn.ModuleList | nn.ModuleDict)
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            return True
        code = getattr(inspect.unwrap(forward), "__code__", None)
        return not list(m.children()) and code is not None and "training" in code.co_names

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.inside:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except fx.proxy.TraceError:
            if list(m.children()) or any(True for _ in m.parameters()):
                raise
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.inside else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise fx.proxy.TraceError("it decides on the content of the image")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.values[obj.node]
        length = value.shape[0] if isinstance(value, Tensor) else len(value)
        return iter([cast(Any, obj)[index] for index in range(length)])


_OF_ITS_OWN = "its forward makes tensors of its own, of places for instance: not supported"


def _in_words(error: Exception) -> str:
    """Why a forward cannot be followed; torch's own words where they say it."""
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    if "expected device" in cause or re.search(r"^(ones|zeros|full|empty|rand|randn)\(\) ", cause):
        return _OF_ITS_OWN
    if "item assignment" in cause:
        return "its forward writes into parts of a tensor"
    return f"{cause}. Its forward must not branch on data." if isinstance(error, fx.proxy.TraceError) else cause


def _hint(model: nn.Module) -> str:
    """What to do where the size of the image may be wrong: libraries know that of theirs."""
    if type(model).__module__.startswith("torchvision.") or hasattr(model, "default_cfg"):
        return ""
    if hasattr(model, "input_size"):
        return "; the size is that of its attribute input_size"
    return "; if it is made for RGB images of another size, give it an attribute input_size = (height, width)"


def _default(placeholder: fx.Node) -> Any:
    return placeholder.args[0] if placeholder.args else None


def _whole(value: Any) -> Any:
    """Numbers that were computed from the size of the image become plain ones: padding is that of the example."""
    if isinstance(value, tuple | list):
        return type(value)(_whole(entry) for entry in value)
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    return value.example if isinstance(value, _Value) and not isinstance(value.example, Tensor) else value


def _forget_constants(graph: fx.GraphModule, kept: set[str]) -> None:
    """Buffers that the model keeps out of its state dict stay out of the graph's."""
    for name in [name for name, _ in graph.named_buffers() if name not in kept]:
        owner, _, field = name.rpartition(".")
        graph.get_submodule(owner)._non_persistent_buffers_set.add(field)


def _revive_dropout(graph: fx.GraphModule) -> None:
    """functional.dropout was followed in evaluation mode; as a module it knows the mode again."""
    kinds = {functional.dropout: nn.Dropout, functional.dropout2d: nn.Dropout2d}
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in kinds:
            p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            graph.add_submodule(node.name, kinds[node.target](p).train(graph.training))
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.call_module(node.name, (node.all_input_nodes[0],)))
            graph.graph.erase_node(node)
    graph.recompile()

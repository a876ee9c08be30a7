"""The graph of a network, recorded by torch.fx in one run of its forward on an image of one size.

torch.fx is used rather than torch.export because it keeps the modules and their names, so that state dicts stay
valid, and because its graphs do not fix the batch, height and width of the example.
Plain symbolic tracing stops where a forward computes with the size of the image ("same" padding, checks). Here
every value also has a shape, on the meta device and so without any computation: decisions on sizes are taken as
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

__all__ = ["run_node", "trace_fx"]

_CHECKS: tuple[Callable[..., Any], ...] = (torch._assert,)


def trace_fx(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> fx.GraphModule:
    """Return the model as a torch.fx graph that shares the model's parameters; a graph is returned unchanged.

    The forward runs in evaluation mode, so heads for training only are left out; the modules of the graph keep their
    own modes. Raises ModelError where the forward does not run on an image of `channels` x `size` or branches on the
    content of the image.
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
        _exclude_constants(result, set(model.state_dict()))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be traced by torch.fx: {_explain(error)}", code="cannot-trace") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    result.training = model.training
    _restore_dropout(result)
    return result


def run_node(module: nn.Module | None, node: fx.Node, values: dict[fx.Node, Any], root: nn.Module) -> Any:
    """Return the node's result on the meta device for these `values` of the nodes before it."""
    if node.op == "get_attr":
        return _to_meta(_attribute(root, str(node.target)))
    args, kwargs = fx.node.map_arg(
        (node.args, dict(node.kwargs)),
        lambda n: values[n] if n in values else run_node(None, n, values, root),
    )
    with torch.no_grad():
        if node.op == "call_module":
            assert module is not None
            state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            return functional_call(module, {key: _to_meta(value) for key, value in state.items()}, args, kwargs)
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
    """A value of the forward that knows its shape; numbers that come from sizes can be used in arithmetic."""

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
            raise fx.proxy.TraceError("it reads a number from the image")
        return self.example


class _Tracer(fx.Tracer):
    """Records a forward; `values` holds the result of each node for the example, on the meta device."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.values: dict[fx.Node, Any] = {}
        self.evaluating = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_args_for_root(self, *args: Any, **others: Any) -> Any:
        """Give every argument but the image its default: an optional mask is None."""
        forward, values = super().create_args_for_root(*args, **others)
        return forward, [*values[:2], *(_default(v.node) if isinstance(v, _Value) else v for v in values[2:])]

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **others: Any) -> Any:
        if kind == "call_function" and target in _CHECKS:
            return None
        if kind == "call_function" and target is functional.pad:
            args, kwargs = _to_numbers(args), _to_numbers(kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **others)
        node = proxy.node
        if kind == "placeholder":
            self.values[node] = self.example if not self.values else _default(node)
        elif kind != "output":
            self.values[node] = self._evaluate(node)
        return proxy

    def _evaluate(self, node: fx.Node) -> Any:
        self.evaluating = True
        try:
            module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
            return run_node(module, node, self.values, self.root)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            height, width = self.example.shape[2:]
            cause = str(error).partition("\n")[0]
            if "meta tensors" in cause:
                raise fx.proxy.TraceError("it reads a number from the image") from error
            if _explain(error) == _MAKES_TENSORS:
                message = f"{type(self.root).__name__} cannot be traced by torch.fx: {_MAKES_TENSORS}"
                raise ModelError(message, code="cannot-trace") from error
            message = f"the network does not run on a {height}x{width} image: {cause}{_size_hint(self.root)}"
            raise ModelError(message, code="network-does-not-run") from error
        finally:
            self.evaluating = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module stays one node.

        True for torch.nn's modules, subclasses with the same forward, batch norms, and modules that read the mode.
        """
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
        if self.evaluating:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except fx.proxy.TraceError:
            if list(m.children()) or any(True for _ in m.parameters()):
                raise
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise fx.proxy.TraceError("it branches on the content of the image")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.values[obj.node]
        length = value.shape[0] if isinstance(value, Tensor) else len(value)
        return iter([cast(Any, obj)[index] for index in range(length)])


_MAKES_TENSORS = "its forward creates tensors, of positions for example: not supported"


def _explain(error: Exception) -> str:
    """Return why a forward cannot be traced, in torch's words where they are clear."""
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    if "expected device" in cause or re.search(r"^(ones|zeros|full|empty|rand|randn)\(\) ", cause):
        return _MAKES_TENSORS
    if "item assignment" in cause:
        return "its forward writes into parts of a tensor"
    return f"{cause}. Its forward must not branch on data." if isinstance(error, fx.proxy.TraceError) else cause


def _size_hint(model: nn.Module) -> str:
    """Return what to do where the image size may be wrong; libraries know the sizes of their models."""
    if type(model).__module__.startswith("torchvision.") or hasattr(model, "default_cfg"):
        return ""
    if getattr(model, "input_size", None) is not None:
        return "; this size is its attribute input_size"
    return "; if it takes RGB images of another size, give it an attribute input_size = (height, width)"


def _default(placeholder: fx.Node) -> Any:
    return placeholder.args[0] if placeholder.args else None


def _to_numbers(value: Any) -> Any:
    """Replace values that were computed from the image size by plain numbers: padding is that of the example."""
    if isinstance(value, tuple | list):
        return type(value)(_to_numbers(entry) for entry in value)
    if isinstance(value, dict):
        return {key: _to_numbers(entry) for key, entry in value.items()}
    return value.example if isinstance(value, _Value) and not isinstance(value.example, Tensor) else value


def _exclude_constants(graph: fx.GraphModule, state_keys: set[str]) -> None:
    """Keep buffers that are not in the model's state dict out of the graph's."""
    for name in [name for name, _ in graph.named_buffers() if name not in state_keys]:
        owner, _, field = name.rpartition(".")
        graph.get_submodule(owner)._non_persistent_buffers_set.add(field)


def _restore_dropout(graph: fx.GraphModule) -> None:
    """Turn functional.dropout, which was traced in evaluation mode, into modules that follow the mode."""
    kinds = {functional.dropout: nn.Dropout, functional.dropout2d: nn.Dropout2d}
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in kinds:
            p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            graph.add_submodule(node.name, kinds[node.target](p).train(graph.training))
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.call_module(node.name, (node.all_input_nodes[0],)))
            graph.graph.erase_node(node)
    graph.recompile()

"""What each operation of a network does to the map that it works on, so that geometry follows it.

A value is `plain` (it does not depend on the image), a `map` (it has rows and columns), `pooled` (it depends on
the image and has no place in it any more) or `lost`. The rules know torch's operations, no model by name: whatever
is traced down to them can be followed. A pooled value that meets a map again is global context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer, Tap, have_same_size
from fullconv.net import shapes
from fullconv.net.operations import (
    ALONG,
    ATTENTION,
    CELLWISE,
    CHANNELWISE,
    LAYERS,
    REDUCTIONS,
    RESHAPES,
    STATISTICS,
)  # fmt: skip

__all__ = ["Call", "Seen", "Taps", "follow"]

Taps = tuple[Tap, Tap]


@dataclass(frozen=True)
class Seen:
    """What is known of a value. `axes` are the dimensions of rows and columns, counted from the last (-1).

    `context` names where global context came in; `strict` says that branches met whose sizes agree, or may, for some
    sizes of the image only; `reason` says why a value is lost.
    """

    kind: Literal["plain", "map", "pooled", "lost"] = "plain"
    taps: Taps | None = None
    axes: tuple[int, int] = (-2, -1)
    context: frozenset[str] = frozenset()
    strict: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Call:
    """One node of a graph with what goes in and comes out: `args` and `kwargs` hold the nodes' values."""

    node: fx.Node
    kind: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    seen: dict[fx.Node, Seen]
    values: dict[fx.Node, Any]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    @property
    def first(self) -> fx.Node:
        """The node that the operation works on."""
        return self.node.all_input_nodes[0]

    @property
    def label(self) -> str:
        """How a message names the operation."""
        module = f" ({type(self.module).__name__})" if self.module is not None else ""
        return f"{self.node.target if self.module is not None else self.node.name}{module}"


def follow(call: Call) -> Seen:
    """What is known of the result of one operation."""
    inputs = [call.seen[node] for node in call.node.all_input_nodes]
    lost = next((seen for seen in inputs if seen.kind == "lost"), None)
    if lost is not None or not any(seen.kind != "plain" for seen in inputs):
        return lost or Seen()
    if call.kind in ("size", "getattr", "dim", "numel"):
        return Seen()
    context = frozenset().union(*(seen.context for seen in inputs))
    if all(seen.kind in ("plain", "pooled") for seen in inputs):
        return Seen("pooled", context=context)
    try:
        rule = _rule(call.kind)
        if rule is None:
            return _lost(call, "cannot be followed from cell to cell")
        found = rule(call)
    except ModelError as error:
        return _lost(call, str(error))
    strict = found.strict or any(seen.strict for seen in inputs)
    return replace(found, context=found.context | context, strict=strict) if found.kind != "plain" else found


def _rule(kind: str) -> Callable[[Call], Seen] | None:
    for kinds, rule in _RULES:
        if kind in kinds:
            return rule
    return None


def _lost(call: Call, why: str) -> Seen:
    return Seen("lost", reason=f"{call.label} {why}")


def _cellwise(call: Call) -> Seen:
    """Maps meet cell by cell; what else takes part is the same everywhere, or made of everything (attention)."""
    maps = [n for n in call.node.all_input_nodes if call.seen[n].kind == "map"]
    axes, context, strict = call.seen[maps[0]].axes, frozenset[str](), False
    size = _sizes(call.result, axes)
    for node in call.node.all_input_nodes:
        seen, value = call.seen[node], call.values[node]
        if not isinstance(value, Tensor):
            continue
        own = _sizes(value, axes)
        if seen.kind == "map" and (seen.axes != axes or own != size):
            return _lost(call, f"joins maps of {own} and {size} cells")
        if seen.kind == "plain" and own != (1, 1):
            return _lost(call, "mixes a table of the places into the map: not supported")
        if seen.kind == "pooled":
            context, strict = context | {call.label}, strict or own != (1, 1)
    taps = [_taps(call.seen[n]) for n in maps]
    return Seen("map", _joined(taps), axes, context, strict or _meet_by_chance(taps))


def _sizes(value: Any, axes: tuple[int, int]) -> tuple[int, ...]:
    value = value[0] if isinstance(value, tuple | list) else value
    return tuple(int(value.shape[axis]) if value.dim() >= -axis else 1 for axis in axes)


def _taps(seen: Seen) -> Taps:
    if seen.taps is None:
        raise ModelError("gives the form of a map to what is none: not supported")
    return seen.taps


def _joined(taps: list[Taps]) -> Taps:
    axes = []
    for axis in (0, 1):
        field = taps[0][axis].field
        for other in taps[1:]:
            field = field.join(other[axis].field)
        axes.append(Tap(field, taps[0][axis].layers))
    return axes[0], axes[1]


def _meet_by_chance(taps: list[Taps]) -> bool:
    """Whether maps that have one size here would have several at other sizes of the image."""
    return any(not have_same_size(taps[0][axis], other[axis]) for other in taps[1:] for axis in (0, 1))


def _own(call: Call) -> Seen:
    """The operation works on its first input, whose places it does not touch."""
    seen = call.seen[call.first]
    return seen if seen.kind == "map" else _lost(call, "uses a map as a parameter")


def _layer(call: Call) -> Seen:
    seen = _own(call)
    if seen.kind != "map":
        return seen
    result = call.result[0] if isinstance(call.result, tuple) else call.result  # a pooling that keeps its indices
    if shapes.covers_all(call):
        return Seen("pooled")
    if seen.axes != (-2, -1) or result.dim() != 4:
        return _lost(call, "slides over a map whose last dimensions are not rows and columns")
    layers = shapes.layers_of_module(call.module) if call.module is not None else shapes.layers_of_call(call.kind, call)
    assert layers is not None
    dynamic = any(call.seen[n].kind == "pooled" for n in call.node.all_input_nodes)
    context = frozenset({call.label}) if dynamic else frozenset[str]()
    return replace(seen, taps=_after(seen, layers), context=context)


def _after(seen: Seen, layers: tuple[Layer, Layer]) -> Taps:
    taps = _taps(seen)
    return taps[0].after(layers[0]), taps[1].after(layers[1])


def _adaptive(call: Call) -> Seen:
    seen, source = call.seen[call.first], call.values[call.first]
    return seen if call.result.shape == source.shape and call.result.shape[-2:] != (1, 1) else Seen("pooled")


def _reduction(call: Call) -> Seen:
    seen = call.seen[call.first]
    if call.kind in ("max", "min") and len(call.node.all_input_nodes) > 1:
        return _cellwise(call)
    axes = shapes.after_reduction(call, seen.axes)
    return Seen("pooled") if axes is None else replace(seen, axes=axes)


def _reshape(call: Call) -> Seen:
    seen, source = call.seen[call.first], call.values[call.first]
    found = shapes.after_reshape(tuple(source.shape), tuple(call.result.shape), seen.axes)
    if found is None:
        return Seen("pooled")
    axes, blocks = found
    if blocks == (1, 1):
        return replace(seen, axes=axes)
    layers = Layer(blocks[0], blocks[0]), Layer(blocks[1], blocks[1])
    return replace(seen, axes=axes, taps=_after(seen, layers), strict=True)


def _moved(call: Call) -> Seen:
    """permute and transpose: where the dimensions go is read off a tensor that is told apart by its sizes."""
    seen, source = call.seen[call.first], call.values[call.first]
    marks = torch.empty([2 + i for i in range(source.dim())], device="meta")
    method = {"permute": "permute", "transpose": "transpose", "movedim": "movedim"}[call.kind]
    order = [size - 2 for size in getattr(marks, method)(*call.args[1:], **call.kwargs).shape]
    rank = source.dim()
    axes = [order.index(rank + axis) - rank for axis in seen.axes]
    return replace(seen, axes=(axes[0], axes[1]))


def _along(call: Call) -> Seen:
    """Works along one dimension, which must not be one of places."""
    seen, source = call.seen[call.first], call.values[call.first]
    place = {"softmax": 1, "log_softmax": 1, "split": 2, "split_with_sizes": 2, "chunk": 2, "tensor_split": 2}
    default = {"normalize": 1}.get(call.kind, 0)
    at = 2 if call.kind == "normalize" and len(call.args) > 2 else place.get(call.kind, 1)
    found: Any = call.module.dim if call.module is not None else call.arg(at, "dim", default)
    dim = 1 if found is None else int(found)
    dim = dim - source.dim() if dim >= 0 else dim
    if dim in seen.axes:
        return _lost(call, "works along the rows or columns of a map")
    if call.kind == "select":
        return replace(seen, axes=_removed(seen.axes, dim))
    return seen


def _removed(axes: tuple[int, int], dim: int) -> tuple[int, int]:
    """The axes after a dimension (negative) is gone."""
    return axes[0] + (dim > axes[0]), axes[1] + (dim > axes[1])


def _unbind(call: Call) -> Seen:
    seen, source = call.seen[call.first], call.values[call.first]
    dim = int(call.arg(1, "dim", 0))
    dim = dim - source.dim() if dim >= 0 else dim
    return _lost(call, "takes a map apart") if dim in seen.axes else replace(seen, axes=_removed(seen.axes, dim))


def _cat(call: Call) -> Seen:
    parts = call.node.all_input_nodes
    values = [call.values[n] for n in parts]
    dim = int(call.arg(1, "dim", call.kwargs.get("axis", 0)))
    rank = call.result.dim()
    dim = dim - rank if dim >= 0 else dim
    if any(call.seen[n].kind != "map" for n in parts):
        return _lost(call, "joins a map with what is no map")
    axes = call.seen[parts[0]].axes
    size = _sizes(values[0], axes)
    if any(call.seen[n].axes != axes or _sizes(v, axes) != size for n, v in zip(parts, values, strict=True)):
        return _lost(call, "joins maps of different sizes")
    branches = [_taps(call.seen[n]) for n in parts]
    taps = _joined(branches)
    if call.kind == "stack":
        axes = (axes[0] - (dim > axes[0]), axes[1] - (dim > axes[1]))
    elif dim in axes:
        return _lost(call, "puts maps side by side")
    return Seen("map", taps, axes, strict=_meet_by_chance(branches))


def _item(call: Call) -> Seen:
    seen, source = call.seen[call.first], call.values[call.first]
    if not isinstance(source, Tensor):
        return seen
    found = shapes.slices_of(call.args[1], source, seen.axes)
    if found is None:
        return Seen("pooled")
    axes, cuts = found
    taps = list(_taps(seen))
    for i, (before, after, step) in enumerate(cuts):
        taps[i] = taps[i].cropped(before, after) if before or after else taps[i]
        taps[i] = taps[i].after(Layer(1, step)) if step > 1 else taps[i]
    return replace(seen, axes=axes, taps=(taps[0], taps[1]))


def _pad(call: Call) -> Seen:
    seen = _own(call)
    taps = list(_taps(seen))
    pads: Sequence[int] = shapes.pads_of(call)
    for i, axis in enumerate(seen.axes):
        at = 2 * (-axis - 1)
        before, after = (int(pads[at]), int(pads[at + 1])) if at < len(pads) else (0, 0)
        if before < 0 or after < 0:
            taps[i] = taps[i].cropped(max(0, -before), max(0, -after))
        if before > 0 or after > 0:
            taps[i] = taps[i].after(Layer(1, padding=(max(0, before), max(0, after))))
    return replace(seen, taps=(taps[0], taps[1]))


def _interpolated(call: Call) -> Seen:
    """Nearest neighbours by a whole factor: a transposed convolution with as many taps."""
    seen, source = _own(call), call.values[call.first]
    sizes, finer = _sizes(source, (-2, -1)), _sizes(call.result, (-2, -1))
    mode = getattr(call.module, "mode", None) or call.arg(3, "mode", "nearest")
    if sizes == finer:
        return seen
    if mode != "nearest" or any(b % a for a, b in zip(sizes, finer, strict=True)):
        return _lost(call, f"interpolates ({mode}) {sizes} cells to {finer}: not supported")
    factors = finer[0] // sizes[0], finer[1] // sizes[1]
    layers = [Layer(f, f, transposed=True) for f in factors]
    return replace(seen, taps=_after(seen, (layers[0], layers[1])))


def _normed(call: Call) -> Seen:
    """Layer norm and linear work along the last dimensions."""
    seen = _own(call)
    if call.kind == "linear":
        last = 1
    else:
        shape = call.module.normalized_shape if call.module is not None else call.arg(1, "normalized_shape")
        last = len(shape)  # type: ignore[arg-type]
    if all(axis < -last for axis in seen.axes):
        return seen
    if call.kind == "linear":
        return _lost(call, "is linear along the columns of a map, it was not flattened from a map: not supported")
    return _lost(call, "normalizes over rows and columns of one size")


_RULES: tuple[tuple[frozenset[str], Callable[[Call], Seen]], ...] = (
    (CELLWISE, _cellwise),
    (CHANNELWISE, _own),
    (LAYERS, _layer),
    (frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"}), _adaptive),
    (REDUCTIONS, _reduction),
    (RESHAPES, _reshape),
    (frozenset({"permute", "transpose", "movedim"}), _moved),
    (ALONG, _along),
    (frozenset({"unbind"}), _unbind),
    (frozenset({"cat", "stack"}), _cat),
    (frozenset({"getitem"}), _item),
    (frozenset({"pad"}), _pad),
    (frozenset({"interpolate"}), _interpolated),
    (frozenset({"linear", "layer_norm", "rms_norm"}), _normed),
    (STATISTICS, lambda call: replace(_own(call), context=frozenset({call.label}))),
    (ATTENTION, lambda call: _lost(call, "mixes places with each other (attention): not supported")),
)

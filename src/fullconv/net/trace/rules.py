"""The rules by which geometry passes through torch's operations.

The rules know torch's operations and no model by name: every network that is traced down to these operations can be
followed. A global value that meets a map again is global context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from fullconv.errors import ModelError
from fullconv.geometry import Layer, Tap, have_same_size
from fullconv.net.trace.axes import after_permute, after_reduction, after_removal, after_reshape, slices_of
from fullconv.net.trace.layers import layers_of_call, layers_of_module, pads_circularly, pads_of, pools_whole_map
from fullconv.net.trace.operations import (
    ALONG_ONE_DIMENSION,
    ATTENTION,
    CELLWISE,
    CHANNELWISE,
    LAYERS,
    REDUCTIONS,
    RESHAPES,
    STATISTICS,
)
from fullconv.net.trace.values import Call, FeatureGeometry, ValueInfo

__all__ = ["propagate"]


def propagate(call: Call) -> ValueInfo:
    """Return what is known of the result of one operation."""
    inputs = [call.infos[node] for node in call.node.all_input_nodes]
    unsupported = next((info for info in inputs if info.kind == "unsupported"), None)
    if unsupported is not None or not any(info.kind != "constant" for info in inputs):
        return unsupported or ValueInfo()
    if call.kind in ("size", "getattr", "dim", "numel"):
        return ValueInfo()
    context = frozenset().union(*(info.context for info in inputs))
    if all(info.kind in ("constant", "global") for info in inputs):
        return ValueInfo("global", context=context)
    rule = _find_rule(call.kind)
    if rule is None:
        return _refuse(
            call, "is not supported: its output cannot be traced to image positions", code="unsupported-operation"
        )
    try:
        info = rule(call)
    except ModelError as error:
        return _refuse(call, str(error), error.code)
    if info.kind == "constant":
        return info
    needs_multiple = info.needs_multiple or any(other.needs_multiple for other in inputs)
    return replace(info, context=info.context | context, needs_multiple=needs_multiple)


def _find_rule(kind: str) -> Callable[[Call], ValueInfo] | None:
    return next((rule for kinds, rule in _RULES if kind in kinds), None)


def _refuse(call: Call, why: str, code: str) -> ValueInfo:
    return ValueInfo("unsupported", reason=f"{call.label} {why}", code=code)


def _cellwise(call: Call) -> ValueInfo:
    """Maps meet cell by cell; any other input is the same for all cells, or a global value (context)."""
    maps = [n for n in call.node.all_input_nodes if call.infos[n].kind == "spatial"]
    axes, context, needs_multiple = call.infos[maps[0]].axes, frozenset[str](), False
    size = _sizes(call.result, axes)
    for node in call.node.all_input_nodes:
        info, value = call.infos[node], call.values[node]
        if not isinstance(value, Tensor):
            continue
        cells = _sizes(value, axes)
        if info.kind == "spatial" and (info.axes != axes or cells != size):
            return _refuse(call, f"combines maps of {cells} and {size} cells: not supported", code="map-sizes-differ")
        if info.kind == "constant" and cells != (1, 1):
            return _refuse(
                call, "combines the map with a table of positions (position embedding): not supported",
                code="position-table",
            )  # fmt: skip
        if info.kind == "global":
            context, needs_multiple = context | {call.label}, needs_multiple or cells != (1, 1)
    geometries = [_geometry(call.infos[n]) for n in maps]
    needs_multiple = needs_multiple or _sizes_agree_by_chance(geometries)
    return ValueInfo("spatial", _join(geometries), axes, context, needs_multiple)


def _sizes(value: Any, axes: tuple[int, int]) -> tuple[int, ...]:
    value = value[0] if isinstance(value, tuple | list) else value
    return tuple(int(value.shape[axis]) if value.dim() >= -axis else 1 for axis in axes)


def _geometry(info: ValueInfo) -> FeatureGeometry:
    if info.geometry is None:
        raise ModelError("gives the shape of a map to a value without positions: not supported", code="vector-as-map")
    return info.geometry


def _join(geometries: list[FeatureGeometry]) -> FeatureGeometry:
    axes = []
    for axis in (0, 1):
        field = geometries[0][axis].field
        for other in geometries[1:]:
            field = field.join(other[axis].field)
        axes.append(Tap(field, geometries[0][axis].layers))
    return FeatureGeometry(*axes)


def _sizes_agree_by_chance(geometries: list[FeatureGeometry]) -> bool:
    """Return whether maps that have equal sizes here would have different sizes for other image sizes."""
    return any(not have_same_size(geometries[0][axis], other[axis]) for other in geometries[1:] for axis in (0, 1))


def _first_input(call: Call) -> ValueInfo:
    """The operation works on its first input and keeps the positions in it."""
    if call.info.kind == "spatial":
        return call.info
    return _refuse(call, "uses a map as a parameter: not supported", code="map-as-parameter")


def _layer(call: Call) -> ValueInfo:
    info = _first_input(call)
    if info.kind != "spatial":
        return info
    result = call.result[0] if isinstance(call.result, tuple) else call.result  # max pooling that returns indices
    if pools_whole_map(call):
        return ValueInfo("global")
    if info.axes != (-2, -1) or result.dim() != 4:
        return _refuse(
            call, "works on a map whose last dimensions are not rows and columns: not supported",
            code="rows-or-columns-misplaced",
        )  # fmt: skip
    layers = layers_of_module(call.module) if call.module is not None else layers_of_call(call.kind, call)
    assert layers is not None
    wide = any(call.infos[n].kind == "global" for n in call.node.all_input_nodes)
    wide = wide or (pads_circularly(call) and any(sum(layer.padding) for layer in layers))
    context = frozenset({call.label}) if wide else frozenset[str]()
    return replace(info, geometry=_geometry(info).after(layers), context=context)


def _adaptive_pooling(call: Call) -> ValueInfo:
    keeps_size = call.result.shape == call.source.shape and call.result.shape[-2:] != (1, 1)
    return call.info if keeps_size else ValueInfo("global")


def _reduction(call: Call) -> ValueInfo:
    if call.kind in ("max", "min") and len(call.node.all_input_nodes) > 1:
        return _cellwise(call)
    axes = after_reduction(call, call.info.axes)
    return ValueInfo("global") if axes is None else replace(call.info, axes=axes)


def _reshape(call: Call) -> ValueInfo:
    info = call.info
    reshaped = after_reshape(tuple(call.source.shape), tuple(call.result.shape), info.axes)
    if reshaped is None:
        return ValueInfo("global")
    axes, blocks = reshaped
    if blocks == (1, 1):
        return replace(info, axes=axes)
    layers = Layer(blocks[0], blocks[0]), Layer(blocks[1], blocks[1])
    return replace(info, axes=axes, geometry=_geometry(info).after(layers), needs_multiple=True)


def _permute(call: Call) -> ValueInfo:
    return replace(call.info, axes=after_permute(call, call.info.axes))


def _along_one_dimension(call: Call) -> ValueInfo:
    """The operation works along one dimension, which must be neither rows nor columns."""
    positions = {"softmax": 1, "log_softmax": 1, "split": 2, "split_with_sizes": 2, "chunk": 2, "tensor_split": 2}
    default = {"normalize": 1}.get(call.kind, 0)
    position = 2 if call.kind == "normalize" and len(call.args) > 2 else positions.get(call.kind, 1)
    value: Any = call.module.dim if call.module is not None else call.arg(position, "dim", default)
    dim = 1 if value is None else int(value)
    dim = dim - call.source.dim() if dim >= 0 else dim
    if dim in call.info.axes:
        return _refuse_dimension(call)
    return replace(call.info, axes=after_removal(call.info.axes, dim)) if call.kind == "select" else call.info


def _refuse_dimension(call: Call) -> ValueInfo:
    return _refuse(
        call, "works along the rows or columns of a map: not supported", code="works-along-rows-or-columns"
    )  # fmt: skip


def _unbind(call: Call) -> ValueInfo:
    dim = int(call.arg(1, "dim", 0))
    dim = dim - call.source.dim() if dim >= 0 else dim
    if dim in call.info.axes:
        return _refuse_dimension(call)
    return replace(call.info, axes=after_removal(call.info.axes, dim))


def _concatenate(call: Call) -> ValueInfo:
    parts = call.node.all_input_nodes
    dim = int(call.arg(1, "dim", call.kwargs.get("axis", 0)))
    dim = dim - call.result.dim() if dim >= 0 else dim
    if any(call.infos[n].kind != "spatial" for n in parts):
        return _refuse(
            call, "concatenates a map with a value that is not a map: not supported", code="concatenates-non-map"
        )  # fmt: skip
    axes = call.infos[parts[0]].axes
    size = _sizes(call.values[parts[0]], axes)
    if any(call.infos[n].axes != axes or _sizes(call.values[n], axes) != size for n in parts):
        return _refuse(call, "concatenates maps of different sizes: not supported", code="map-sizes-differ")
    branches = [_geometry(call.infos[n]) for n in parts]
    geometry = _join(branches)
    if call.kind == "stack":
        axes = (axes[0] - (dim > axes[0]), axes[1] - (dim > axes[1]))
    elif dim in axes:
        return _refuse_dimension(call)
    return ValueInfo("spatial", geometry, axes, needs_multiple=_sizes_agree_by_chance(branches))


def _index(call: Call) -> ValueInfo:
    info = call.info
    if not isinstance(call.source, Tensor):
        return info
    sliced = slices_of(call.args[1], call.source, info.axes)
    if sliced is None:
        return ValueInfo("global")
    axes, cuts = sliced
    taps = list(_geometry(info))
    for i, (before, after, step) in enumerate(cuts):
        taps[i] = taps[i].cropped(before, after) if before or after else taps[i]
        taps[i] = taps[i].after(Layer(1, step)) if step > 1 else taps[i]
    return replace(info, axes=axes, geometry=FeatureGeometry(*taps))


def _pad(call: Call) -> ValueInfo:
    info = _first_input(call)
    if info.kind != "spatial":
        return info
    taps = list(_geometry(info))
    pads: Sequence[int] = pads_of(call)
    for i, axis in enumerate(info.axes):
        at = 2 * (-axis - 1)
        before, after = (int(pads[at]), int(pads[at + 1])) if at < len(pads) else (0, 0)
        if before < 0 or after < 0:
            taps[i] = taps[i].cropped(max(0, -before), max(0, -after))
        if before > 0 or after > 0:
            taps[i] = taps[i].after(Layer(1, padding=(max(0, before), max(0, after))))
    context = frozenset({call.label}) if pads_circularly(call) else frozenset[str]()
    return replace(info, geometry=FeatureGeometry(*taps), context=context)


def _interpolate(call: Call) -> ValueInfo:
    """Nearest neighbor by a whole factor is a transposed convolution whose kernel is that factor."""
    info = _first_input(call)
    if info.kind != "spatial":
        return info
    coarse, fine = _sizes(call.source, (-2, -1)), _sizes(call.result, (-2, -1))
    mode = getattr(call.module, "mode", None) or call.arg(3, "mode", "nearest")
    if coarse == fine:
        return info
    if mode != "nearest" or any(b % a for a, b in zip(coarse, fine, strict=True)):
        return _refuse(
            call, f"resizes {coarse} cells to {fine} ({mode}): only nearest neighbor by a whole factor is supported",
            code="unsupported-interpolation",
        )  # fmt: skip
    factors = fine[0] // coarse[0], fine[1] // coarse[1]
    layers = [Layer(f, f, transposed=True) for f in factors]
    return replace(info, geometry=_geometry(info).after((layers[0], layers[1])))


def _last_dimensions(call: Call) -> ValueInfo:
    """Layer norm and linear layers work along the last dimensions."""
    info = _first_input(call)
    if info.kind != "spatial":
        return info
    if call.kind == "linear":
        count = 1
    else:
        shape = call.module.normalized_shape if call.module is not None else call.arg(1, "normalized_shape")
        count = len(shape)  # type: ignore[arg-type]
    if all(axis < -count for axis in info.axes):
        return info
    if call.kind == "linear":
        return _refuse(
            call, "is a linear layer along the columns of a map that was not flattened: not supported",
            code="linear-on-map",
        )  # fmt: skip
    return _refuse(call, "normalizes over the rows and columns of a map: not supported", code="norm-over-positions")


def _statistics(call: Call) -> ValueInfo:
    return replace(_first_input(call), context=frozenset({call.label}))


def _attention(call: Call) -> ValueInfo:
    return _refuse(call, "mixes positions (attention): not supported", code="attention")


_RULES: tuple[tuple[frozenset[str], Callable[[Call], ValueInfo]], ...] = (
    (CELLWISE, _cellwise),
    (CHANNELWISE, _first_input),
    (LAYERS, _layer),
    (frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"}), _adaptive_pooling),
    (REDUCTIONS, _reduction),
    (RESHAPES, _reshape),
    (frozenset({"permute", "transpose", "movedim"}), _permute),
    (ALONG_ONE_DIMENSION, _along_one_dimension),
    (frozenset({"unbind"}), _unbind),
    (frozenset({"cat", "stack"}), _concatenate),
    (frozenset({"getitem"}), _index),
    (frozenset({"pad"}), _pad),
    (frozenset({"interpolate"}), _interpolate),
    (frozenset({"linear", "layer_norm", "rms_norm"}), _last_dimensions),
    (STATISTICS, _statistics),
    (ATTENTION, _attention),
)

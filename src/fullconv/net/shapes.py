"""Reading off shapes and arguments what an operation does to rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer

if TYPE_CHECKING:
    from fullconv.net.rules import Call

__all__ = [
    "after_reduction",
    "after_reshape",
    "covers_all",
    "layers_of_call",
    "layers_of_module",
    "pads_of",
    "slices_of",
]

Axes = tuple[int, int]


def layers_of_module(module: nn.Module) -> tuple[Layer, Layer] | None:
    """The vertical and the horizontal `Layer` of a convolution or pooling module; None for other modules."""
    if isinstance(module, nn.PixelUnshuffle):
        return (Layer(module.downscale_factor, module.downscale_factor),) * 2
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d):
        return None
    return _layers(
        module.kernel_size,
        module.stride,
        getattr(module, "padding", 0),
        getattr(module, "dilation", 1),
        bool(getattr(module, "ceil_mode", False)),
        module.output_padding if isinstance(module, nn.ConvTranspose2d) else None,
    )


def layers_of_call(kind: str, call: Call) -> tuple[Layer, Layer]:
    """The same of torch's functions, from their arguments."""
    arg = call.arg
    if kind == "pixel_unshuffle":
        return (Layer(int(arg(1, "downscale_factor")), int(arg(1, "downscale_factor"))),) * 2
    if kind == "conv2d":
        kernel = tuple(arg(1, "weight").shape[2:])
        return _layers(kernel, arg(3, "stride", 1), arg(4, "padding", 0), arg(5, "dilation", 1))
    if kind == "conv_transpose2d":
        kernel, extra = tuple(arg(1, "weight").shape[2:]), arg(5, "output_padding", 0)
        return _layers(kernel, arg(3, "stride", 1), arg(4, "padding", 0), arg(7, "dilation", 1), extra=extra)
    kernel = arg(1, "kernel_size")
    stride = arg(2, "stride") or kernel
    if kind == "max_pool2d":
        ceil = bool(arg(5, "ceil_mode", False))
        return _layers(kernel, stride, arg(3, "padding", 0), arg(4, "dilation", 1), ceil)
    return _layers(kernel, stride, arg(3, "padding", 0), 1, bool(arg(4, "ceil_mode", False)))


def covers_all(call: Call) -> bool:
    """Whether a pooling to one cell has a window that the forward computes from the size of its map."""
    if call.module is not None or call.kind not in ("avg_pool2d", "max_pool2d") or call.result.shape[-2:] != (1, 1):
        return False
    kernel = call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs.get("kernel_size")
    return any(isinstance(n, fx.Node) for n in (kernel if isinstance(kernel, tuple | list) else [kernel]))


def _layers(
    kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False, extra: Any = None
) -> tuple[Layer, Layer]:
    def one(axis: int) -> Layer:
        def pick(value: Any) -> int:
            value = value[axis if len(value) > 1 else 0] if isinstance(value, Sequence) else value
            return int(value)

        taps, step = pick(kernel), pick(dilation)
        if padding == "same":
            both = step * (taps - 1)
            pads = (both // 2, both - both // 2)
        else:
            pads = (0, 0) if padding == "valid" else (pick(padding),) * 2
        more = 0 if extra is None else pick(extra)
        return Layer(taps, pick(stride), pads, step, ceil_mode, extra is not None, more)

    return one(0), one(1)


def after_reshape(before: tuple[int, ...], after: tuple[int, ...], axes: Axes) -> tuple[Axes, Axes] | None:
    """Where rows and columns are after a reshape (negative dimensions), and the blocks that they were cut into.

    A block of s says that every s cells of the axis became one, the s in the dimension behind it, as in
    space-to-depth. None where an axis was merged with another dimension: the map is flattened.
    """
    found: list[int] = []
    blocks: list[int] = []
    for axis in axes:
        size, lead = before[axis], prod(before[:axis])
        places = [k - len(after) for k in range(len(after)) if prod(after[:k]) == lead]
        same = [k for k in places if after[k] == size and not (found and k <= found[0])]
        cut = [k for k in places if k < -1 and after[k] < size and after[k] * after[k + 1] == size and after[k + 1] > 1]
        if same:
            found.append(axis if axis in same else same[0])
            blocks.append(1)
        elif cut:
            found.append(cut[-1])
            blocks.append(after[cut[-1] + 1] if cut[-1] + 1 < 0 else after[-1])
        else:
            return None
    return (found[0], found[1]), (blocks[0], blocks[1])


def after_reduction(call: Call, axes: Axes) -> Axes | None:
    """Where rows and columns are after a mean, maximum, ... over some dimensions; None where both are gone."""
    source = call.values[call.first]
    at = 2 if call.kind == "norm" else 1
    dims = call.arg(at, "dim", call.kwargs.get("axis"))
    if dims is None:
        return None
    dims = [int(d) for d in (dims if isinstance(dims, Sequence) else (dims,))]
    dims = sorted(d - source.dim() if d >= 0 else d for d in dims)
    gone = [axis in dims for axis in axes]
    if all(gone):
        return None
    if any(gone):
        raise ModelError("pools the rows or the columns of a map alone: not supported")
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    if result.dim() == source.dim():
        return axes
    return axes[0] + sum(d > axes[0] for d in dims), axes[1] + sum(d > axes[1] for d in dims)


def slices_of(index: Any, source: Tensor, axes: Axes) -> tuple[Axes, list[tuple[int, int, int]]] | None:
    """Of x[index]: where rows and columns are, and how they are cut (cells before, after, step).

    None where a single place is taken out of a 1 x 1 map. Raises ModelError for other indices by place.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    real = sum(entry is not None and entry is not Ellipsis for entry in entries)
    fill = [slice(None)] * (source.dim() - real)
    at = entries.index(Ellipsis) if Ellipsis in entries else len(entries)
    entries = entries[:at] + fill + entries[at + 1 :]
    places: list[int | None] = []
    kept: list[Any] = []
    dim = 0
    for entry in entries:
        if entry is None:
            places.append(None)
            continue
        if not isinstance(entry, int):
            places.append(dim)
        kept.append(entry)
        dim += 1
    cuts = [_cut(kept[source.dim() + axis], int(source.shape[axis])) for axis in axes]
    if any(cut is None for cut in cuts):
        return None
    found = [places.index(source.dim() + axis) - len(places) for axis in axes]
    return (found[0], found[1]), [cut for cut in cuts if cut is not None]


def _cut(entry: Any, size: int) -> tuple[int, int, int] | None:
    if isinstance(entry, int) and size == 1:
        return None
    if not isinstance(entry, slice):
        raise ModelError("takes single places out of a map: not supported")
    start, stop, step = (None if v is None else int(v) for v in (entry.start, entry.stop, entry.step))
    if (start or 0) < 0 or (stop is not None and 0 <= stop < size):
        raise ModelError("cuts a map at fixed places: not supported")
    return start or 0, -stop if stop is not None and stop < 0 else 0, step or 1


def pads_of(call: Call) -> Sequence[int]:
    """Padding from the last dimension backwards, (before, after) each, of F.pad or a padding module."""
    pads: Sequence[int] = getattr(call.module, "padding", None) or call.arg(1, "pad")
    return pads

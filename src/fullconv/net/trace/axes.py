"""Where the rows and columns of a map are after an operation that moves, joins or removes dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from fullconv.errors import ModelError
from fullconv.net.trace.values import Call

__all__ = ["Axes", "after_permute", "after_reduction", "after_removal", "after_reshape", "slices_of"]

Axes = tuple[int, int]
"""The dimensions of rows and columns, counted from the last (-1)."""


def after_reshape(before: tuple[int, ...], after: tuple[int, ...], axes: Axes) -> tuple[Axes, Axes] | None:
    """Return the axes after a reshape from shape `before` to shape `after`, and the blocks that they were cut into.

    A block of s means that s cells of the axis became one, with the s in the next dimension, as in space-to-depth.
    None where an axis was merged with another dimension: the map is flattened.
    """
    new_axes: list[int] = []
    blocks: list[int] = []
    for axis in axes:
        size, lead = before[axis], prod(before[:axis])
        candidates = [k - len(after) for k in range(len(after)) if prod(after[:k]) == lead]
        same = [k for k in candidates if after[k] == size and not (new_axes and k <= new_axes[0])]
        cut = [
            k for k in candidates if k < -1 and after[k] < size and after[k] * after[k + 1] == size and after[k + 1] > 1
        ]
        if same:
            new_axes.append(axis if axis in same else same[0])
            blocks.append(1)
        elif cut:
            new_axes.append(cut[-1])
            blocks.append(after[cut[-1] + 1] if cut[-1] + 1 < 0 else after[-1])
        else:
            return None
    return (new_axes[0], new_axes[1]), (blocks[0], blocks[1])


def after_permute(call: Call, axes: Axes) -> Axes:
    """Return the axes after permute, transpose or movedim, read from a tensor whose sizes are all different."""
    rank = call.source.dim()
    marks = torch.empty([2 + i for i in range(rank)], device="meta")
    order = [size - 2 for size in getattr(marks, call.kind)(*call.args[1:], **call.kwargs).shape]
    return order.index(rank + axes[0]) - rank, order.index(rank + axes[1]) - rank


def after_removal(axes: Axes, dim: int) -> Axes:
    """Return the axes after the dimension `dim` (negative) was removed."""
    return axes[0] + (dim > axes[0]), axes[1] + (dim > axes[1])


def after_reduction(call: Call, axes: Axes) -> Axes | None:
    """Return the axes after a mean, maximum, ... over some dimensions; None where rows and columns were reduced.

    Raises ModelError where only one of the two was reduced.
    """
    source = call.source
    position = 2 if call.kind == "norm" else 1
    dims = call.arg(position, "dim", call.kwargs.get("axis"))
    if dims is None:
        return None
    dims = [int(d) for d in (dims if isinstance(dims, Sequence) else (dims,))]
    dims = sorted(d - source.dim() if d >= 0 else d for d in dims)
    reduced = [axis in dims for axis in axes]
    if all(reduced):
        return None
    if any(reduced):
        raise ModelError("pools only the rows or only the columns of a map: not supported", code="pools-one-axis")
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    if result.dim() == source.dim():
        return axes
    return axes[0] + sum(d > axes[0] for d in dims), axes[1] + sum(d > axes[1] for d in dims)


def slices_of(index: Any, source: Tensor, axes: Axes) -> tuple[Axes, list[tuple[int, int, int]]] | None:
    """Return the axes of source[index], and for both the cells cut off before and after, and the step.

    None where the only cell of a 1 x 1 map is taken. Raises ModelError for an index that names other single cells.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    real = sum(entry is not None and entry is not Ellipsis for entry in entries)
    fill = [slice(None)] * (source.dim() - real)
    ellipsis = entries.index(Ellipsis) if Ellipsis in entries else len(entries)
    entries = entries[:ellipsis] + fill + entries[ellipsis + 1 :]
    dims_after: list[int | None] = []  # for each dimension of the result, the one of the source
    by_dim: list[Any] = []
    for entry in entries:
        if entry is None:
            dims_after.append(None)
            continue
        if not isinstance(entry, int):
            dims_after.append(len(by_dim))
        by_dim.append(entry)
    cuts = [_read_slice(by_dim[source.dim() + axis], int(source.shape[axis])) for axis in axes]
    if any(cut is None for cut in cuts):
        return None
    new_axes = [dims_after.index(source.dim() + axis) - len(dims_after) for axis in axes]
    return (new_axes[0], new_axes[1]), [cut for cut in cuts if cut is not None]


def _read_slice(entry: Any, size: int) -> tuple[int, int, int] | None:
    """Return the cells cut off before and after and the step of one index entry; None for an axis that is removed."""
    if isinstance(entry, int) and size == 1:
        return None
    if not isinstance(entry, slice):
        raise ModelError("takes single positions out of a map: not supported", code="fixed-positions")
    start, stop, step = (None if v is None else int(v) for v in (entry.start, entry.stop, entry.step))
    if (start or 0) < 0 or (stop is not None and 0 <= stop < size):
        raise ModelError("cuts a map at fixed positions: not supported", code="fixed-positions")
    return start or 0, -stop if stop is not None and stop < 0 else 0, step or 1

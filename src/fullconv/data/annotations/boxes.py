"""Boxes that belong to a mask or polygon: a prompt of SAM, or the box of an object. They are not filled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fullconv.data.annotations.shapes import Rasterizer, Size
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import read_header

__all__ = ["Boxes"]

SLACK, LEAST_SLACK = 0.05, 2
"""A shape may reach out of its box by this share of the box's sides, and by this many pixels."""

LEAST_SHARE = 0.5
"""A box belongs to shapes that take at least this share of each of its sides."""

Bounds = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels; bottom and right are outside."""


@dataclass
class Boxes:
    """Removes the boxes that belong to other shapes, and counts them."""

    dropped: int = 0
    first: str = ""
    faults: list[Fault] = field(default_factory=list)

    def drop(
        self, shapes: Sequence[tuple[str, Rasterizer]], boxes: Collection[int], size: Size, source: Path, image: Path
    ) -> list[tuple[str, Rasterizer]]:
        """Return the shapes without the boxes that belong to others; `boxes` are the positions of boxes in `shapes`.

        A box belongs to masks or polygons of its label that lie in it and take at least half of its width and height.
        If they lie in it and are smaller, the box is filled, and a warning is added.
        """
        if not _has_size(image, size):  # a fault that is reported where sizes are compared
            return list(shapes)
        boxes = frozenset(boxes)
        others: dict[str, list[int]] = {}
        for number, (label, _) in enumerate(shapes):
            if number not in boxes:
                others.setdefault(label, []).append(number)
        bounds: dict[int, Bounds | None] = {}
        kept = []
        for number, (label, rasterizer) in enumerate(shapes):
            rivals = others.get(label, []) if number in boxes else []
            if not rivals:
                kept.append((label, rasterizer))
                continue
            for i in (number, *rivals):
                if i not in bounds:
                    bounds[i] = _find_bounds(shapes[i][1], size)
            share = _share(bounds[number], [found for i in rivals if (found := bounds[i]) is not None])
            if share >= LEAST_SHARE:
                self.dropped += 1
                self.first = self.first or f"{label!r} on {image}"
                continue
            kept.append((label, rasterizer))
            if share > 0:
                problem = f"a box of {label!r} on {image} covers a much smaller shape of the same label, and is filled"
                remedy = "remove the box if it is only the prompt of that shape; otherwise remove the shape"
                self.faults.append(Fault("box-over-shape", source, problem, remedy, image.stem))
        return kept

    @property
    def about(self) -> str:
        """A clause for `DataSet.about`; empty if no box was left out."""
        if not self.dropped:
            return ""
        return f"; {self.dropped} box(es) around a mask or polygon of their label are not filled, first {self.first}"


def _has_size(image: Path, size: Size) -> bool:
    try:
        header = read_header(image)
    except DataError:
        return False
    return size in (header.size, header.stored)


def _find_bounds(rasterizer: Rasterizer, size: Size) -> Bounds | None:
    """Return the bounds of the covered pixels; None if there are none, or if the shape is damaged."""
    try:
        patch = rasterizer(size)
    except DataError:  # reported where the shape is drawn
        return None
    rows, columns = np.flatnonzero(patch.mask.any(axis=1)), np.flatnonzero(patch.mask.any(axis=0))
    if not len(rows):
        return None
    top, left = patch.top, patch.left
    return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1


def _share(box: Bounds | None, shapes: Sequence[Bounds]) -> float:
    """Return the smaller of the shares of the box's sides that the shapes in it take together; 0 if none is in it."""
    if box is None:
        return 0.0
    sides = box[2] - box[0], box[3] - box[1]
    slack = [max(LEAST_SLACK, SLACK * side) for side in sides]
    inside = [
        shape
        for shape in shapes
        if all(shape[axis] >= box[axis] - slack[axis] for axis in (0, 1))
        and all(shape[axis + 2] <= box[axis + 2] + slack[axis] for axis in (0, 1))
    ]
    if not inside:
        return 0.0
    lengths = [max(shape[axis + 2] for shape in inside) - min(shape[axis] for shape in inside) for axis in (0, 1)]
    return min(length / side for length, side in zip(lengths, sides, strict=True))

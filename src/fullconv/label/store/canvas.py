"""The painted pixels of one image: strokes in order, with undo and redo, rendered in sparse tiles.

Tiles hold raw keys: the class with which a pixel was painted, also where that class was merged or deleted since. A tile
is computed when it is needed. Every `EVERY` strokes that reach it, a compressed copy of it is kept, so that undo
paints at most the strokes after the last copy again.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from fullconv.arrays import Int64, UInt8
from fullconv.label.store.strokes import Box, Stroke, paint
from fullconv.labels import IGNORE_INDEX

__all__ = ["SIDE", "Base", "Canvas"]

SIDE = 256
"""Height and width of a tile."""

EVERY = 16

Base = Callable[[range, range], UInt8]
"""Returns the raw keys of a window under all strokes, h x w uint8."""

_Place = tuple[int, int]


class Canvas:
    """The painted pixels of an image of `size` (height, width); `base` are those under all strokes. Not thread-safe."""

    def __init__(self, size: tuple[int, int], base: Base | None = None) -> None:
        self.size = size
        self._base = base
        self._strokes: list[Stroke] = []
        self._stroke_bytes = 0
        self._active: list[bool] = []
        self._reach: dict[_Place, list[int]] = defaultdict(list)
        self._copies: dict[_Place, list[tuple[int, bytes]]] = defaultdict(list)
        self._tiles: dict[_Place, UInt8] = {}
        self._counts: dict[_Place, Int64] = {}
        self._done: dict[str, list[int]] = defaultdict(list)
        self._undone: dict[str, list[int]] = defaultdict(list)

    @property
    def next_id(self) -> int:
        """The id of the next stroke."""
        return len(self._strokes) + 1

    @property
    def bytes(self) -> int:
        """About the memory that the canvas takes."""
        copies = sum(len(packed) for found in self._copies.values() for _, packed in found)
        return len(self._tiles) * SIDE * SIDE + copies + self._stroke_bytes

    def add(self, stroke: Stroke) -> Stroke:
        """Paint a stroke over all others, and return it with its id; its client cannot redo older ones any more."""
        stroke = replace(stroke, id=stroke.id or self.next_id)
        position = len(self._strokes)
        self._strokes.append(stroke)
        self._stroke_bytes += stroke.points.nbytes + (0 if stroke.keys is None else stroke.keys.nbytes)
        self._active.append(True)
        self._done[stroke.client].append(position)
        self._undone.pop(stroke.client, None)
        for place in self._places_of(stroke.box):
            reach = self._reach[place]
            reach.append(position)
            tile = self._tiles.get(place)
            if tile is not None:
                paint(stroke, tile, place[0] * SIDE, place[1] * SIDE)
                self._counts.pop(place, None)
                if len(reach) % EVERY == 0:
                    self._copies[place].append((len(reach), _pack(tile)))
        return stroke

    def covered(self, stroke: Stroke) -> int:
        """Return how many pixels a stroke covers."""
        scratch = np.empty((SIDE, SIDE), np.uint8)
        tiles = ((place[0] * SIDE, place[1] * SIDE) for place in self._places_of(stroke.box))
        return sum(
            paint(stroke, scratch[: self.size[0] - top, : self.size[1] - left], top, left) for top, left in tiles
        )

    def last_done(self, client: str) -> Stroke | None:
        """Return the stroke that `undo` would take back; None if there is none."""
        done = self._done.get(client)
        return self._strokes[done[-1]] if done else None

    def last_undone(self, client: str) -> Stroke | None:
        """Return the stroke that `redo` would paint again; None if there is none."""
        undone = self._undone.get(client)
        return self._strokes[undone[-1]] if undone else None

    def undo(self, client: str) -> Stroke | None:
        """Take back the last stroke of a client that is not undone, and return it; None if there is none."""
        return self._move(self._done[client], self._undone[client], active=False)

    def redo(self, client: str) -> Stroke | None:
        """Paint the last undone stroke of a client again, at its place in the order, and return it."""
        return self._move(self._undone[client], self._done[client], active=True)

    def read(self, rows: range, columns: range, step: int = 1) -> UInt8:
        """Return the raw keys of a window, h x w uint8: every `step`-th pixel of every `step`-th row."""
        shape = len(range(rows.start, rows.stop, step)), len(range(columns.start, columns.stop, step))
        keys = np.full(shape, IGNORE_INDEX, np.uint8)
        for place in self._places_of((columns.start, rows.start, columns.stop, rows.stop)):
            tile = self._tile(place)
            if tile is None:
                continue
            top, left = place[0] * SIDE, place[1] * SIDE
            down, inside_rows = _steps(rows, top, tile.shape[0], step)
            across, inside_columns = _steps(columns, left, tile.shape[1], step)
            keys[down, across] = tile[inside_rows, inside_columns]
        return keys

    def bands(self, height: int) -> Iterator[UInt8]:
        """Yield the raw keys of all rows in bands of `height` rows from the top."""
        for top in range(0, self.size[0], height):
            yield self.read(range(top, min(top + height, self.size[0])), range(self.size[1]))

    def tiles(self) -> Iterator[tuple[int, int, UInt8, Int64]]:
        """Yield each tile that holds painted pixels, in fixed order.

        These are its top row, its left column, its raw keys, and the number of pixels of each raw key.
        """
        for place in self._all_places():
            counts = self._count(place)
            if counts is not None and counts[:IGNORE_INDEX].any():
                tile = self._tile(place)
                assert tile is not None
                yield place[0] * SIDE, place[1] * SIDE, tile, counts

    def count(self) -> Int64:
        """Return the number of pixels of each raw key, 256 int64; unpainted pixels count as 255."""
        total = np.zeros(256, np.int64)
        for place in self._all_places():
            counts = self._count(place)
            if counts is not None:
                total += counts
        total[IGNORE_INDEX] = self.size[0] * self.size[1] - total[:IGNORE_INDEX].sum()
        return total

    def _count(self, place: _Place) -> Int64 | None:
        if place not in self._counts:
            tile = self._tile(place)
            if tile is None:
                return None
            self._counts[place] = np.bincount(tile.ravel(), minlength=256)
        return self._counts[place]

    def _move(self, source: list[int], target: list[int], active: bool) -> Stroke | None:
        if not source:
            return None
        position = source.pop()
        target.append(position)
        self._active[position] = active
        stroke = self._strokes[position]
        for place in self._places_of(stroke.box):
            self._tiles.pop(place, None)
            self._counts.pop(place, None)
            before = bisect_left(self._reach[place], position)
            copies = self._copies[place]
            while copies and copies[-1][0] > before:
                copies.pop()
        return stroke

    def _tile(self, place: _Place) -> UInt8 | None:
        """Return a tile, computed from its last copy; None if no stroke and no base reaches it."""
        tile = self._tiles.get(place)
        if tile is not None:
            return tile
        reach = self._reach.get(place, [])
        if not reach and self._base is None:
            return None
        copies = self._copies[place]
        top, left = place[0] * SIDE, place[1] * SIDE
        shape = min(SIDE, self.size[0] - top), min(SIDE, self.size[1] - left)
        start, packed = copies[-1] if copies else (0, b"")
        if packed:
            tile = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape).copy()
        elif self._base is not None:
            tile = self._base(range(top, top + shape[0]), range(left, left + shape[1])).copy()
        else:
            tile = np.full(shape, IGNORE_INDEX, np.uint8)
        for count, position in enumerate(reach[start:], start + 1):
            if self._active[position]:
                paint(self._strokes[position], tile, top, left)
            if count % EVERY == 0:
                copies.append((count, _pack(tile)))
        self._tiles[place] = tile
        return tile

    def _all_places(self) -> list[_Place]:
        if self._base is not None:
            return list(self._places_of((0, 0, self.size[1], self.size[0])))
        return sorted(place for place, reach in self._reach.items() if reach)

    def _places_of(self, box: Box) -> Iterator[_Place]:
        left, top, right, bottom = box
        if left >= right or top >= bottom:
            return
        for row in range(top // SIDE, -(-bottom // SIDE)):
            for column in range(left // SIDE, -(-right // SIDE)):
                yield row, column


def _pack(tile: UInt8) -> bytes:
    return zlib.compress(tile.tobytes(), 1)


def _steps(window: range, start: int, length: int, step: int) -> tuple[slice, slice]:
    """Return which pixels of a reduced window lie in a tile, and where in the tile they are, along one axis."""
    first = max(0, -(-(start - window.start) // step))
    stop = -(-(min(start + length, window.stop) - window.start) // step)
    offset = window.start + first * step - start
    return slice(first, max(stop, first)), slice(offset, offset + max(stop - first, 0) * step, step)

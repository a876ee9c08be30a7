"""Work on a large label map that survives a kill: the labels so far beside the result, and which tiles they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError
from fullconv.run.tiles import Tile

__all__ = ["PartFile"]

CLOSE = 1e-4
"""Answers of one model to the probe differ by less, as a share of their range: rounding differs from run to run."""

UInt8 = npt.NDArray[np.uint8]


class PartFile:
    """The labels of an image of `size` (height, width) on the disk, one byte a pixel, and a journal of their tiles.

    The journal's first line holds `about`, what the labels are of; each line after it says that one more tile is there.
    A tile is on the disk before its line is, and a line that a kill cut off counts for nothing. `done` tiles are there
    already, none if `about` has changed; its `probe`, numbers that the model computed, may differ by rounding.
    """

    def __init__(self, target: Path, size: tuple[int, int], about: Mapping[str, Any], probe: Sequence[float]) -> None:
        self.size = size
        self._paths = tuple(target.with_name(f".{target.name}.{end}") for end in ("journal", "part"))
        journal, part = self._paths
        target.parent.mkdir(parents=True, exist_ok=True)
        self.done, length = _tiles_done(journal, about, probe)
        if self.done and part.exists() and part.stat().st_size == size[0] * size[1]:
            self._labels, self._lines = part.open("rb+"), journal.open("rb+")
            self._lines.truncate(length)
            self._lines.seek(length)
            return
        self.done = 0
        self._lines = journal.open("wb+")  # emptied first: the old journal must not speak for the new labels
        self._labels = part.open("wb+")
        self._labels.truncate(size[0] * size[1])
        self._append(json.dumps({**about, "probe": list(probe)}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._labels.close()
        self._lines.close()
        if isinstance(error, DataError):  # a damaged image: nothing will go on from here
            self.remove()

    def write(self, tile: Tile, labels: UInt8) -> None:
        """Keep the h x w uint8 labels of the next tile's kept pixels."""
        rows, columns = tile
        for row, line in zip(rows.keep, labels, strict=True):
            self._labels.seek(row * self.size[1] + columns.keep.start)
            self._labels.write(np.ascontiguousarray(line).data)
        _to_disk(self._labels)
        self.done += 1
        self._append(str(self.done))

    def bands(self, height: int) -> Iterator[UInt8]:
        """All labels from the top, up to `height` x W at a time."""
        self._labels.seek(0)
        for top in range(0, self.size[0], height):
            rows = min(height, self.size[0] - top)
            data = self._labels.read(rows * self.size[1])
            yield np.frombuffer(data, np.uint8).reshape(rows, self.size[1])

    def remove(self) -> None:
        """When the result is there: the journal first, without which the labels are nothing."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        self._lines.write(line.encode() + b"\n")
        _to_disk(self._lines)


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _tiles_done(journal: Path, about: Mapping[str, Any], probe: Sequence[float]) -> tuple[int, int]:
    """The tiles in a journal of the same work, and its length in bytes up to the last whole line."""
    try:
        head, *lines = journal.read_bytes().split(b"\n")[:-1]
        known = json.loads(head)
        answers = np.array(known.pop("probe"), float)
        done = [int(line) for line in lines]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return 0, 0
    same = known == json.loads(json.dumps(about)) and answers.shape == (len(probe),)
    if not same or done != list(range(1, len(done) + 1)):
        return 0, 0
    if np.abs(answers - probe).max(initial=0) > CLOSE * np.ptp(probe):
        return 0, 0
    return len(done), len(head) + 1 + sum(len(line) + 1 for line in lines)

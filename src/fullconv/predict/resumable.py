"""A large label map that can be resumed after a kill: a file of complete tiles, and a journal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from fullconv.arrays import UInt8
from fullconv.files import NEW_FILE, open_regular
from fullconv.images.banded_writer import BAND
from fullconv.runtime.tiles import Tile

__all__ = ["ResumableLabelMap", "has_progress", "read_progress", "same_probes"]

CLOSE = 1e-4
"""The largest difference of two probes of one model, as a share of their range; rounding differs between runs."""


class ResumableLabelMap:
    """The labels of an image of `size` (height, width) on the disk, one byte a pixel, and a journal of their tiles.

    The image may be a block of a larger one: its first pixel is at `origin` (row, column) of that one, and tiles have
    the coordinates of that one.

    The first line of the journal holds `job`, which identifies image, tiles and classes, and `probe`, numbers that the
    model computed. Each further line says that one more tile is stored. A tile is written to the disk before its line,
    and an incomplete last line does not count. `done` is the number of stored tiles; it is 0 if `job` has changed, or
    `probe` by more than rounding.
    """

    def __init__(
        self,
        target: Path,
        size: tuple[int, int],
        job: Mapping[str, Any],
        probe: Sequence[float],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Open the files next to `target`, or create them."""
        self.size, self.origin = size, origin
        self._paths = _hidden_files(target)
        journal, part = self._paths
        target.parent.mkdir(parents=True, exist_ok=True)
        self.done, length = _read_journal(journal, job, probe)
        if self.done:
            with suppress(OSError):
                self._labels, self._lines = _open_old(part), _open_old(journal)
                if os.fstat(self._labels.fileno()).st_size == size[0] * size[1]:
                    self._lines.truncate(length)
                    self._lines.seek(length)
                    return
                self._labels.close()
                self._lines.close()
        self.done = 0
        self.remove()  # the journal first: it does not describe the new labels
        self._lines = os.fdopen(os.open(journal, NEW_FILE, 0o666), "wb+")
        self._labels = os.fdopen(os.open(part, NEW_FILE, 0o666), "wb+")
        self._labels.truncate(size[0] * size[1])
        self._append(json.dumps({**job, "probe": list(probe)}))

    def __enter__(self) -> Self:
        """Return the label map."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close both files. They remain after an error, because the next reading of the image may succeed."""
        self._labels.close()
        self._lines.close()

    def write(self, tile: Tile, labels: UInt8) -> None:
        """Store the h x w uint8 labels of the pixels that the next tile contributes."""
        rows, columns = tile
        for row, line in zip(rows.keep, labels, strict=True):
            self._labels.seek((row - self.origin[0]) * self.size[1] + columns.keep.start - self.origin[1])
            self._labels.write(np.ascontiguousarray(line).data)
        _flush(self._labels)
        self.done += 1
        self._append(str(self.done))

    def bands(self, height: int) -> Iterator[UInt8]:
        """Yield all labels from the top, up to `height` x W at a time."""
        self._labels.seek(0)
        for top in range(0, self.size[0], height):
            rows = min(height, self.size[0] - top)
            data = self._labels.read(rows * self.size[1])
            yield np.frombuffer(data, np.uint8).reshape(rows, self.size[1])

    def counts(self) -> tuple[int, ...]:
        """Return the number of pixels of each label, 0 to 255."""
        counts = np.zeros(256, np.int64)
        for band in self.bands(BAND):
            counts += np.bincount(band.ravel(), minlength=256)
        return tuple(counts.tolist())

    def remove(self) -> None:
        """Remove both files: first the journal, without which the labels are not used."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        self._lines.write(line.encode() + b"\n")
        _flush(self._lines)


def same_probes(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two probes are those of one model, up to rounding."""
    first, second = np.array(one, float), np.array(other, float)
    return first.shape == second.shape and bool(np.abs(first - second).max(initial=0) <= CLOSE * np.ptp(second))


def read_progress(target: Path) -> int | None:
    """Return the number of tiles that unfinished work on `target` has stored; None if there is no such work."""
    try:
        with open(open_regular(_hidden_files(target)[0]), "rb") as file:
            return max(0, file.read().count(b"\n") - 1)
    except OSError:
        return None


def has_progress(target: Path) -> bool:
    """Return whether an interrupted run has left tiles of this label map."""
    return all(map(os.path.lexists, _hidden_files(target)))


def _hidden_files(target: Path) -> tuple[Path, Path]:
    """Return the journal of `target` and the file of its labels."""
    return target.with_name(f".{target.name}.journal"), target.with_name(f".{target.name}.part")


def _open_old(path: Path) -> BinaryIO:
    """Open a file of an earlier run to write it. Raise OSError for a link: its target belongs to somebody else."""
    file = os.fdopen(open_regular(path, os.O_RDWR), "rb+")
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise OSError(f"{path} has several names")
    return file


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read_journal(journal: Path, job: Mapping[str, Any], probe: Sequence[float]) -> tuple[int, int]:
    """Return the number of stored tiles of the same job, and the length of the journal up to its last complete line."""
    try:
        with open(open_regular(journal), "rb") as file:
            head, *lines = file.read().split(b"\n")[:-1]
        stored_job = json.loads(head)
        same_model = same_probes([float(value) for value in stored_job.pop("probe")], probe)
        numbers = [int(line) for line in lines]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return 0, 0
    same = same_model and stored_job == json.loads(json.dumps(job))
    if not same or numbers != list(range(1, len(numbers) + 1)):
        return 0, 0
    return len(numbers), len(head) + 1 + sum(len(line) + 1 for line in lines)

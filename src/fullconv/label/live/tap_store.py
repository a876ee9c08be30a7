"""The taps of images: read from memory, from disk, or computed; and a summary of each image that stays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fullconv.arrays import Float64, UInt8
from fullconv.geometry.tiles import Cut
from fullconv.images.input_format import InputFormat
from fullconv.images.reader import open_image, read_image
from fullconv.label.live.cache import DiskCache, MemoryCache
from fullconv.label.live.decode import Features, gather
from fullconv.label.live.network import MAX_WHOLE_PIXELS, SIDE, Maps, TapNetwork, tile_cuts

__all__ = ["Part", "Summary", "TapStore"]

MEMORY_BYTES = 3 * 2**28
"""The memory for taps."""

PROBES = 8
"""A summary has the features of so many rows and columns of pixels, spread evenly."""

HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Part:
    """A part of an image whose taps are computed at once: the whole image, unless it is large."""

    image: Path
    cuts: tuple[Cut, Cut]


@dataclass(frozen=True, eq=False)
class Summary:
    """What is kept of an image: sums and sums of squares of each channel over `count` cells, and some pixels' features.

    The sums are D float64 over all cells of each channel's tap, divided by the number of these cells.
    """

    mean: Float64
    square: Float64
    probes: Features

    @property
    def nbytes(self) -> int:
        """The memory in bytes."""
        return 2 * self.mean.nbytes + self.probes.values.nbytes + self.probes.mass.nbytes


class TapStore:
    """The taps of one network for any images. Its methods may be called from several threads.

    Taps are float16 on disk and rounded to float16 in memory, too, so that a prediction does not depend on which of the
    two they come from.
    """

    def __init__(
        self, network: TapNetwork, input: InputFormat, disk: DiskCache, max_whole_pixels: int = MAX_WHOLE_PIXELS
    ) -> None:
        """Read images in the format `input` for the network, those of more than `max_whole_pixels` in parts."""
        self.network, self.input, self._disk = network, input, disk
        self._memory: MemoryCache[Maps] = MemoryCache(MEMORY_BYTES)
        self._sizes: dict[Path, tuple[tuple[int, int], tuple[int, int]]] = {}
        self._summaries: dict[Path, Summary] = {}
        self._max_whole_pixels = max_whole_pixels
        self._computing = Lock()

    def size(self, image: Path) -> tuple[int, int]:
        """Return the height and width of an image. Raises DataError for files that are not images."""
        status = image.stat() if image.is_file() else None
        stamp = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        if status is None or self._sizes.get(image, (None,))[0] != stamp:
            with open_image(image, self.input) as reader:
                self._sizes[image] = stamp, reader.size
        return self._sizes[image][1]

    def parts(self, image: Path, rows: range, columns: range) -> Iterator[Part]:
        """Yield the parts of an image that hold these pixels."""
        cuts = self._cuts(image)
        down, across = (
            [cut for cut in axis if cut.keep.start < pixels.stop and cut.keep.stop > pixels.start]
            for axis, pixels in zip(cuts, (rows, columns), strict=True)
        )
        for vertical in down:
            for horizontal in across:
                yield Part(image, (vertical, horizontal))

    def central(self, image: Path) -> Part:
        """Return the part in the middle of an image: the whole one, unless it is large."""
        rows, columns = self._cuts(image)
        return Part(image, (rows[len(rows) // 2], columns[len(columns) // 2]))

    def maps(self, part: Part) -> Maps:
        """Return the taps of a part, from the cache if they are there. Raises DataError for a damaged image."""
        key = self._key(part)
        maps = self._memory.get(key)
        if maps is not None:
            return maps
        with self._computing:
            maps = self._memory.get(key) or self._load(key, part)
            if maps is None:
                maps = self._compute(part)
                self._store(key, part, maps)
            self._memory.put(key, maps)
        return maps

    def has(self, part: Part) -> bool:
        """Return whether the taps of a part need not be computed."""
        key = self._key(part)
        return self._memory.get(key) is not None or self._disk.has(key)

    def summary(self, image: Path) -> Summary | None:
        """Return the summary of an image; None if its taps were not computed yet."""
        if image not in self._summaries:
            part = self.central(image)
            arrays = self._disk.read(self._key(part), ("mean", "square", "values", "mass"))
            if arrays is None:
                return None
            self._summaries[image] = _summary_of(arrays)
        return self._summaries[image]

    def _cuts(self, image: Path) -> tuple[list[Cut], list[Cut]]:
        side = min(SIDE, max(1, isqrt(self._max_whole_pixels)))
        return tile_cuts(self.network, self.size(image), self._max_whole_pixels, side)

    def _load(self, key: str, part: Part) -> Maps | None:
        arrays = self._disk.read(key)
        count = len(self.network.channels)
        if arrays is None or not {f"tap_{index}" for index in range(count)} <= set(arrays):
            return None
        taps = tuple(arrays[f"tap_{index}"].astype(np.float32) for index in range(count))
        if tuple(tap.shape[-1] for tap in taps) != self.network.channels or any(tap.ndim != 3 for tap in taps):
            return None
        self._summaries.setdefault(part.image, _summary_of(arrays))
        return Maps(taps, part.cuts)

    def _compute(self, part: Part) -> Maps:
        computed = self.network.compute(self._read(part), part.cuts)
        halves = tuple(np.clip(tap, -HALF_MAX, HALF_MAX).astype(np.float16) for tap in computed.taps)
        return Maps(tuple(half.astype(np.float32) for half in halves), part.cuts)

    def _read(self, part: Part) -> UInt8:
        rows, columns = (cut.read for cut in part.cuts)
        size = self.size(part.image)
        if size[0] * size[1] <= self._max_whole_pixels or (len(rows), len(columns)) == size:
            return read_image(part.image, self.input).pixels
        with open_image(part.image, self.input) as reader:
            return reader.read(rows, columns)[0]

    def _store(self, key: str, part: Part, maps: Maps) -> None:
        rows, columns = (
            np.unique(np.linspace(cut.keep.start, cut.keep.stop - 1, PROBES).astype(np.int64)) for cut in part.cuts
        )
        grid = np.meshgrid(rows, columns, indexing="ij")
        probes = gather(maps, self.network.axes, grid[0].ravel(), grid[1].ravel())
        cells = [tap.reshape(-1, tap.shape[2]) for tap in maps.taps]
        mean = np.concatenate([tap.mean(0, np.float64) for tap in cells])
        square = np.concatenate([np.einsum("nc,nc->c", tap, tap) / len(tap) for tap in cells]).astype(np.float64)
        summary = {"mean": mean, "square": square, "values": probes.values.astype(np.float16), "mass": probes.mass}
        self._summaries.setdefault(part.image, _summary_of(summary))
        taps = {f"tap_{index}": tap.astype(np.float16) for index, tap in enumerate(maps.taps)}
        self._disk.write(key, {**taps, **summary})

    def _key(self, part: Part) -> str:
        """Return a name for the taps of this content of the image, by this network."""
        status = part.image.stat()
        place = [(cut.read.start, cut.read.stop) for cut in part.cuts]
        text = repr((str(part.image.resolve()), status.st_size, status.st_mtime_ns, place, self.input))
        return hashlib.sha256((self.network.digest + text).encode("utf-8", "surrogateescape")).hexdigest()


def _summary_of(arrays: Mapping[str, Any]) -> Summary:
    probes = Features(arrays["values"].astype(np.float16), arrays["mass"].astype(np.float32))
    return Summary(arrays["mean"], arrays["square"], probes)

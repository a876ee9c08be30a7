"""Photos as pyramids of tiles: what the page shows of an image of any size.

Tiles are 512 x 512 pixels, smaller at the right and bottom edge. Level 0 is full size, level n is reduced by 2**n.
Photos of up to `MOST_WHOLE` pixels that cannot be read in windows are decoded once and held in memory; all others are
read in windows, from the overviews of the file where it has some. Reduced tiles of these are kept on the disk.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.errors import FullconvError, UsageError
from fullconv.files import atomic_write, read_file
from fullconv.images import InputFormat, decoder_of, open_image, read_header, rgb_view
from fullconv.images.decoders.base import ImageReader, ReducingReader

__all__ = ["TILE", "Pyramid", "count_levels", "tile_window"]

TILE = 512
"""Height and width of a tile."""

MOST_WHOLE = 64_000_000
"""Photos of more pixels are read in windows, if their decoder can."""

SMALL = 4_000_000
"""Photos of up to so many pixels are always decoded once."""

MEMORY_BYTES = 256 * 2**20
"""Maximum bytes of decoded photos; the one that is shown may take more."""

DISK_BYTES = 2 * 2**30
"""Maximum bytes of tiles in the cache folder."""

STRIP = 512
"""Rows that are read at once where the decoder cannot reduce."""

QUALITY = 92

READERS = 2
"""Threads that read a large photo the first time."""


def count_levels(size: tuple[int, int]) -> int:
    """Return the number of levels: the last one is a single tile."""
    levels = 1
    while max(size) > TILE << (levels - 1):
        levels += 1
    return levels


def tile_window(size: tuple[int, int], level: int, column: int, row: int) -> tuple[range, range]:
    """Return the rows and columns of full size that a tile shows. Raises UsageError if there is no such tile."""
    side = TILE << level if 0 <= level < count_levels(size) else 0
    if not side or not (0 <= row * side < size[0] and 0 <= column * side < size[1]):
        raise UsageError("the image has no such tile", code="no-tile")
    top, left = row * side, column * side
    return range(top, min(top + side, size[0])), range(left, min(left + side, size[1]))


class Pyramid:
    """The tiles of all photos. Thread-safe; `cache` is the folder of tiles on the disk."""

    def __init__(
        self, cache: Path, input: InputFormat, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
    ) -> None:
        self.input = input
        self._whole: dict[Path, bool] = {}
        self._decoded: OrderedDict[Path, list[UInt8]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[Path, threading.Lock] = {}
        self._memory_bytes = memory_bytes
        self._disk = _Disk(cache, disk_bytes)

    def tile(self, path: Path, size: tuple[int, int], level: int, column: int, row: int) -> bytes:
        """Return a tile as a JPEG file. Raises UsageError if there is no such tile, and DataError as `read_image`."""
        rows, columns = tile_window(size, level, column, row)
        if self._is_whole(path):
            reduced = self._levels(path, size)[level]
            top, left = row * TILE, column * TILE
            return _encode(reduced[top : top + TILE, left : left + TILE])
        key = self._disk.key(path, self.input, level, column, row)
        packed = self._disk.read(key) if level else None
        if packed is None:
            packed = _encode(self._reduced_tile(path, size, level, (rows, columns)))
            if level:
                self._disk.write(key, packed)
        return packed

    def window(self, path: Path, size: tuple[int, int], rows: range, columns: range) -> UInt8:
        """Return the pixels of a window at full size, as they are shown: h x w x 3 uint8."""
        if self._is_whole(path):
            return self._levels(path, size)[0][rows.start : rows.stop, columns.start : columns.stop]
        with open_image(path, self.input) as reader:
            return rgb_view(reader.read(rows, columns)[0])

    def _is_whole(self, path: Path) -> bool:
        """Return whether a photo is decoded whole: it is small, or windows of it would decode all rows above."""
        known = self._whole.get(path)
        if known is None:
            header = read_header(path, None)
            by_rows = header.format not in ("TIFF", "")
            known = self._whole[path] = header.pixels <= SMALL or by_rows or decoder_of(path) == "Pillow"
        return known

    def _levels(self, path: Path, size: tuple[int, int]) -> list[UInt8]:
        """Return all levels of a photo, decoded once."""
        with self._hold(path):
            levels = self._find(path)
            if levels is None:
                levels = self._decode(path, size)
                self._keep(path, levels)
            return levels

    def _find(self, key: Path) -> list[UInt8] | None:
        with self._lock:
            levels = self._decoded.get(key)
            if levels is not None:
                self._decoded.move_to_end(key)
            return levels

    def _keep(self, key: Path, levels: list[UInt8]) -> None:
        with self._lock:
            self._decoded[key] = levels
            self._drop_others(key)

    def _decode(self, path: Path, size: tuple[int, int]) -> list[UInt8]:
        """Decode all levels of a photo, in memory or, if it is too large, in temporary files."""
        levels = [_allocate(size)]
        with open_image(path, self.input, whole=True) as reader:
            for top in range(0, size[0], STRIP):
                rows = range(top, min(top + STRIP, size[0]))
                levels[0][top : rows.stop] = rgb_view(reader.read(rows, range(size[1]))[0])
        while len(levels) < count_levels(size):
            fine = levels[-1]
            coarse = _allocate((-(-fine.shape[0] // 2), -(-fine.shape[1] // 2)))
            for top in range(0, fine.shape[0], 2 * STRIP):
                band = _halve(fine[top : top + 2 * STRIP])
                coarse[top // 2 : top // 2 + len(band)] = band
            levels.append(coarse)
        return levels

    def _drop_others(self, path: Path) -> None:
        total = sum(level.nbytes for levels in self._decoded.values() for level in levels)
        for other in list(self._decoded):
            if total <= self._memory_bytes:
                return
            if other != path:
                total -= sum(level.nbytes for level in self._decoded.pop(other))

    @contextmanager
    def _hold(self, path: Path) -> Iterator[None]:
        with self._lock:
            lock = self._loading.setdefault(path, threading.Lock())
        with lock:
            yield

    def _reduced_tile(self, path: Path, size: tuple[int, int], level: int, window: tuple[range, range]) -> UInt8:
        """Return a window reduced by 2**level: from the file's own copies, from ours, or from full size."""
        rows, columns = window
        with open_image(path, self.input) as reader:
            if not level:
                return rgb_view(reader.read(rows, columns)[0])
            if isinstance(reader, ReducingReader) and any(1 < step <= 1 << level for step in reader.overview_steps()):
                return rgb_view(reader.read_reduced(rows, columns, 1 << level))
            first = _overview_level(size)
            if level < first:
                return _reduce(reader, rows, columns, 1 << level)
        coarse = self._overview(path, size, first)[level - first]
        top, left = rows.start >> level, columns.start >> level
        return coarse[top : top + TILE, left : left + TILE]

    def _overview(self, path: Path, size: tuple[int, int], first: int) -> list[UInt8]:
        """Return the levels from `first` upwards of a large photo; the first time, all of it is read."""
        key = path / "overview"
        with self._hold(key):
            levels = self._find(key)
            if levels is not None:
                return levels
            name = self._disk.key(path, self.input, first, -1, -1)
            packed = self._disk.read(name)
            if packed is None:
                levels = [self._read_overview(path, size, first)]
                self._disk.write(name, _encode(levels[0], 95))
            else:
                levels = [np.asarray(Image.open(io.BytesIO(packed)))]
            while len(levels) < count_levels(size) - first:
                levels.append(_halve(levels[-1]))
            self._keep(key, levels)
            return levels

    def _read_overview(self, path: Path, size: tuple[int, int], level: int) -> UInt8:
        """Read a photo in bands, by several threads, and reduce it by 2**level."""
        step = 1 << level
        bands = -(-size[0] // step)
        starts = np.linspace(0, bands, READERS + 1).astype(int) * step

        def read(part: int) -> UInt8:
            with open_image(path, self.input) as reader:
                rows = range(int(starts[part]), min(int(starts[part + 1]), size[0]))
                return _reduce(reader, rows, range(size[1]), step)

        with ThreadPoolExecutor(READERS) as pool:
            return np.concatenate(list(pool.map(read, range(READERS))))


def _overview_level(size: tuple[int, int]) -> int:
    """Return the first level that is small enough to be held in memory."""
    level = 1
    while size[0] * size[1] >> 2 * level > SMALL:
        level += 1
    return level


def _reduce(reader: ImageReader, rows: range, columns: range, step: int) -> UInt8:
    """Return the means of blocks of `step` x `step` pixels of a window, which is read in strips.

    From blocks of 4 x 4 on, only every second pixel of every second row counts, which takes a third of the time.
    """
    skipped = 2 if step >= 4 else 1
    parts = []
    height = max(STRIP // step, 1) * step
    for top in range(rows.start, rows.stop, height):
        strip = range(top, min(top + height, rows.stop))
        if isinstance(reader, ReducingReader):
            pixels = rgb_view(reader.read_sparse(strip, columns, skipped))
        else:
            pixels = rgb_view(reader.read(strip, columns)[0][::skipped, ::skipped])
        parts.append(np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(step // skipped)))
    return np.concatenate(parts)


def _allocate(size: tuple[int, int]) -> UInt8:
    """Return room for h x w x 3 pixels: memory, or for large images a temporary file that the system may page out."""
    shape = (*size, 3)
    if size[0] * size[1] <= MOST_WHOLE:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:  # stays until the array is gone
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _halve(pixels: UInt8) -> UInt8:
    """Return the means of 2 x 2 pixels; a last odd row or column is its own mean."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    image = Image.fromarray(pixels).reduce(2)
    return np.asarray(image)


def _encode(pixels: UInt8, quality: int = QUALITY) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


class _Disk:
    """Tiles on the disk. Those that were read or written longest ago are removed when they are too many."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)
        entries = [(entry.stat(), entry.name) for entry in os.scandir(folder) if entry.name.endswith(".jpg")]
        for facts, name in sorted(entries, key=lambda entry: entry[0].st_mtime):
            self._sizes[name] = facts.st_size

    def key(self, path: Path, input: InputFormat, level: int, column: int, row: int) -> str:
        """Return the name of a tile's file, which changes with the photo and with the format."""
        facts = os.stat(path)
        text = f"{path}|{facts.st_size}|{facts.st_mtime_ns}|{input.channels}|{input.value_range}|{level}|{column}|{row}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".jpg"

    def read(self, name: str) -> bytes | None:
        """Return a tile; None if it is not on the disk."""
        with self._lock:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
        try:
            return read_file(self._folder / name)
        except OSError:
            return None

    def write(self, name: str, packed: bytes) -> None:
        """Keep a tile, and remove old ones that are too many. On a full disk, it is not kept."""
        try:
            with atomic_write(self._folder / name) as temporary:
                temporary.write_bytes(packed)
        except FullconvError:
            return
        with self._lock:
            self._sizes[name] = len(packed)
            total = sum(self._sizes.values())
            while total > self._most and len(self._sizes) > 1:
                old, size = self._sizes.popitem(last=False)
                (self._folder / old).unlink(missing_ok=True)
                total -= size

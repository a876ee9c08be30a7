"""Images of any size: read in windows, labelled tile by tile, written in bands; a kill costs one tile.

An image goes this way if it has more than `LARGE` pixels. Memory then does not grow with its height, and with its width
only where the file is stored by rows (PNG, JPEG, TIFF in strips), of which the rows of a tile are kept. A progressive
JPEG is the exception: its last pass may change every pixel, so that the decoder holds about 8 bytes for each of them.

The label map is TIFF where the image is georeferenced or has more than `PNG_PIXELS`, which few programs open as PNG;
else it is PNG. Pixels without data get the ignored label, which is the TIFF's nodata value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import FullconvError
from fullconv.images import RGB, open_image, overlay, read_header, rgb_view
from fullconv.images.base import ImageReader
from fullconv.images.reader import MAX_IN_MEMORY_PIXELS
from fullconv.labels import LabelSet
from fullconv.run.journal import PartFile
from fullconv.run.runner import Runner, label_maps, takes
from fullconv.run.tiles import Tile, TiledRunner
from fullconv.run.writing import BAND, check_writable, write_bands

__all__ = [
    "LARGE",
    "PNG_PIXELS",
    "LargeOptions",
    "LargeResult",
    "default_tile",
    "goes_in_windows",
    "large_targets",
    "predict_large",
]

LARGE = MAX_IN_MEMORY_PIXELS
"""Pixels above which an image is predicted in windows."""

PNG_PIXELS = 2**28
"""Pixels above which a result is a TIFF."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LargeResult:
    """What came of a large image: its size (height, width), and how many pixels have each label, 0 to 255.

    `resumed` tiles were there from before; `note` says which of its bands were read, if not all.
    """

    size: tuple[int, int]
    counts: tuple[int, ...]
    tiles: int
    resumed: int
    note: str


@dataclass(frozen=True)
class LargeOptions:
    """What `predict_files` does with large images: an overlay only if `overlay`; `on_tile(done, all)` after each.

    `tell` gets a sentence, of images of any size, where not all bands are read or not all kinds are written.
    """

    overlay: bool = False
    on_tile: Callable[[int, int], None] | None = None
    tell: Callable[[str], None] | None = None

    def writes(self, kind: str) -> bool:
        """Whether this kind of result is written for a large image, if it is for others."""
        return kind == "labels" or (kind == "overlay" and self.overlay)


def goes_in_windows(runner: Runner, path: Path) -> bool:
    """Whether an image is for `predict_large`; from its header. Raises DataError as `read_header`.

    Networks with global context get theirs whole, unless they come with tiles.
    """
    return read_header(path, None).pixels > LARGE and (runner.exact or isinstance(runner, TiledRunner))


def large_targets(path: Path, targets: Mapping[str, Path], runner: Runner | None = None) -> dict[str, Path]:
    """The targets of a large image, by kind, with the suffixes that they get; `runner` is what labels it."""
    with open_image(path, RGB if runner is None else takes(runner)) as reader:
        located, pixels = reader.geo is not None, reader.size[0] * reader.size[1]
    suffix = ".tif" if located or pixels > PNG_PIXELS else ".png"
    return {
        kind: target.with_name(target.name.removesuffix(target.suffix) + suffix) for kind, target in targets.items()
    }


def default_tile(runner: Runner) -> int:
    """The tile where none is asked for: 1024 pixels inside of the halo."""
    return 1024 + max(window.before + window.after for window in runner.windows)


def predict_large(
    runner: Runner,
    path: Path,
    targets: Mapping[str, Path],
    on_tile: Callable[[int, int], None] | None = None,
    beside: Path | None = None,
) -> LargeResult:
    """Label an image in windows, and write "labels" and "overlay" of `targets`, as TIFF or PNG by their suffixes.

    The tiles are those of `runner` if it is a `TiledRunner`, else of `default_tile`. `on_tile(done, all)` is called
    after each. If the work was stopped, however hard, it goes on where it was: the labels so far lie in hidden files
    beside `beside`, by default the first target, and are taken up if image, model, classes, tile and halo are the same.
    Of a damaged image nothing is kept.

    Raises DataError for an image that cannot be read, UsageError for a network with global context without a halo,
    MissingExtra for a result that needs rasterio or tifffile, and FullconvError when the file system refuses.
    """
    tiled = runner if isinstance(runner, TiledRunner) else TiledRunner(runner, default_tile(runner))
    beside = beside or next(iter(targets.values()))
    for target in targets.values():
        check_writable(target)
    with open_image(path, takes(tiled)) as reader, _told(beside):
        tiles = tiled.tiles(reader.size)
        with PartFile(beside, reader.size, _about(tiled, path, reader.size), _probe(tiled.runner)) as part:
            resumed = part.done
            for number in range(part.done, len(tiles)):
                part.write(tiles[number], _labels(tiled.runner, reader, tiles[number]))
                if on_tile is not None:
                    on_tile(number + 1, len(tiles))
            counts = np.zeros(256, np.int64)
            for band in part.bands(BAND):
                counts += np.bincount(band.ravel(), minlength=256)
            if "labels" in targets:
                write_bands(targets["labels"], part.size, part.bands(BAND), runner.labels, reader.geo)
            if "overlay" in targets:
                write_bands(targets["overlay"], part.size, _tinted(part, reader, runner.labels), None, reader.geo)
        part.remove()
    return LargeResult(reader.size, tuple(counts.tolist()), len(tiles), resumed, reader.note)


def _labels(runner: Runner, reader: ImageReader, tile: Tile) -> UInt8:
    """The labels of a tile's kept pixels; a tile without data is not computed."""
    rows, columns = tile
    image, empty = reader.read(rows.read, columns.read)
    kept = None if empty is None else empty[rows.inner, columns.inner]
    ignored = np.uint8(runner.labels.ignore_index)
    if kept is not None and kept.all():
        return np.full(kept.shape, ignored)
    labels = label_maps(runner, image[None])[0][rows.inner, columns.inner]
    return labels if kept is None else np.where(kept, ignored, labels)


def _about(tiled: TiledRunner, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """What the labels of a part file are of, apart from the model's weights."""
    status = path.stat()
    return {
        "image": [str(path.resolve()), status.st_size, status.st_mtime_ns, *size],
        "tile": [tiled.tile, tiled.halo],
        "windows": [[window.before, window.after, window.period] for window in tiled.windows],
        "labels": tiled.labels.to_dict(),
    }


def _probe(runner: Runner) -> list[float]:
    """What the model says to a small fixed picture, by which it is known again."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, takes(runner).channels), np.uint8)
    return [round(float(value), 6) for value in runner.logits(noise)[0, :, ::16, ::16].ravel()]


def _tinted(part: PartFile, reader: ImageReader, labels: LabelSet) -> Iterator[UInt8]:
    """The overlay in bands."""
    top = 0
    for band in part.bands(BAND):
        image, _ = reader.read(range(top, top + len(band)), range(reader.size[1]))
        yield overlay(rgb_view(image), band, labels)
        top += len(band)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """What the file system refuses, as our error."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FullconvError(f"{target}: cannot be written ({reason}); check the folder and the disk") from error

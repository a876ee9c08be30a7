"""Predict images of any size: read windows, label tile by tile, write bands; a killed process loses one tile.

Images of more than `MAX_IN_MEMORY_PIXELS` are predicted this way. The memory does not depend on the height of the
image. It grows with the width only if the file is stored by rows (PNG, JPEG, TIFF in strips), because the rows of a
tile are kept. A progressive JPEG is the exception: its last pass may change every pixel, so the decoder holds about 8
bytes for each pixel.

The label map is a TIFF if the image is georeferenced or has more than `PNG_PIXELS` pixels, because few programs open
such a PNG. Otherwise it is a PNG. Pixels without data get the ignored label, which is the nodata value of the TIFF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import FullconvError
from fullconv.images import open_image, overlay, read_header, rgb_view
from fullconv.images.banded_writer import BAND, check_writable, write_bands
from fullconv.images.decoders.base import ImageReader
from fullconv.images.input_format import RGB
from fullconv.images.reader import MAX_IN_MEMORY_PIXELS
from fullconv.labels import LabelSet
from fullconv.locks import hold_lock
from fullconv.predict.resumable import ResumableLabelMap
from fullconv.runtime.runner import Runner, label_maps
from fullconv.runtime.tiles import Tile, TiledRunner

__all__ = [
    "MAX_IN_MEMORY_PIXELS",
    "PNG_PIXELS",
    "LargeResult",
    "default_tile",
    "describe_job",
    "goes_in_windows",
    "label_tiles",
    "large_targets",
    "predict_large",
    "probe_model",
    "report_write_errors",
]

PNG_PIXELS = 2**28
"""The largest number of pixels of a PNG result; larger results are TIFF."""


@dataclass(frozen=True)
class LargeResult:
    """A predicted large image: its size (height, width), and the number of pixels of each label, 0 to 255.

    An earlier run stored `resumed` of the tiles. `note` says which bands of the image were read, if not all.
    """

    size: tuple[int, int]
    counts: tuple[int, ...]
    tiles: int
    resumed: int
    note: str


def goes_in_windows(runner: Runner, path: Path, max_pixels: int = MAX_IN_MEMORY_PIXELS) -> bool:
    """Return whether `predict_large` predicts this image: it has more than `max_pixels`, and the runner allows tiles.

    Only the header is read. A network with global context gets the whole image, unless `runner` is a `TiledRunner`.
    Raises DataError like `read_header`.
    """
    return read_header(path, None).pixels > max_pixels and (runner.info.exact or isinstance(runner, TiledRunner))


def large_targets(path: Path, targets: Mapping[str, Path], runner: Runner | None = None) -> dict[str, Path]:
    """Return the targets of a large image, by kind, with their final suffixes; `runner` is the one that labels it."""
    images = RGB if runner is None else runner.info.input
    with open_image(path, images) as reader:
        located, pixels = reader.geo is not None, reader.size[0] * reader.size[1]
    suffix = ".tif" if located or pixels > PNG_PIXELS else ".png"
    return {
        kind: target.with_name(target.name.removesuffix(target.suffix) + suffix) for kind, target in targets.items()
    }


def default_tile(runner: Runner) -> int:
    """Return the side of the default tile: 1024 pixels and the halo."""
    return 1024 + max(window.before + window.after for window in runner.info.windows)


def predict_large(
    runner: Runner,
    path: Path,
    targets: Mapping[str, Path],
    on_tile: Callable[[int, int], None] | None = None,
    resume_at: Path | None = None,
) -> LargeResult:
    """Label an image in windows, and write "labels" and "overlay" of `targets`, as TIFF or PNG by their suffixes.

    The tiles are those of `runner` if it is a `TiledRunner`, otherwise those of `default_tile`. `on_tile(done, all)` is
    called after each tile. After an interruption or an error, the next call resumes: hidden files next to `resume_at`,
    by default the first target, store the labels of the complete tiles. They are used if image, model, classes, tile
    and halo are the same.

    Raises DataError for an image that cannot be read, UsageError for a network with global context without a halo,
    MissingExtra for a result that needs rasterio or tifffile, and FullconvError for a file that cannot be written or
    that another process is writing.
    """
    tiled = runner if isinstance(runner, TiledRunner) else TiledRunner(runner, default_tile(runner))
    resume_at = resume_at or next(iter(targets.values()))
    for target in targets.values():
        check_writable(target)
    labels = tiled.info.labels
    lock = hold_lock(resume_at.with_name(f".{resume_at.name}.lock"), str(resume_at))
    with open_image(path, tiled.info.input) as reader, report_write_errors(resume_at), lock:
        tiles = tiled.tiles(reader.size)
        with ResumableLabelMap(
            resume_at, reader.size, describe_job(tiled, path, reader.size), probe_model(tiled.runner)
        ) as part:
            resumed = part.done
            label_tiles(tiled.runner, reader, tiles, part, on_tile)
            counts = part.counts()
            if "labels" in targets:
                write_bands(targets["labels"], part.size, part.bands(BAND), labels, reader.geo)
            if "overlay" in targets:
                write_bands(targets["overlay"], part.size, _overlay_bands(part, reader, labels), None, reader.geo)
        part.remove()
    return LargeResult(reader.size, counts, len(tiles), resumed, reader.note)


def label_tiles(
    runner: Runner,
    reader: ImageReader,
    tiles: Sequence[Tile],
    part: ResumableLabelMap,
    on_tile: Callable[[int, int], None] | None = None,
) -> None:
    """Label the tiles that `part` lacks and store them; `on_tile(done, all)` is called after each tile."""
    for number in range(part.done, len(tiles)):
        part.write(tiles[number], _label_tile(runner, reader, tiles[number]))
        if on_tile is not None:
            on_tile(number + 1, len(tiles))


def _label_tile(runner: Runner, reader: ImageReader, tile: Tile) -> UInt8:
    """Return the labels of a tile's kept pixels; a tile without data is not computed."""
    rows, columns = tile
    image, empty = reader.read(rows.read, columns.read)
    without_data = None if empty is None else empty[rows.inner, columns.inner]
    ignored = np.uint8(runner.info.labels.ignore_index)
    if without_data is not None and without_data.all():
        return np.full(without_data.shape, ignored)
    labels = label_maps(runner, image[None])[0][rows.inner, columns.inner]
    return labels if without_data is None else np.where(without_data, ignored, labels)


def describe_job(tiled: TiledRunner, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Return the image, tiles and classes, which identify a resumable label map together with the weights."""
    status = path.stat()
    return {
        "image": [str(path.resolve()), status.st_size, status.st_mtime_ns, *size],
        "tile": [tiled.tile, tiled.halo],
        "windows": [[window.before, window.after, window.period] for window in tiled.info.windows],
        "labels": tiled.info.labels.to_dict(),
        "range": tiled.info.input.value_range,
    }


def probe_model(runner: Runner) -> list[float]:
    """Return some logits of a small fixed picture, which identify the weights."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, runner.info.input.channels), np.uint8)
    return [round(float(value), 6) for value in runner.logits(noise)[0, :, ::16, ::16].ravel()]


def _overlay_bands(part: ResumableLabelMap, reader: ImageReader, labels: LabelSet) -> Iterator[UInt8]:
    """Yield the overlay in bands."""
    top = 0
    for band in part.bands(BAND):
        image, _ = reader.read(range(top, top + len(band)), range(reader.size[1]))
        yield overlay(rgb_view(image), band, labels)
        top += len(band)


@contextmanager
def report_write_errors(target: Path) -> Iterator[None]:
    """Turn errors of the file system into FullconvError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FullconvError(
            f"{target}: cannot be written ({reason}); check the folder and the disk", code="file-not-writable"
        ) from error

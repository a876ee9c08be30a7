"""Compare tiled with whole-image prediction, and measure the error of a smaller halo."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fullconv.arrays import UInt8
from fullconv.geometry.spread import spread
from fullconv.images.decoders.base import ImageReader
from fullconv.runtime.runner import label_maps
from fullconv.runtime.tiles import Tile, TiledRunner

__all__ = ["SAMPLE", "TIE", "HaloError", "TileVerification", "halo_error", "verify_tiles"]

TIE = 1e-4
"""Two logits are a tie if they are closer than this share of the range of all logits: float rounding decides there."""

SAMPLE = 8
"""The number of tiles that `halo_error` measures, evenly spread over the image."""


@dataclass(frozen=True)
class TileVerification:
    """The comparison of an image predicted whole and in tiles: `differing` labels, of which `ties` are ties.

    `largest` is the largest difference of two logits and `logit_range` the difference of the largest logit and the
    smallest; `margin` is the largest distance between the two best logits at a pixel whose label differs, 0 if no label
    differs.
    """

    pixels: int
    tiles: int
    differing: int
    ties: int
    largest: float
    logit_range: float
    margin: float

    @property
    def holds(self) -> bool:
        """Whether labels differ only at ties."""
        return self.differing == self.ties


@dataclass(frozen=True)
class HaloError:
    """The cost and the gain of a smaller halo on some tiles of an image: differing labels, and seconds."""

    tiles: int
    pixels: int
    differing: int
    seconds: float
    exact_seconds: float

    @property
    def share(self) -> float:
        """The share of labels, 0..1, that differ from those of the network's halo."""
        return self.differing / self.pixels

    @property
    def saved(self) -> float:
        """The saved share of the time with the network's halo; negative if the smaller halo takes longer."""
        return 1 - self.seconds / self.exact_seconds


def verify_tiles(tiled: TiledRunner, image: UInt8) -> TileVerification:
    """Predict an H x W x C uint8 image whole and in tiles, and compare labels and logits.

    Raises MemoryError if the whole image with K x H x W float32 logits does not fit.
    """
    batch = image[None]
    tiles = tiled.tiles((image.shape[0], image.shape[1]))
    differing = label_maps(tiled.runner, batch)[0] != label_maps(tiled, batch)[0]
    whole = tiled.runner.logits(batch)[0]
    largest = 0.0
    for rows, columns in tiles:
        part = tiled.tile_logits(batch, (rows, columns))[0]
        largest = max(largest, float(np.abs(part - whole[:, rows.outer, columns.outer]).max()))
    logit_range = float(whole.max()) - float(whole.min())
    best = np.sort(whole[:, differing], axis=0)[-2:]
    margins = best[-1] - best[0]
    return TileVerification(
        pixels=differing.size,
        tiles=len(tiles),
        differing=int(differing.sum()),
        ties=int((margins < TIE * logit_range).sum()),
        largest=largest,
        logit_range=logit_range,
        margin=float(margins.max(initial=0)),
    )


def halo_error(tiled: TiledRunner, reader: ImageReader) -> HaloError | None:
    """Compare a smaller halo with the network's halo on `SAMPLE` tiles of an image.

    Return None if there is nothing to compare: one tile, no smaller halo, or a network with global context.
    """
    tiles = tiled.tiles(reader.size)
    if tiled.info.exact or not tiled.runner.info.exact or len(tiles) == 1:
        return None
    total = HaloError(0, 0, 0, 0.0, 0.0)
    for tile in spread(tiles, SAMPLE):  # the top of an image is often only sky
        axes = zip(tiled.info.windows, tile, reader.size, strict=True)
        vertical, horizontal = (window.cut(cut.keep, n) for window, cut, n in axes)
        if total.tiles == 0:
            _time_tile(tiled, reader, tile)  # the first call is the slowest
        exact_labels, exact_seconds = _time_tile(tiled, reader, (vertical, horizontal))
        labels, seconds = _time_tile(tiled, reader, tile)
        total = HaloError(
            total.tiles + 1,
            total.pixels + labels.size,
            total.differing + int((labels != exact_labels).sum()),
            total.seconds + seconds,
            total.exact_seconds + exact_seconds,
        )
    return total


def _time_tile(tiled: TiledRunner, reader: ImageReader, tile: Tile) -> tuple[UInt8, float]:
    """Return the labels of a tile's kept pixels, and the seconds that they took without reading the tile."""
    rows, columns = tile
    image, _ = reader.read(rows.read, columns.read)
    start = perf_counter()
    labels = label_maps(tiled.runner, image[None])[0][rows.inner, columns.inner]
    return labels, perf_counter() - start

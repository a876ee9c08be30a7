"""Tiles held against the whole image, and what a smaller halo gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from fullconv.images.base import ImageReader
from fullconv.run.runner import label_maps
from fullconv.run.tiles import Tile, TiledRunner

__all__ = ["TIE", "Proof", "Trade", "prove", "spread", "trade"]

TIE = 1e-4
"""Two logits are a tie if they are closer than this share of the range of all logits: float rounding decides there."""

SAMPLE = 8
"""Tiles that `trade` measures, evenly spread over the image."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Proof:
    """An image predicted whole and in tiles: `differing` labels, of which `ties`.

    `largest` is the largest difference of two logits and `logit_range` from the smallest logit to the largest;
    `margin` the largest distance between the two best logits at a pixel whose label differs, 0 without any.
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
        """Whether no label differs, ties apart."""
        return self.differing == self.ties


@dataclass(frozen=True)
class Trade:
    """What a smaller halo costs and saves on some tiles of an image: labels that differ, and seconds."""

    tiles: int
    pixels: int
    differing: int
    seconds: float
    exact_seconds: float

    @property
    def share(self) -> float:
        """Labels that differ from those of the network's own halo, 0..1."""
        return self.differing / self.pixels

    @property
    def saved(self) -> float:
        """Time that the smaller halo saves, as a share of that of the network's own; below 0 if it takes longer."""
        return 1 - self.seconds / self.exact_seconds


def prove(tiled: TiledRunner, image: UInt8) -> Proof:
    """Predict an H x W x C uint8 image whole and in tiles and compare labels and logits.

    Raises MemoryError where the whole image with K x H x W float32 logits does not fit.
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
    return Proof(
        pixels=differing.size,
        tiles=len(tiles),
        differing=int(differing.sum()),
        ties=int((margins < TIE * logit_range).sum()),
        largest=largest,
        logit_range=logit_range,
        margin=float(margins.max(initial=0)),
    )


def trade(tiled: TiledRunner, reader: ImageReader) -> Trade | None:
    """Measure a smaller halo on `SAMPLE` tiles of an image against the network's own halo.

    None where nothing is traded, or nothing exact is there to compare with: one tile, no smaller halo, a network with
    global context.
    """
    tiles = tiled.tiles(reader.size)
    if tiled.exact or not tiled.runner.exact or len(tiles) == 1:
        return None
    found = Trade(0, 0, 0, 0.0, 0.0)
    for tile in spread(tiles):
        axes = zip(tiled.windows, tile, reader.size, strict=True)
        vertical, horizontal = (window.cut(cut.keep, n) for window, cut, n in axes)
        if found.tiles == 0:
            _timed(tiled, reader, tile)  # the first call is the slowest
        exact, exact_seconds = _timed(tiled, reader, (vertical, horizontal))
        ours, seconds = _timed(tiled, reader, tile)
        found = Trade(
            found.tiles + 1,
            found.pixels + ours.size,
            found.differing + int((ours != exact).sum()),
            found.seconds + seconds,
            found.exact_seconds + exact_seconds,
        )
    return found


def spread(tiles: Sequence[Tile]) -> list[Tile]:
    """`SAMPLE` of them, evenly spread: the first ones are the top of the image, which is often sky."""
    count = min(SAMPLE, len(tiles))
    return [tiles[(2 * index + 1) * len(tiles) // (2 * count)] for index in range(count)]


def _timed(tiled: TiledRunner, reader: ImageReader, tile: Tile) -> tuple[UInt8, float]:
    """The labels of a tile's kept pixels, and the seconds that they took once it was read."""
    rows, columns = tile
    image, _ = reader.read(rows.read, columns.read)
    start = perf_counter()
    labels = label_maps(tiled.runner, image[None])[0][rows.inner, columns.inner]
    return labels, perf_counter() - start

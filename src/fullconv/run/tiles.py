"""Whole images from tiles: the labels are those of the network on the whole image, in the memory of one tile."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from fullconv.data.bands import ValueRange
from fullconv.errors import UsageError
from fullconv.labels import LabelSet
from fullconv.run.runner import Runner, label_maps, takes
from fullconv.tiling import MAX_TILES, Cut, Window, choose_tile

__all__ = ["WHOLE", "Tile", "TiledRunner", "in_memory"]

WHOLE = 4 * 2**20
"""Pixels above which an image is computed in tiles by itself, of about so many."""

UInt8 = npt.NDArray[np.uint8]
Tile = tuple[Cut, Cut]
"""Rows and columns."""


class TiledRunner:
    """A `Runner` over a runner, a square of `tile` pixels at a time, or (height, width) pixels.

    Tiles start on the network's grid, overlap by its halo, have one shape and end where the image ends, so that
    every kept pixel sees what it sees in the whole image: logits are equal up to float rounding. With `halo`, so
    many pixels overlap on either side instead; where that is less than the network's own, labels near the seams are
    not those of the whole image.

    Raises UsageError for tiles no larger than the halo, and without `halo` for networks with global context, of
    which no tile gives the labels of the whole image.
    """

    def __init__(self, runner: Runner, tile: int | tuple[int, int], halo: int | None = None) -> None:
        if halo is None and not runner.exact:
            raise UsageError(
                "this network looks at the whole image at once, so tiles cannot give its labels; "
                "predict without tiles, or give a halo and accept other labels"
            )
        if halo is not None and halo < 0:
            raise UsageError(f"a halo of {halo} pixels: it is 0 at the least")
        self.runner, self.tile, self.halo = runner, tile, halo
        self._cut = tuple(window.with_halo(halo) for window in runner.windows)
        self._sides = (tile, tile) if isinstance(tile, int) else tile
        for window, side in zip(self._cut, self._sides, strict=True):
            window.cuts(1, side)

    @property
    def labels(self) -> LabelSet:
        """What the channels of the logits mean."""
        return self.runner.labels

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and which columns of the image a pixel's logits depend on."""
        return self.runner.windows

    @property
    def exact(self) -> bool:
        """Whether the logits are those of the whole image."""
        return self.runner.exact and all(own.covers(need) for own, need in zip(self._cut, self.windows, strict=True))

    @property
    def channels(self) -> int:
        """Those of the images that it takes."""
        return takes(self.runner)[0]

    @property
    def value_range(self) -> ValueRange | None:
        """The numbers in files that become 0 and 255, where their type does not say it."""
        return takes(self.runner)[1]

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """An image of `size` (height, width) in tiles, row by row; one tile if it is not larger.

        Raises UsageError for more than `tiling.MAX_TILES`.
        """
        axes = zip(self._cut, size, self._sides, strict=True)
        rows, columns = (window.cuts(length, side) for window, length, side in axes)
        if len(rows) * len(columns) > MAX_TILES:
            raise UsageError(f"{size[1]} x {size[0]} pixels are {len(rows) * len(columns):,} tiles; take larger ones")
        return list(product(rows, columns))

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        """N x H x W x C uint8 to N x K x H x W float32."""
        count, height, width = images.shape[:3]
        whole = np.empty((count, self.labels.num_classes, height, width), np.float32)
        for tile in self.tiles((height, width)):
            rows, columns = tile
            whole[:, :, rows.outer, columns.outer] = self.tile_logits(images, tile)
        return whole

    def label_maps(self, images: UInt8) -> UInt8:
        """N x H x W x C uint8 to N x H x W uint8 class ids."""
        whole = np.empty(images.shape[:3], np.uint8)
        for rows, columns in self.tiles((images.shape[1], images.shape[2])):
            found = label_maps(self.runner, _cut_out(images, (rows, columns)))
            whole[:, rows.outer, columns.outer] = found[:, rows.inner, columns.inner]
        return whole

    def tile_logits(self, images: UInt8, tile: Tile) -> npt.NDArray[np.float32]:
        """The logits of one tile's kept pixels, N x K x h x w float32."""
        rows, columns = tile
        return self.runner.logits(_cut_out(images, tile))[:, :, rows.inner, columns.inner]


def in_memory(runner: Runner, size: tuple[int, int]) -> Runner:
    """The runner for an image of `size` (height, width) in memory: tiles above `WHOLE` pixels, where labels stay."""
    if size[0] * size[1] <= WHOLE or not runner.exact or isinstance(runner, TiledRunner):
        return runner
    return TiledRunner(runner, choose_tile(runner.windows, size, WHOLE))


def _cut_out(images: UInt8, tile: Tile) -> UInt8:
    rows, columns = tile
    return images[:, rows.read.start : rows.read.stop, columns.read.start : columns.read.stop]

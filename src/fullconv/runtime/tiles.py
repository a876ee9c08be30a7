"""Tiled prediction, with memory for one tile, and the mean of an image and its mirror image."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product

import numpy as np

from fullconv.arrays import Float32, UInt8
from fullconv.errors import UsageError
from fullconv.geometry.tiles import MAX_TILES, Cut, choose_tile
from fullconv.model_info import ModelInfo
from fullconv.runtime.runner import Runner, label_maps, largest

__all__ = ["MAX_FLIPPED_LOGITS", "MAX_UNTILED_PIXELS", "FlippedRunner", "Tile", "TiledRunner", "in_memory"]

MAX_UNTILED_PIXELS = 4 * 2**20
"""Pixels above which an image in memory is computed in tiles automatically, of about as many pixels each."""

MAX_FLIPPED_LOGITS = 2**28
"""Logits (1 GiB) above which `FlippedRunner` labels an image in tiles; it holds three times as many."""

Tile = tuple[Cut, Cut]
"""The rows and the columns of a tile."""


class TiledRunner:
    """A `Runner` that calls another one on a square of `tile` pixels at a time, or on (height, width) pixels.

    Tiles are aligned to the network's stride and overlap by its receptive field, have one shape, and end where the
    image ends: tiled and whole-image logits are equal up to float rounding. With `halo`, tiles overlap by so many
    pixels on either side instead; if the network needs more, labels near the seams differ, and `info.exact` is False.

    Raises UsageError for tiles no larger than the halo, for a negative halo, and without `halo` for networks with
    global context, where labels of tiles differ from labels of the whole image.
    """

    def __init__(self, runner: Runner, tile: int | tuple[int, int], halo: int | None = None) -> None:
        """Cut images for `runner`; `halo` None is the network's own halo."""
        if halo is None and not runner.info.exact:
            raise UsageError(
                "this network has global context, so tiles cannot give the labels of the whole image; "
                "predict without tiles, or set a halo and accept other labels",
                code="tiles-of-global-context",
            )
        if halo is not None and halo < 0:
            raise UsageError(f"a halo of {halo} pixels is not possible; use 0 or more", code="negative-halo")
        self.runner, self.tile, self.halo = runner, tile, halo
        windows = runner.info.windows
        self._cut = tuple(window.with_halo(halo) for window in windows)
        covered = all(window.covers(need) for window, need in zip(self._cut, windows, strict=True))
        self._info = replace(runner.info, exact=runner.info.exact and covered)
        self._sides = (tile, tile) if isinstance(tile, int) else tile
        for window, side in zip(self._cut, self._sides, strict=True):
            window.cuts(1, side)

    @property
    def info(self) -> ModelInfo:
        """The network that runs; `exact` if its tiles give the logits of the whole image."""
        return self._info

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """Cut an image of `size` (height, width) into tiles, row by row; a small image is one tile.

        Raises UsageError for more than `tiling.MAX_TILES`.
        """
        axes = zip(self._cut, size, self._sides, strict=True)
        rows, columns = (window.cuts(length, side) for window, length, side in axes)
        if len(rows) * len(columns) > MAX_TILES:
            message = (
                f"an image of {size[1]} x {size[0]} pixels needs {len(rows) * len(columns):,} tiles, "
                f"more than {MAX_TILES:,}; use larger tiles"
            )
            raise UsageError(message, code="too-many-tiles")
        return list(product(rows, columns))

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32."""
        count, height, width = images.shape[:3]
        whole = np.empty((count, self.info.labels.num_classes, height, width), np.float32)
        for tile in self.tiles((height, width)):
            rows, columns = tile
            whole[:, :, rows.outer, columns.outer] = self.tile_logits(images, tile)
        return whole

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        whole = np.empty(images.shape[:3], np.uint8)
        for rows, columns in self.tiles((images.shape[1], images.shape[2])):
            tile_maps = label_maps(self.runner, _crop(images, (rows, columns)))
            whole[:, rows.outer, columns.outer] = tile_maps[:, rows.inner, columns.inner]
        return whole

    def tile_logits(self, images: UInt8, tile: Tile) -> Float32:
        """Return the logits of one tile's kept pixels, N x K x h x w float32."""
        rows, columns = tile
        return self.runner.logits(_crop(images, tile))[:, :, rows.inner, columns.inner]


def in_memory(runner: Runner, size: tuple[int, int], max_pixels: int = MAX_UNTILED_PIXELS) -> Runner:
    """Return the runner for an image of `size` (height, width) in memory: tiled above `max_pixels` if it is exact."""
    if size[0] * size[1] <= max_pixels or not runner.info.exact or isinstance(runner, TiledRunner):
        return runner
    return TiledRunner(runner, choose_tile(runner.info.windows, size, max_pixels))


class FlippedRunner:
    """A `Runner` that labels each image and its mirror image: test-time augmentation, in twice the time.

    The probabilities of a pixel are the mean of the two softmaxes; the logits are their logarithms, at least that of
    the smallest normal float32. Labels are those of the largest logit.

    Tiles stay exact. A tile starts at a multiple of the network's period and has the size of the image modulo the
    period, so its mirror image starts at a multiple of the period of the mirrored image. The halo of `info` is
    the larger one of both sides.
    """

    def __init__(self, runner: Runner, max_logits: int = MAX_FLIPPED_LOGITS) -> None:
        """Run `runner` twice. Images of more than `max_logits` logits are labelled in tiles, if these are exact."""
        self.runner, self.max_logits = runner, max_logits

    @property
    def info(self) -> ModelInfo:
        """The network, with the same halo on the left and on the right."""
        info = self.runner.info
        rows, columns = info.windows
        return replace(info, windows=(rows, columns.with_halo(max(columns.before, columns.after))))

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32, the logarithms of the mean probabilities."""
        mean = _softmax(self.runner.logits(images))
        mean += _softmax(self.runner.logits(np.ascontiguousarray(images[:, :, ::-1])))[..., ::-1]
        mean *= 0.5
        np.maximum(mean, np.finfo(np.float32).tiny, out=mean)
        return np.log(mean, out=mean)

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        info, size = self.info, (images.shape[1], images.shape[2])
        most = self.max_logits // (len(images) * info.labels.num_classes)
        if info.exact and size[0] * size[1] > most:
            tile = choose_tile(info.windows, size, most)
            if tile[0] < size[0] or tile[1] < size[1]:
                whole = FlippedRunner(self.runner, sys.maxsize)
                return TiledRunner(whole, tile).label_maps(images)
        return largest(self.logits(images))


def _softmax(logits: Float32) -> Float32:
    """Return the softmax over the classes of N x K x H x W logits."""
    result: Float32 = np.exp(logits - logits.max(1, keepdims=True))
    result /= result.sum(1, keepdims=True)
    return result


def _crop(images: UInt8, tile: Tile) -> UInt8:
    rows, columns = tile
    return images[:, rows.read.start : rows.read.stop, columns.read.start : columns.read.stop]

"""The frozen part of a live model: a network up to its taps, computed for an image or for an aligned part of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import onnx
import onnxruntime

from fullconv.arrays import Float32, UInt8
from fullconv.errors import ModelError
from fullconv.geometry.interpolation import Interpolation
from fullconv.geometry.tiles import Cut, Window
from fullconv.onnx_graph.split import Split, read_split
from fullconv.runtime.onnx import open_session

__all__ = ["MAX_WHOLE_PIXELS", "SIDE", "Maps", "TapNetwork", "tile_cuts"]

MAX_WHOLE_PIXELS = 4 * 2**20
"""Images with more pixels are computed in parts of `SIDE` x `SIDE` pixels, and only where somebody looks."""

SIDE = 1024
"""Rows and columns of a part, without its halo."""


@dataclass(frozen=True, eq=False)
class Maps:
    """The taps of a part of an image: h x w x C float32 each, coarse to fine; `cuts` are its rows and columns."""

    taps: tuple[Float32, ...]
    cuts: tuple[Cut, Cut]

    @property
    def nbytes(self) -> int:
        """The memory that the taps take."""
        return sum(tap.nbytes for tap in self.taps)

    @property
    def cells(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The number of rows and of columns of each tap."""
        return tuple(tap.shape[0] for tap in self.taps), tuple(tap.shape[1] for tap in self.taps)


class TapNetwork:
    """A network that was cut at its score layers, on ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        """Read and cut the file. Raises ModelError as `read_split`."""
        self.split: Split = read_split(path)
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        body = _with_channels_last(self.split)
        content = body.SerializeToString()
        self._session = open_session(path, lambda: content, len(body.graph.node), spin=False)
        self._one_at_a_time = Lock()
        vertical, horizontal = zip(*self.split.upsamplings, strict=True) if self.split.upsamplings else ((), ())
        (rows, columns), (top, left) = self.split.metadata.upsamplings, self.split.metadata.lead
        self.axes = Interpolation((*vertical, rows), top), Interpolation((*horizontal, columns), left)

    @property
    def windows(self) -> tuple[Window, Window]:
        """The rows and columns that a pixel's logits depend on."""
        return self.split.metadata.info.windows

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of channels of each tap."""
        return tuple(score.weight.shape[1] for score in self.split.scores)

    def compute(self, image: UInt8, cuts: tuple[Cut, Cut]) -> Maps:
        """Return the taps of H x W x C uint8, which are the pixels that `cuts` read. One call runs at a time."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")  # gigabytes for large images
        names = [f"live_{index}" for index in range(len(self.split.taps))]
        with self._one_at_a_time:
            try:
                taps = self._session.value.run(names, {"images": np.ascontiguousarray(image[None])}, options)
            except Exception as error:
                size = f"{image.shape[0]}x{image.shape[1]}"
                if "alloc" in str(error).lower():
                    raise MemoryError(f"an image of {size} does not fit in memory") from error
                raise ModelError(f"the network fails on {size} pixels: {error}", code="network-failed") from error
        return Maps(tuple(np.nan_to_num(tap[0]) for tap in taps), cuts)


def tile_cuts(
    network: TapNetwork, size: tuple[int, int], max_whole_pixels: int = MAX_WHOLE_PIXELS, side: int = SIDE
) -> tuple[list[Cut], list[Cut]]:
    """Return the parts in which an image of `size` is computed: cuts of its rows and of its columns.

    A network with global context gets the whole image, whose labels parts could not give.
    """
    if size[0] * size[1] <= max_whole_pixels or not network.split.metadata.info.exact:
        rows, columns = ([Cut(range(length), range(length))] for length in size)
        return rows, columns
    rows, columns = (
        [window.cut(range(first, min(first + side, length)), length) for first in range(0, length, side)]
        for window, length in zip(network.windows, size, strict=True)
    )
    return rows, columns


def _with_channels_last(split: Split) -> onnx.ModelProto:
    """Return the body with outputs N x h x w x C: cells of one position lie together, for gathering and products."""
    model = onnx.ModelProto()
    model.CopyFrom(split.body)
    del model.graph.output[:]
    for index, tap in enumerate(split.taps):
        name = f"live_{index}"
        model.graph.node.append(onnx.helper.make_node("Transpose", [tap], [name], perm=[0, 2, 3, 1]))
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model

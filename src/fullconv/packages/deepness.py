"""An ONNX file for Deepness, the plugin of QGIS that runs networks on maps.

Deepness reads what it needs from the file's metadata (its documentation: "Model classes and requirements" and "Adding
metadata to ONNX model"). It cuts the map into square tiles of the input's size, divides the bytes by 255, subtracts
`standardization_mean`, divides by `standardization_std`, and takes the class of the highest probability. It keeps of
each tile what lies further than half the overlap from its border. Beyond the map its pixels are 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from fullconv.files import atomic_write
from fullconv.geometry.tiles import Window
from fullconv.onnx_graph.exported import read_exported
from fullconv.onnx_graph.probabilities import INPUT, make_probabilities
from fullconv.packages.shortened import shorten_paths
from fullconv.packages.written import Written
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["Tiling", "choose_tiling", "write_deepness"]

MOST = 40
"""The largest overlap in percent: then Deepness computes at most 2.8 times as many pixels as the map has."""


@dataclass(frozen=True)
class Tiling:
    """Square tiles: `side` in pixels, and the share of it that two neighbours have in common, in whole percent."""

    side: int
    percent: int

    @property
    def overlap(self) -> int:
        """The pixels that two neighbours have in common, as Deepness computes them."""
        return int(self.side * self.percent / 100 * 2) // 2


def choose_tiling(windows: tuple[Window, Window]) -> Tiling:
    """Return the smallest tiling that gives the labels of the whole map with at most `MOST` percent in common.

    Half the overlap is at least as long as the halo. Tiles start at multiples of the period, and their side is one.
    """
    halo = max(max(window.before, window.after) for window in windows)
    period = lcm(*(window.period for window in windows))
    side = period
    while True:
        for percent in range(1, MOST + 1):
            tiling = Tiling(side, percent)
            if tiling.overlap // 2 >= halo and (side - tiling.overlap) % period == 0:
                return tiling
        side += period


def write_deepness(source: Path, out: Path, *, resolution: float | None = None) -> Written:
    """Write the exported file `source` for Deepness.

    `resolution` is the ground size of a pixel in centimetres, for which the network was trained.

    Raises ModelError if `fullconv export` did not write `source`.
    """
    model, metadata = read_exported(source)
    metadata = shorten_paths(metadata)
    tiling = choose_tiling(metadata.info.windows)
    made = make_probabilities(model, metadata, white=1, side=tiling.side)
    values = _describe(metadata, tiling, resolution)
    helper.set_model_props(made, {name: json.dumps(value) for name, value in values.items()})
    with atomic_write(out) as temporary:
        onnx.save(made, temporary)
    return Written(out, tuple(_notes(metadata, tiling, resolution)))


def _describe(metadata: ModelMetadata, tiling: Tiling, resolution: float | None) -> dict[str, Any]:
    """Return what Deepness reads, and the network's origin under `fullconv`, which it ignores.

    The threshold 0 keeps the most probable class of every pixel, and 0 small segments means no median filter.
    """
    channels = metadata.info.input.channels
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(metadata.info.labels.class_names)},
        "tile_size": tiling.side,
        "tiles_overlap": tiling.percent,
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "fullconv": metadata.notes,
    }
    return values if resolution is None else {**values, "resolution": resolution}


def _notes(metadata: ModelMetadata, tiling: Tiling, resolution: float | None) -> Iterator[str]:
    """Yield what a person must know to get the labels of fullconv in QGIS."""
    where = "the labels of the whole map" if metadata.info.exact else "labels that depend on the tile near its border"
    yield (
        f"input {INPUT}: tiles of {tiling.side} x {tiling.side} pixels that overlap by {tiling.percent} %, which gives "
        f"{where}; Deepness fills the tiles beyond the map with zeros"
    )
    if resolution is None:
        yield "the resolution is not in the file: set it in Deepness, or give --resolution CENTIMETRES"
    bounds = metadata.info.input.value_range
    if bounds not in (None, (0.0, 255.0)):
        low, high = bounds
        yield (
            f"Deepness reads layers of 8 bits; scale yours first: "
            f"gdal_translate -ot Byte -scale {low:.10g} {high:.10g} 0 255 MAP.tif BYTES.tif"
        )

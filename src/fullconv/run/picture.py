"""One image file as prediction reads it, by one rule whether it is labelled whole or in tiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.bands import ValueRange, is_tiff, read_bands
from fullconv.errors import DataError
from fullconv.image import MAX_PIXELS
from fullconv.run.rasters import Mask, Origin, Raster, open_raster

__all__ = ["Picture", "read_picture"]

STRIP = 2048
"""Rows that are read at once: what lies between the file and the pixels takes no more memory than they do."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """H x W x C uint8, which pixels hold no data (None: all do), where on Earth they lie, and what is left out."""

    pixels: UInt8
    empty: Mask | None = None
    origin: Origin | None = None
    note: str = ""


def read_picture(path: Path, channels: int = 3, value_range: ValueRange | None = None) -> Picture:
    """An image of up to `image.MAX_PIXELS`: TIFF as `rasters.open_raster` reads its windows, others by `read_bands`.

    Raises DataError as both do.
    """
    if not path.is_file() or not is_tiff(path):
        return Picture(read_bands(path, channels, value_range))
    with open_raster(path, channels, value_range, whole=True) as raster:
        height, width = raster.size
        if height * width > MAX_PIXELS:
            raise DataError(
                f"{path}: {width} x {height} pixels, where 1 to {MAX_PIXELS} can be read; cut it into tiles",
                code="too-large",
            )
        return Picture(*_whole(raster, channels), raster.origin, raster.note)


def _whole(raster: Raster, channels: int) -> tuple[UInt8, Mask | None]:
    height, width = raster.size
    pixels, empty = np.empty((height, width, channels), np.uint8), np.zeros((height, width), np.bool_)
    for top in range(0, height, STRIP):
        rows = range(top, min(top + STRIP, height))
        pixels[top : rows.stop], missing = raster.read(rows, range(width))
        empty[top : rows.stop] = False if missing is None else missing
    return pixels, empty if empty.any() else None

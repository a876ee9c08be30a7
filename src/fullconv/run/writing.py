"""Label maps and overlays written band by band: PNG or TIFF by the suffix, georeferenced where the image is."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import MissingExtra
from fullconv.files import atomic_write
from fullconv.labels import LabelSet
from fullconv.run.png import write_png
from fullconv.run.rasters import Origin

__all__ = ["BAND", "check_writable", "write_bands", "write_located"]

BAND = 512
"""Rows that are written at once, the height of a written TIFF's tiles."""

UInt8 = npt.NDArray[np.uint8]


def check_writable(target: Path) -> None:
    """MissingExtra where nothing is installed that writes such a file."""
    if target.suffix.lower() != ".png" and not find_spec("rasterio") and not find_spec("tifffile"):
        raise MissingExtra("rasterio", "geo", target)


def write_bands(
    target: Path, size: tuple[int, int], bands: Iterator[UInt8], labels: LabelSet | None, origin: Origin | None
) -> None:
    """Bands of labels, or of RGB where there is no label set. Raises as `check_writable`."""
    check_writable(target)
    palette = None if labels is None else labels.colorize(np.arange(256, dtype=np.uint8))
    nodata = None if labels is None else labels.ignore_index
    with atomic_write(target) as temporary:
        if target.suffix.lower() == ".png":
            write_png(temporary, size, bands, palette)
        elif find_spec("rasterio"):
            from fullconv.run.gdal import write_geotiff

            write_geotiff(temporary, size, bands, palette, origin, nodata)
        else:
            from fullconv.run.tiff import write_tiff

            write_tiff(temporary, size, bands, palette, origin, nodata)


def write_located(path: Path, label_map: UInt8, labels: LabelSet, origin: Origin) -> None:
    """An H x W label map as a GeoTIFF with the palette, whose nodata is the ignored label."""
    height, width = label_map.shape
    bands = (label_map[top : top + BAND] for top in range(0, height, BAND))
    write_bands(path, (height, width), bands, labels, origin)

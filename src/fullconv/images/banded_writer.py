"""Label maps and overlays written band by band: PNG or TIFF by the suffix, georeferenced where the image is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import MissingExtra
from fullconv.files import atomic_write
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags
from fullconv.images.png import write_png
from fullconv.labels import LabelSet

__all__ = ["BAND", "check_writable", "write_bands", "write_located"]

BAND = 512
"""Rows that are written at once, the height of a written TIFF's tiles."""

UInt8 = npt.NDArray[np.uint8]


def check_writable(target: Path) -> None:
    """MissingExtra where nothing is installed that writes such a file."""
    if target.suffix.lower() != ".png" and not is_installed("rasterio") and not is_installed("tifffile"):
        raise MissingExtra("rasterio", "geo", target)


def write_bands(
    target: Path, size: tuple[int, int], bands: Iterator[UInt8], labels: LabelSet | None, geo: GeoTags | None
) -> None:
    """Bands of labels, or of RGB where there is no label set. Raises as `check_writable`."""
    check_writable(target)
    palette = None if labels is None else labels.colorize(np.arange(256, dtype=np.uint8))
    nodata = None if labels is None else labels.ignore_index
    with atomic_write(target) as temporary:
        if target.suffix.lower() == ".png":
            write_png(temporary, size, bands, palette)
        elif is_installed("rasterio"):
            from fullconv.images.decoders.gdal import write_geotiff

            write_geotiff(temporary, size, bands, palette, geo, nodata)
        else:
            from fullconv.images.decoders.tiff import write_tiff

            write_tiff(temporary, size, bands, palette, geo, nodata)


def write_located(path: Path, label_map: UInt8, labels: LabelSet, geo: GeoTags) -> None:
    """An H x W label map as a GeoTIFF with the palette, whose nodata is the ignored label."""
    height, width = label_map.shape
    bands = (label_map[top : top + BAND] for top in range(0, height, BAND))
    write_bands(path, (height, width), bands, labels, geo)

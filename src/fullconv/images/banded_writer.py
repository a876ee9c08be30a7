"""Writing of label maps and overlays in bands of rows, as PNG or TIFF by the suffix.

A TIFF gets the georeference of its image. The memory that is needed does not depend on the image's height.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import MissingExtra
from fullconv.files import atomic_write
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import BLOCK, GeoTags
from fullconv.images.png import write_png
from fullconv.labels import LabelSet

__all__ = ["BAND", "check_writable", "write_bands", "write_georeferenced"]

BAND = BLOCK
"""Rows that are written at once, the height of a written TIFF's tiles."""


def check_writable(target: Path) -> None:
    """Raise MissingExtra if no installed library writes files with the suffix of `target`."""
    if target.suffix.lower() != ".png" and not is_installed("rasterio") and not is_installed("tifffile"):
        raise MissingExtra("rasterio", "geo", target)


def write_bands(
    target: Path, size: tuple[int, int], bands: Iterator[UInt8], labels: LabelSet | None, geo: GeoTags | None
) -> None:
    """Write an image of `size` (height, width) in bands of `BAND` rows from the top.

    With `labels`, bands are h x W uint8 label maps and the file gets their palette, without h x W x 3 uint8 RGB. Raises
    MissingExtra as `check_writable`, and FullconvError if the file cannot be written.
    """
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


def write_georeferenced(path: Path, label_map: UInt8, labels: LabelSet, geo: GeoTags) -> None:
    """Write an H x W uint8 label map as a GeoTIFF with a palette. Its nodata value is the ignored label.

    Raises as `write_bands`.
    """
    height, width = label_map.shape
    bands = (label_map[top : top + BAND] for top in range(0, height, BAND))
    write_bands(path, (height, width), bands, labels, geo)

"""Georeferences of GeoTIFF files: the position of pixels on a map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fullconv.arrays import Float64, Int64
from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.forks import native_call
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.open_pillow import without_warnings
from fullconv.images.decoders.tiff_tags import GEO_KEYS, is_tiff, tiff_tags

__all__ = ["Georeference", "read_georeference"]


@dataclass(frozen=True)
class Georeference:
    """The conversion of an image's pixel positions to map coordinates.

    `transform` is (a, b, c, d, e, f): the corner (column, row) between pixels lies at x = a column + b row + c and
    y = d column + e row + f in the coordinate reference system `crs`. That is a code such as "EPSG:32633", or WKT for
    systems without a code. `square_metres` is the area of a pixel on the map; it is None for systems in degrees.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    square_metres: float | None

    @property
    def mirrored(self) -> bool:
        """Whether a right turn in the image is a left turn on the map, as it is where north is up."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    def coordinates(self, corners: Int64) -> Float64:
        """Convert n x 2 (column, row) to n x 2 float64 (x, y).

        Longitude comes before latitude, easting before northing.
        """
        a, b, c, d, e, f = self.transform
        column, row = corners[:, 0], corners[:, 1]
        return np.stack([a * column + b * row + c, d * column + e * row + f], 1)


def read_georeference(path: Path) -> Georeference | None:
    """Read the georeference of an image file; None for files other than GeoTIFF, and without a reference system.

    Raises MissingExtra for a GeoTIFF if rasterio is not installed. Raises DataError if the georeference cannot be read,
    and for a GeoTIFF with an orientation tag, because programs disagree on its coordinates.
    """
    if not os.path.isfile(path) or not is_tiff(path):
        return None
    tags = _tags(path)
    if tags is not None and GEO_KEYS not in tags:
        return None
    if not is_installed("rasterio"):
        if tags is None:
            return None
        raise MissingExtra("rasterio", "geo", path)
    if tags is not None and tags.get(ExifTags.Base.Orientation, 1) != 1:
        problem = "a GeoTIFF with an orientation tag"
        raise DataError.of(Fault("unsupported-format", path, problem, "export it upright"))
    with native_call():
        import rasterio

    try:
        with native_call(), without_warnings(), rasterio.open(path, driver="GTiff") as dataset:
            crs, transform = dataset.crs, dataset.transform
    except Exception as error:  # GDAL raises errors that are not subclasses of rasterio's
        problem = f"the georeference cannot be read ({error})"
        raise DataError.of(Fault("unreadable-file", path, problem, "export it again")) from error
    if not crs or transform.is_identity:
        return None
    metres = crs.linear_units_factor[1] if crs.is_projected else None
    square_metres = None if metres is None else abs(transform.determinant) * metres**2
    authority = crs.to_authority()
    return Georeference(":".join(authority) if authority else crs.to_wkt(), tuple(transform[:6]), square_metres)


def _tags(path: Path) -> ImageFileDirectory_v2 | None:
    """Read the TIFF tags; None if they are damaged, which the reader of the pixels reports."""
    try:
        return tiff_tags(path)
    except DataError:
        return None

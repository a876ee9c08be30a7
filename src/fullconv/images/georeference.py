"""Where the pixels of a GeoTIFF lie on the ground."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fullconv.errors import DataError, MissingExtra
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.tiff_tags import GEO_KEYS, is_tiff, tiff_tags

__all__ = ["Georeference", "georeference"]


@dataclass(frozen=True)
class Georeference:
    """The map's coordinates of an image.

    `transform` is (a, b, c, d, e, f): the corner (column, row) between pixels lies at x = a column + b row + c and
    y = d column + e row + f in the coordinate reference system `crs`, "EPSG:32633" and the like, or WKT for those
    without a number. `square_metres` is the area of a pixel in the plane of the map, for systems of lengths; those of
    angles have none.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    square_metres: float | None

    @property
    def mirrored(self) -> bool:
        """Whether what turns to the right on the image turns to the left on the map; so with north above."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    def coordinates(self, corners: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """n x 2 (column, row) to n x 2 float64 (x, y): longitude before latitude, easting before northing."""
        a, b, c, d, e, f = self.transform
        column, row = corners[:, 0], corners[:, 1]
        return np.stack([a * column + b * row + c, d * column + e * row + f], 1)


def georeference(path: Path) -> Georeference | None:
    """The georeference of an image file, None for those that have none: all but GeoTIFF, and GeoTIFF without a system.

    Only GeoTIFF asks for rasterio: MissingExtra where it is not installed. DataError if it cannot be read, and for
    pictures that are turned by their orientation tag as well, whose coordinates nobody can be sure of.
    """
    if not path.is_file() or not is_tiff(path):
        return None
    tags = _tags(path)
    if tags is not None and GEO_KEYS not in tags:
        return None
    if not is_installed("rasterio"):
        if tags is None:
            return None
        raise MissingExtra("rasterio", "geo", path)
    if tags is not None and tags.get(ExifTags.Base.Orientation, 1) != 1:
        raise DataError(f"{path}: a GeoTIFF with an orientation tag; export it upright", code="unsupported-format")
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as dataset:
                crs, transform = dataset.crs, dataset.transform
    except Exception as error:  # GDAL's own errors are not rasterio's
        message = f"{path}: the georeference cannot be read ({error}); export it again"
        raise DataError(message, code="unreadable-file") from error
    if not crs or transform.is_identity:
        return None
    metres = crs.linear_units_factor[1] if crs.is_projected else None
    square_metres = None if metres is None else abs(transform.determinant) * metres**2
    authority = crs.to_authority()
    return Georeference(":".join(authority) if authority else crs.to_wkt(), tuple(transform[:6]), square_metres)


def _tags(path: Path) -> ImageFileDirectory_v2 | None:
    """The TIFF tags, without decoding; None where they are damaged, which has been told by who reads the image."""
    try:
        return tiff_tags(path)
    except DataError:
        return None

"""Rasters through rasterio, which brings GDAL: windows of GeoTIFF, PNG and JPEG, and GeoTIFF written in bands."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as Place

from fullconv.data.bands import ValueRange
from fullconv.errors import DataError
from fullconv.image import told_of
from fullconv.run.rasters import Coding, Mask, Origin, bands_read

__all__ = ["BLOCK", "gdal_raster", "write_geotiff"]

BLOCK = 512
"""Side of the tiles of a written file; `bands` should come in so many rows."""

CACHE_MB = 64
"""Decoded blocks that GDAL may keep; its own rule, 5 % of the machine's memory, is no bound."""

UInt8 = npt.NDArray[np.uint8]


class _GdalRaster:
    """An open rasterio data set as a `Raster`."""

    def __init__(self, source: Any, path: Path, channels: int, value_range: ValueRange | None) -> None:
        self.size = (source.height, source.width)
        (height, width), count = source.block_shapes[0], source.count
        self.by_rows = width >= source.width
        self.block_bytes = height * width * np.dtype(source.dtypes[0]).itemsize * count
        self._source, self._path = source, path
        colored = source.colorinterp  # once: later, rasterio raises what GDAL has said of odd tags since
        palette = colored[0] == ColorInterp.palette
        read, self.note = bands_read(path, 3 if palette else count, ColorInterp.alpha in colored, channels)
        self._bands = [1] if palette else list(range(1, read + 1))
        if ColorInterp.cyan in colored:
            raise DataError(f"{path}: CMYK colours; convert it to RGB", code="unsupported-format")
        flags = source.mask_flag_enums[0]
        self.origin = _origin(source)
        says_alpha = MaskFlags.alpha in flags and channels == count  # then it is a channel like others
        self._masked = source.driver == "GTiff" and flags != [MaskFlags.all_valid] and not says_alpha
        self._coding = replace(_coding(source, path, palette), channels=channels, value_range=value_range)

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """As `Raster.read`."""
        place = Place(columns.start, rows.start, len(columns), len(rows))
        with told_of(self._path):
            stored = self._source.read(self._bands, window=place)
            valid = self._source.dataset_mask(window=place) if self._masked else None
        empty = None if valid is None else valid == 0
        return self._coding.bytes_of(np.moveaxis(stored, 0, -1), empty), empty


def _origin(source: Any) -> Origin | None:
    points, crs = source.gcps
    if points:
        return Origin(crs, gcps=points)
    located = source.crs is not None or not source.transform.is_identity
    return Origin(source.crs, source.transform) if located else None


def _coding(source: Any, path: Path, colored: bool) -> Coding:
    structure = source.tags(1, ns="IMAGE_STRUCTURE") | source.tags(ns="IMAGE_STRUCTURE")
    palette = None
    if colored:
        palette = np.zeros((2 ** (8 * np.dtype(source.dtypes[0]).itemsize), 3), np.uint8)
        for index, color in source.colormap(1).items():
            palette[index] = color[:3]
    inverted = structure.get("MINISWHITE") == "YES"
    return Coding(path, palette, int(structure.get("NBITS", 8)), inverted)


@contextmanager
def gdal_raster(
    path: Path, driver: str, channels: int = 3, value_range: ValueRange | None = None
) -> Iterator[_GdalRaster]:
    """An image as a `Raster`, through one of GDAL's drivers; DataError if it cannot open it."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with told_of(path):
            source = rasterio.open(path, driver=driver)
        with source:
            with told_of(path):
                raster = _GdalRaster(source, path, channels, value_range)
            yield raster


def write_geotiff(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[UInt8],
    palette: UInt8 | None,
    origin: Origin | None,
    nodata: int | None = None,
) -> None:
    """Write bands of rows, h x W or h x W x 3 uint8, as a tiled and compressed TIFF of `size` (height, width).

    With `palette`, 256 x 3 uint8 RGB, they hold its indices (deflate, no loss); without one RGB (JPEG at quality 90).
    BigTIFF where 4 GB might not do.
    """
    origin = origin or Origin()
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "height": size[0], "width": size[1]}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "BIGTIFF": "IF_SAFER", "crs": origin.crs}
    profile |= {"gcps": origin.gcps} if origin.gcps else {"transform": origin.transform}
    profile |= {"nodata": nodata, "count": 3 if palette is None else 1}
    if palette is None:
        profile |= {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel", "JPEG_QUALITY": 90}
    else:
        profile |= {"compress": "deflate"}
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, "w", **profile) as target:
                if palette is not None:
                    target.write_colormap(1, {index: (*color, 255) for index, color in enumerate(palette.tolist())})
                top = 0
                for band in bands:
                    stacked = band[None] if palette is not None else np.moveaxis(band, -1, 0)
                    target.write(stacked, window=Place(0, top, size[1], len(band)))
                    top += len(band)
        except RasterioError as error:
            raise OSError(" ".join(str(error).split())) from error

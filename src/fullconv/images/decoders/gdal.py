"""Reading of windows of TIFF, PNG and JPEG, and writing of GeoTIFF in bands, through rasterio and its GDAL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rasterio.windows import Window

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.forks import native_call
from fullconv.images.decoders.base import BLOCK, GeoTags, select_bands
from fullconv.images.decoders.open_pillow import decoding_errors, without_warnings
from fullconv.images.decoders.tiff_tags import check_tiles
from fullconv.images.decoders.values import PixelDecoder
from fullconv.images.input_format import RGB, InputFormat

__all__ = ["GdalReader", "move_geo", "open_gdal", "write_cog", "write_geotiff"]

CACHE_MB = 64
"""Memory for decoded blocks. GDAL's default, 5 % of the machine's memory, may be too much."""


class GdalReader:
    """An open rasterio data set as an `ImageReader`."""

    def __init__(self, source: Any, path: Path, input: InputFormat) -> None:
        self.size = (source.height, source.width)
        (height, width), count = source.block_shapes[0], source.count
        self.by_rows = width >= source.width
        self.block_bytes = height * width * np.dtype(source.dtypes[0]).itemsize * count
        self._source, self._path = source, path
        colored = source.colorinterp  # read once: after GDAL has logged odd tags, rasterio raises them here
        structure = source.tags(1, ns="IMAGE_STRUCTURE") | source.tags(ns="IMAGE_STRUCTURE")
        inverted = structure.get("MINISWHITE") == "YES"
        palette = colored[0] == ColorInterp.palette and not inverted  # GDAL makes a palette for grey with white at 0
        read, self.note = select_bands(path, 3 if palette else count, ColorInterp.alpha in colored, input)
        self._bands = [1] if palette else list(range(1, read + 1))
        if ColorInterp.cyan in colored:
            raise DataError.of(Fault("unsupported-format", path, "has CMYK colours", "convert it to RGB"))
        flags = source.mask_flag_enums[0]
        self.geo = _geo_tags(source)
        is_tiff = source.driver == "GTiff"
        self.nodata: float | None = source.nodata if is_tiff else None  # that of a PNG is a transparent colour
        says_alpha = MaskFlags.alpha in flags and input.channels == count  # alpha is then a channel like the others
        self.masked = is_tiff and flags != [MaskFlags.all_valid] and not says_alpha
        colors = _read_palette(source) if palette else None
        self._decoder = PixelDecoder(path, input, colors, int(structure.get("NBITS", 8)), inverted)

    @property
    def bits(self) -> int:
        """Bits of each number."""
        return self._decoder.bits

    @property
    def inverted(self) -> bool:
        """Whether 0 is white."""
        return self._decoder.inverted

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        stored, empty = self.numbers(rows, columns)
        return self._decoder.bytes_of(stored, empty), empty

    def read_sparse(self, rows: range, columns: range, step: int) -> UInt8:
        """Read every `step`-th pixel of every `step`-th row of a window; only these are converted to 8 bits."""
        stored, empty = self.numbers(rows, columns)
        return self._decoder.bytes_of(stored[::step, ::step], None if empty is None else empty[::step, ::step])

    def overview_steps(self) -> list[int]:
        """Return the reductions at which the file holds smaller copies of itself."""
        return list(self._source.overviews(1))

    def read_reduced(self, rows: range, columns: range, step: int) -> UInt8:
        """Read about every `step`-th pixel of a window from the copies in the file; without copies, this is slow."""
        shape = len(self._bands), -(-len(rows) // step), -(-len(columns) // step)
        with native_call(), decoding_errors(self._path):
            stored = self._source.read(self._bands, window=_window(rows, columns), out_shape=shape)
            empty = None
            if self.masked:
                empty = self._source.dataset_mask(window=_window(rows, columns), out_shape=shape[1:]) == 0
        return self._decoder.bytes_of(np.moveaxis(stored, 0, -1), empty)

    def numbers(self, rows: range, columns: range) -> tuple[npt.NDArray[Any], Mask | None]:
        """Read the stored numbers of a window, h x w x bands, and the mask of the pixels without data."""
        stored = self.stored(rows, columns)
        if not self.masked:
            return stored, None
        with native_call(), decoding_errors(self._path):
            return stored, self._source.dataset_mask(window=_window(rows, columns)) == 0

    def stored(self, rows: range, columns: range) -> npt.NDArray[Any]:
        """Read the stored numbers of a window, h x w x bands."""
        with native_call(), decoding_errors(self._path):
            return np.moveaxis(self._source.read(self._bands, window=_window(rows, columns)), 0, -1)


def _window(rows: range, columns: range) -> Window:
    return Window(columns.start, rows.start, len(columns), len(rows))


def _geo_tags(source: Any) -> GeoTags | None:
    points, crs = source.gcps
    if points:
        return GeoTags(crs, gcps=points)
    located = source.crs is not None or not source.transform.is_identity
    return GeoTags(source.crs, source.transform) if located else None


def _read_palette(source: Any) -> UInt8:
    palette = np.zeros((2 ** (8 * np.dtype(source.dtypes[0]).itemsize), 3), np.uint8)
    for index, color in source.colormap(1).items():
        palette[index] = color[:3]
    return palette


@contextmanager
def open_gdal(path: Path, driver: str, input: InputFormat = RGB, page: int | None = None) -> Iterator[GdalReader]:
    """Open an image, or one `page` of a TIFF, with one of GDAL's drivers. Raises DataError if that fails."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"):
        with native_call(), without_warnings(), decoding_errors(path):
            source = rasterio.open(path if page is None else f"GTIFF_DIR:{page + 1}:{path}", driver=driver)
        with _closing(source):
            with native_call(), without_warnings(), decoding_errors(path):
                reader = GdalReader(source, path, input)
            yield reader


@contextmanager
def _closing(source: Any) -> Iterator[None]:
    try:
        yield
    finally:
        with native_call():
            source.close()


def write_geotiff(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[UInt8],
    palette: UInt8 | None,
    geo: GeoTags | None,
    nodata: int | None = None,
) -> None:
    """Write bands of `BLOCK` rows, h x W or h x W x 3 uint8, as a tiled and compressed TIFF of `size` (height, width).

    With `palette`, 256 x 3 uint8 RGB, the bands hold its indices and are compressed without loss (deflate). Without,
    they hold RGB and are compressed as JPEG at quality 90. The file is a BigTIFF if 4 GB may not suffice. Raises
    OSError if it cannot be written.
    """
    geo = geo or GeoTags()
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "height": size[0], "width": size[1]}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "BIGTIFF": "IF_SAFER", "crs": geo.crs}
    profile |= {"gcps": geo.gcps} if geo.gcps else {"transform": geo.transform}
    profile |= {"nodata": nodata, "count": 3 if palette is None else 1}
    if palette is None:
        profile |= {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel", "JPEG_QUALITY": 90}
    else:
        profile |= {"compress": "deflate"}
    with _writing():
        with native_call(), without_warnings():
            target = rasterio.open(path, "w", **profile)
        with _closing(target):
            if palette is not None:
                target.write_colormap(1, {index: (*color, 255) for index, color in enumerate(palette.tolist())})
            top = 0
            for band in bands:
                stacked = band[None] if palette is not None else np.moveaxis(band, -1, 0)
                with native_call():
                    target.write(stacked, window=Window(0, top, size[1], len(band)))
                top += len(band)
    check_tiles(path)  # GDAL writes the last tiles when it closes the file, and rasterio reports no error of that


def write_cog(source: Path, target: Path) -> None:
    """Copy a label map, such as a VRT that fullconv wrote, to a Cloud Optimized GeoTIFF with overviews (nearest).

    Raises OSError if it cannot be written.
    """
    options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": BLOCK, "OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": "IF_SAFER"}
    with _writing(), native_call(), without_warnings():
        copy_raster(source, target, driver="COG", **options)
    check_tiles(target)


def move_geo(geo: GeoTags | None, top: int, left: int) -> GeoTags | None:
    """Return the georeference of the part of an image whose first pixel is at row `top` and column `left`."""
    if geo is None:
        return None
    if geo.gcps:
        gcps = [
            GroundControlPoint(point.row - top, point.col - left, point.x, point.y, point.z, point.id, point.info)
            for point in geo.gcps
        ]
        return replace(geo, gcps=gcps)
    a, b, c, d, e, f = tuple(geo.transform)[:6]
    return replace(geo, transform=Affine(a, b, c + a * left + b * top, d, e, f + d * left + e * top))


@contextmanager
def _writing() -> Iterator[None]:
    """Set GDAL up for writing, and turn rasterio's errors into OSError."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"):
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            reason = error.__cause__ or error.__context__ or error  # rasterio's own says only that the write failed
            raise OSError(" ".join(str(reason).split())) from error

"""Reading of masks as H x W uint8 label maps of class ids, whole or in windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, SAMPLESPERPIXEL, TiffImageFile

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags, RowCache
from fullconv.images.decoders.headers import read_header
from fullconv.images.decoders.open_pillow import decoding_errors, load_upright, open_with_pillow
from fullconv.images.decoders.pages import count_pages
from fullconv.images.decoders.tiff_tags import read_nodata, tiff_tags
from fullconv.images.reader import gdal_driver
from fullconv.labels import LabelSet

__all__ = [
    "LabelReader",
    "WholeLabels",
    "grey_maximum",
    "open_label_map",
    "pages_fault",
    "read_label_map",
    "stored_labels",
    "unstretch_grey",
]

_GREY, _RGB, _PALETTE = 1, 2, 3


class LabelReader(Protocol):
    """A label map of `size` (height, width) that is read in windows."""

    size: tuple[int, int]

    def read(self, rows: range, columns: range) -> UInt8:
        """Read the class ids of a window, h x w uint8. Raises DataError as `read_label_map`."""
        ...


def read_label_map(path: StrPath, labels: LabelSet | None = None) -> UInt8:
    """Read a mask file as an H x W uint8 label map of class ids, upright.

    The ids are the stored numbers: the indices of a palette image (its colours are not read), or the values of a grey
    image of 1 to 32 bits. The nodata value of a GeoTIFF becomes 255. Colour images need `labels`, which gives each
    colour its id (`LabelSet.from_colors`); alpha is dropped.

    Raises DataError as `read_image`, and for JPEG (its compression changes labels), for several pages, for ids above
    255, and for colours that are not in `labels`.
    """
    with open_with_pillow(Path(path)) as image:
        if image.format in ("JPEG", "MPO"):
            problem = "a JPEG mask, whose compression changes labels"
            raise DataError.of(Fault("jpeg-mask", Path(path), problem, "save masks as PNG"))
        stored = stored_labels(image, path)
    return stored if stored.ndim == 2 else _ids_from_colors(stored, path, labels)


def stored_labels(image: ImageFile, path: StrPath) -> UInt8:
    """Decode a mask that Pillow has opened, upright: H x W uint8 class ids, or H x W x 3 uint8 RGB for colour masks.

    The nodata value of a GeoTIFF becomes 255. Raises DataError as `read_label_map`, but not for JPEG.
    """
    if (pages := count_pages(Path(path), image)) > 1:
        raise DataError.of(pages_fault(Path(path), pages))
    with decoding_errors(path):
        maximum = grey_maximum(image)
        nodata = read_nodata(image.tag_v2) if isinstance(image, TiffImageFile) else None
        upright = load_upright(image)
        if upright.mode in ("RGB", "RGBA"):
            return np.asarray(upright.convert("RGB"))
        if upright.mode in ("LA", "PA"):
            upright = upright.getchannel(0)
        if upright.mode not in ("1", "L", "P") and not upright.mode.startswith("I"):
            problem, remedy = f"a mask of mode {upright.mode}", "save masks as 8-bit indexed or grey PNG"
            raise DataError.of(Fault("unsupported-format", Path(path), problem, remedy))
        stored = np.asarray(upright)
        return _ids_from_grey(stored if nodata is None else np.where(stored == nodata, 255, stored), maximum, path)


def pages_fault(path: Path, pages: int) -> Fault:
    """Return the fault of a mask of several pages."""
    problem = f"is a mask of {pages} pages or frames, of which only the first would be read"
    return Fault("image-stack", path, problem, "write the class ids of all pages into one, or save one mask an image")


def grey_maximum(image: ImageFile) -> int | None:
    """Return the largest grey value that the file can store, if Pillow stretches its values to 8 or 16 bits."""
    parameters = image.tile[0][3] if image.tile else None
    values = parameters if isinstance(parameters, tuple) else (parameters,)
    if image.format == "PPM" and len(values) == 2:
        return int(values[1])
    return {"L;2": 3, "L;4": 15}.get(str(values[0])[:3])


def unstretch_grey(stored: npt.NDArray[Any], maximum: int | None) -> npt.NDArray[Any]:
    """Return grey values as the file stores them; `maximum` is that of `grey_maximum`."""
    if maximum is None:
        return stored
    top = 255 if stored.dtype == np.uint8 else 65535
    return (stored.astype(np.int64) * maximum + top // 2) // top


def _ids_from_grey(stored: npt.NDArray[Any], maximum: int | None, path: StrPath) -> UInt8:
    stored = unstretch_grey(stored, maximum)
    low, high = stored.min(), stored.max()
    if low < 0 or high > 255:
        problem = f"has labels from {low} to {high}, but only 0 to 255 can be read"
        raise DataError.of(Fault("unknown-label", Path(path), problem, "renumber the classes"))
    return stored.astype(np.uint8)


def _ids_from_colors(rgb: UInt8, path: StrPath, labels: LabelSet | None) -> UInt8:
    if labels is None:
        problem = "a mask in colours, with no table of class colours"
        raise DataError.of(Fault("no-colour-table", Path(path), problem, "give one or save class ids"))
    try:
        return labels.from_colors(rgb)
    except DataError as error:
        fault = Fault("unknown-colour", Path(path), str(error), "correct the mask, or add the colour and its class")
        raise DataError.of(fault) from None


@contextmanager
def open_label_map(path: StrPath, labels: LabelSet | None = None) -> Iterator[LabelReader]:
    """Open a mask to read it in windows, with the same labels as `read_label_map`.

    rasterio reads windows of PNG and TIFF, tifffile of TIFF. Other files are decoded whole, and so are kinds of
    masks for which these libraries return other numbers than Pillow. Raises DataError as `read_label_map`.
    """
    path = Path(path)
    package = _window_package(path)
    if package == "rasterio":
        from fullconv.images.decoders.gdal import open_gdal

        with open_gdal(path, gdal_driver(path) or "") as source:
            yield _windows(_Stored(source, path, labels))
    elif package == "tifffile":
        from fullconv.images.decoders.tiff import open_tiff

        with open_tiff(path) as page:
            yield _windows(_Stored(page, path, labels))
    else:
        yield WholeLabels(read_label_map(path, labels))


def _window_package(path: Path) -> str | None:
    """Return the library that reads windows of a mask with the same numbers as Pillow; None if there is none."""
    header = read_header(path)
    driver = gdal_driver(path)
    if header.orientation != 1 or driver not in ("GTiff", "PNG") or count_pages(path) > 1:
        return None
    if driver == "GTiff":
        tags = tiff_tags(path)
        kind = tags.get(PHOTOMETRIC_INTERPRETATION), int(tags.get(SAMPLESPERPIXEL, 1))
        if kind not in ((_GREY, 1), (_PALETTE, 1), (_RGB, 3)):
            return None
    if is_installed("rasterio"):
        return "rasterio"
    if driver == "PNG" or not is_installed("tifffile"):
        return None
    from fullconv.images.decoders.tiff import suits_tifffile

    return "tifffile" if suits_tifffile(path) else None


class WholeLabels:
    """A label map in memory as a `LabelReader`."""

    def __init__(self, label_map: UInt8) -> None:
        self.size = (label_map.shape[0], label_map.shape[1])
        self._label_map = label_map

    def read(self, rows: range, columns: range) -> UInt8:
        """Read a window as `LabelReader.read` does."""
        return self._label_map[rows.start : rows.stop, columns.start : columns.stop]


class _Source(Protocol):
    """The attributes of `GdalReader` and `TiffReader` that masks need."""

    size: tuple[int, int]
    by_rows: bool
    block_bytes: int
    nodata: float | None

    def stored(self, rows: range, columns: range) -> npt.NDArray[Any]: ...


class _Stored:
    """The class ids of an open mask, h x w x 1, as an `ImageReader`."""

    geo: GeoTags | None = None
    note = ""
    masked = False

    def __init__(self, source: _Source, path: Path, labels: LabelSet | None) -> None:
        self.size, self.by_rows, self.block_bytes = source.size, source.by_rows, source.block_bytes
        self._source, self._path, self._labels = source, path, labels

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        stored = self._source.stored(rows, columns)
        if stored.shape[2] == 3:
            rgb = stored if stored.dtype == np.uint8 else (stored >> 8).astype(np.uint8)
            return _ids_from_colors(rgb, self._path, self._labels)[..., None], None
        if stored.dtype.kind not in "buif" or stored.dtype.kind == "f":
            problem, remedy = f"a mask of type {stored.dtype}", "save masks as 8-bit indexed or grey PNG"
            raise DataError.of(Fault("unsupported-format", self._path, problem, remedy))
        ids, nodata = stored[..., 0], self._source.nodata
        with_nodata = ids if nodata is None else np.where(ids == nodata, 255, ids)
        return _ids_from_grey(with_nodata, None, self._path)[..., None], None


class _Windows:
    """A `LabelReader` of the single channel of an `ImageReader`."""

    def __init__(self, reader: _Stored | RowCache) -> None:
        self.size, self._reader = reader.size, reader

    def read(self, rows: range, columns: range) -> UInt8:
        """Read a window as `LabelReader.read` does."""
        return self._reader.read(rows, columns)[0][..., 0]


def _windows(stored: _Stored) -> _Windows:
    return _Windows(RowCache(stored, 1) if stored.by_rows else stored)

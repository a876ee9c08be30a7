"""Images of any number of bands as bytes: grey, RGB, alpha, multispectral TIFF, and arrays in .npy files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
)

from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.image import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    damaged,
    eight_bits,
    image_size,
    loaded_upright,
    opened_image,
    read_image,
)
from fullconv.images.input_format import ValueRange

__all__ = [
    "ARRAY_SUFFIX",
    "BAND_SUFFIXES",
    "TIFF_STARTS",
    "BandHeader",
    "ValueRange",
    "band_header",
    "band_size",
    "beyond_pillow",
    "image_bands",
    "is_array",
    "is_tiff",
    "open_array",
    "read_bands",
    "rgb_view",
    "tiff_tags",
    "to_bytes",
    "wrong_bands",
]

ARRAY_SUFFIX = ".npy"
BAND_SUFFIXES = IMAGE_SUFFIXES | {ARRAY_SUFFIX}
"""Suffixes, in lower case, of the files that images are read from, arrays among them."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_BANDS_FIRST = 32
"""Arrays with no more rows than this and more columns and bands are taken for bands x rows x columns, and refused."""

PILLOWS_BANDS, SEPARATE = 4, 2

_RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 2, 3, 5, 6, 8

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BandHeader:
    """What a file's header says: (height, width), upright; its bands, and whether the last one is alpha.

    `color` says that the first three bands are red, green and blue. Palettes, CMYK and the like count as those three.
    """

    size: tuple[int, int]
    bands: int
    alpha: bool = False
    color: bool = False

    @property
    def channels(self) -> int:
        """The channels that are read unless others are asked for: RGB of one or three bands, else all; alpha never."""
        without = self.bands - self.alpha
        return 3 if without in (1, 3) else without

    def gives(self, channels: int) -> bool:
        """Whether so many channels can be read: all bands, those without alpha, or RGB of colours and of grey."""
        return channels in (self.bands, self.bands - self.alpha, self.channels) or (channels == 3 and self.color)


def band_header(path: StrPath) -> BandHeader:
    """What `read_bands` would read, from the header alone. Raises DataError as it does, but for damage behind it."""
    path = Path(path)
    if is_array(path):
        array = open_array(path)
        return BandHeader((array.shape[0], array.shape[1]), array.shape[2])
    if beyond_pillow(path):
        tags = tiff_tags(path)
        return _tiff_header(tags, _checked_size(path, tags))
    size = image_size(path)
    with opened_image(path) as image:
        if image.format == "TIFF":
            return _tiff_header(image.tag_v2, size)  # type: ignore[attr-defined]
        grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
        alpha = image.mode in ("LA", "RGBA")
    return BandHeader(size, (1 if grey else 3) + alpha, alpha, not grey)


def band_size(path: StrPath) -> tuple[int, int]:
    """(height, width) of what `read_bands` returns, as `image.image_size`, whose files are opened but once."""
    return band_header(path).size if beyond_pillow(Path(path)) else image_size(path)


def read_bands(path: StrPath, channels: int = 3, value_range: ValueRange | None = None) -> UInt8:
    """An image file as H x W x `channels` uint8, upright.

    Three channels are RGB as `image.read_image` gives it, which grey is repeated for. Else they are the bands that are
    stored, alpha left out where that makes the number right. Bytes stay; other numbers, of which `value_range` becomes
    0..255 and what lies outside is clipped, follow the rules of `read_image` without it: 0..65535, or 0..1 for floats.
    A TIFF's nodata values become 0. TIFFs with more bands or bits than Pillow reads take rasterio or tifffile.

    Raises DataError as `read_image`, for other numbers of bands, for NaN, and for values outside of 0..65535 or 0..1
    without a range; MissingExtra where neither rasterio nor tifffile is installed.
    """
    path = Path(path)
    if channels == 3 and value_range is None and not beyond_pillow(path):
        return read_image(path)
    header = band_header(path)
    if not header.gives(channels):
        raise wrong_bands(path, header.bands, channels)
    stored = _stored(path, value_range)
    if value_range is None and channels == 3 == stored.shape[2] and stored.dtype == np.uint16 and not is_array(path):
        stored = (stored >> 8).astype(np.uint8)
    return to_bytes(_fitted(stored, channels), value_range, path)


def image_bands(image: Image.Image, channels: int, value_range: ValueRange | None = None) -> UInt8:
    """An opened Pillow image as `read_bands` gives its file, for other numbers than three of its own bands."""
    try:
        stored = _decoded(image)
    except OSError as error:
        raise damaged("the image", error) from error
    alpha = stored.shape[2] in (2, 4)
    if not BandHeader(stored.shape[:2], stored.shape[2], alpha).gives(channels):
        raise wrong_bands("the image", stored.shape[2], channels)
    return to_bytes(_fitted(stored, channels), value_range, "the image")


def wrong_bands(path: StrPath, bands: int, channels: int) -> DataError:
    """Return the error for a file whose number of bands does not fit the model."""
    problem = f"has {_counted(bands)}, the model takes {channels}"
    return DataError.of(
        Fault("band-count", Path(path), problem, "give it images with the bands that it was trained on")
    )


def rgb_view(image: UInt8) -> UInt8:
    """What is shown of an H x W x C image: its first three channels as RGB, or the first one as grey; H x W x 3."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def to_bytes(stored: npt.NDArray[Any], value_range: ValueRange | None, path: StrPath) -> UInt8:
    """Numbers of any type and shape to uint8, by the rules of `read_bands`; DataError in the name of `path`."""
    if stored.dtype == np.uint8:
        return np.array(stored, order="C")  # a mapped file is read only
    if stored.dtype.kind not in "uif":
        problem = f"pixels of type {stored.dtype}"
        raise DataError.of(Fault("unsupported-format", Path(path), problem, "save integers or floats"))
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        remedy = "replace them by numbers, as np.nan_to_num does"
        raise DataError.of(Fault("not-finite", Path(path), "holds NaN or infinite values", remedy))
    if value_range is not None:
        low, high = value_range
        scaled = (stored.astype(np.promote_types(stored.dtype, np.float32)) - low) * (255 / (high - low))
        found: UInt8 = np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return found
    least, most = stored.min(), stored.max()
    top = 1 if stored.dtype.kind == "f" else 65535
    if least < 0 or most > top:
        problem = f"values from {least} to {most}, where 0 to {top} can be read"
        remedy = f"say in dataset.yaml what becomes 0 and 255, as `range: [{least}, {most}]`"
        raise DataError.of(Fault("value-range", Path(path), problem, remedy))
    return eight_bits(stored, path)


def is_array(path: Path) -> bool:
    """Whether the file is an array of NumPy, by its suffix."""
    return path.suffix.lower() == ARRAY_SUFFIX


def open_array(path: Path) -> npt.NDArray[Any]:
    """An H x W or H x W x C array of integers or floats in a .npy file, as H x W x C, mapped and not yet read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises many kinds on damage
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        problem = f"cannot be read as an array ({reason})"
        raise DataError.of(Fault("unreadable-file", path, problem, "write it with np.save")) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif" or array.ndim not in (2, 3):
        found = f"{' x '.join(map(str, array.shape))} {array.dtype}" if isinstance(array, np.ndarray) else "an archive"
        remedy = "an image is height x width x bands of integers or floats"
        raise DataError.of(Fault("unsupported-format", path, f"is {found}", remedy))
    stored = array if array.ndim == 3 else array[..., None]
    height, width, bands = stored.shape
    if not 0 < height * width <= MAX_PIXELS or bands == 0:
        problem = f"{width} x {height} pixels of {_counted(bands)}"
        raise DataError.of(Fault("too-large", path, problem, f"1 to {MAX_PIXELS} pixels can be read"))
    if height <= MOST_BANDS_FIRST < min(width, bands):
        remedy = "bands come last: save np.moveaxis(array, 0, -1)"
        raise DataError.of(Fault("unsupported-format", path, f"is {height} x {width} x {bands}", remedy))
    return stored


def is_tiff(path: Path) -> bool:
    """Whether the file is a TIFF or a BigTIFF, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4).startswith(TIFF_STARTS)


def tiff_tags(path: Path) -> ImageFileDirectory_v2:
    """The tags of a TIFF's first page, of any kind of pixels. Raises DataError where they are damaged."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = file.read(8)
            directory = ImageFileDirectory_v2(start + (file.read(8) if b"+" in start[:4] else b""))
            file.seek(directory.next)
            directory.load(file)
        int(directory[IMAGELENGTH]), int(directory[IMAGEWIDTH])
    except Exception as error:  # damaged tags raise nearly everything
        raise damaged(path, error) from error
    return directory


def beyond_pillow(path: Path) -> bool:
    """Whether it is an array, or a TIFF of a kind that Pillow does not decode."""
    if is_array(path):
        return True
    try:
        if not path.is_file() or not is_tiff(path):
            return False
        with opened_image(path, None):
            tags = tiff_tags(path)
        planes = tags.get(PLANAR_CONFIGURATION) == SEPARATE and np.max(tags.get(BITSPERSAMPLE, 1)) > 8
        return planes or int(tags.get(SAMPLESPERPIXEL, 1)) > PILLOWS_BANDS
    except OSError:
        return False
    except DataError:
        return True


def _tiff_header(tags: ImageFileDirectory_v2, size: tuple[int, int]) -> BandHeader:
    kind = tags.get(PHOTOMETRIC_INTERPRETATION)
    if kind in (_PALETTE, _CMYK, _YCBCR, _LAB):
        return BandHeader(size, 3, color=True)
    extra = tags.get(EXTRASAMPLES, ())
    roles = extra if isinstance(extra, tuple) else (extra,)
    return BandHeader(size, int(tags.get(SAMPLESPERPIXEL, 1)), roles[-1:] in ((1,), (2,)), kind == _RGB)


def _checked_size(path: Path, tags: ImageFileDirectory_v2) -> tuple[int, int]:
    height, width = int(tags[IMAGELENGTH]), int(tags[IMAGEWIDTH])
    if not 0 < height * width <= MAX_PIXELS:
        problem = f"{width} x {height} pixels, where 1 to {MAX_PIXELS} can be read"
        raise DataError.of(Fault("too-large", path, problem, "cut it into tiles"))
    if tags.get(ExifTags.Base.Orientation, 1) != 1:
        raise DataError.of(
            Fault("unsupported-format", path, "several bands and an orientation tag", "export it upright")
        )
    return height, width


def _stored(path: Path, value_range: ValueRange | None) -> npt.NDArray[Any]:
    """H x W x bands of the file's own numbers."""
    if is_array(path):
        return open_array(path)
    deep = beyond_pillow(path)
    if not deep and is_tiff(path):
        tags = tiff_tags(path)
        bits, samples = np.max(tags.get(BITSPERSAMPLE, 1)), int(tags.get(SAMPLESPERPIXEL, 1))
        deep = samples == 2 or (bits > 8 and samples > 1)
    if deep:
        _checked_size(path, tiff_tags(path))
        return _tiff_bands(path)
    with opened_image(path) as image:
        if value_range is not None and image.mode.startswith("RGB") and ";16" in str(image.tile[:1]):
            problem = "colours of 16 bits, which are read as 8 here"
            raise DataError.of(Fault("unsupported-format", path, problem, "save it as TIFF for a range"))
        return _decoded(image)


def _decoded(image: Image.Image) -> npt.NDArray[Any]:
    upright = loaded_upright(image)
    plain = upright.mode in ("L", "LA", "RGB", "RGBA", "RGBX", "F") or upright.mode.startswith("I")
    stored = np.array(upright if plain else upright.convert("L" if upright.mode == "1" else "RGB"))
    return stored.reshape(*stored.shape[:2], -1)


def _tiff_bands(path: Path) -> npt.NDArray[Any]:
    """All bands of a TIFF, H x W x bands; 0 where its nodata value is."""
    if find_spec("rasterio"):
        stored, nodata = _through_rasterio(path)
    elif find_spec("tifffile"):
        stored, nodata = _through_tifffile(path)
    else:
        raise MissingExtra("rasterio", "geo", path)
    if nodata is not None:
        stored[np.isnan(stored) if np.isnan(nodata) else stored == nodata] = 0
    return stored


def _through_rasterio(path: Path) -> tuple[npt.NDArray[Any], float | None]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as source:
                return np.moveaxis(source.read(), 0, -1), source.nodata
        except RasterioError as error:
            raise damaged(path, error) from error


def _through_tifffile(path: Path) -> tuple[npt.NDArray[Any], float | None]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            stored = page.asarray()
            nodata = page.nodata if 42113 in page.tags else None
            separate = page.planarconfig == 2 and page.samplesperpixel > 1
    except Exception as error:  # decoders raise nearly everything on damaged input
        reason = " ".join(str(error).split())
        problem = f"cannot be decoded ({reason})"
        raise DataError.of(Fault("unsupported-format", path, problem, "install 'fullconv[geo]'")) from error
    if separate:
        stored = np.moveaxis(stored, 0, -1)
    return stored.reshape(*stored.shape[:2], -1), nodata


def _fitted(stored: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    return stored[..., :channels] if stored.shape[2] >= channels else np.repeat(stored[..., :1], channels, axis=2)


def _counted(bands: int) -> str:
    return "one band" if bands == 1 else f"{bands} bands"

"""Reading of images with Pillow, which always decodes the whole image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from fullconv.arrays import Mask, UInt8
from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.forks import lazy_property
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags
from fullconv.images.decoders.headers import ImageHeader, needs_tiff_library, pillow_header
from fullconv.images.decoders.open_pillow import check_pixels, decoding_errors, load_upright, open_with_pillow
from fullconv.images.decoders.tiff_tags import GEO_KEYS, tiff_tags
from fullconv.images.decoders.values import band_count_error, fit_bands, scale_to_bytes, to_bytes
from fullconv.images.input_format import RGB, InputFormat
from fullconv.installation import pip_command

__all__ = ["GEO_LOST", "PillowReader", "decode_image", "read_stored"]

GEO_LOST = "GeoTIFFs are read without their georeference and nodata value, so the label maps lack both"
"""The start of the note on a GeoTIFF that Pillow reads."""


def decode_image(image: Image.Image, input: InputFormat = RGB, path: StrPath = "the image") -> UInt8:
    """Decode a Pillow image to H x W x C uint8 by the rules of `read_image`.

    Raises DataError as `read_image`; the message names `path`.
    """
    with decoding_errors(path):
        check_pixels((image.height, image.width), path)
        return _rgb(image, path) if input == RGB else _bands(image, input, path)


class PillowReader:
    """An image of at most `MAX_PIXELS` as an `ImageReader`. The first window decodes the whole image."""

    block_bytes = 0
    by_rows = False
    geo: GeoTags | None = None
    masked = False

    def __init__(self, path: Path, header: ImageHeader, input: InputFormat) -> None:
        check_pixels(header.stored, path)
        self.size, self.note = header.size, ""
        if header.format == "TIFF":
            _check_tiff(path, header, input)
            is_lost = not is_installed("rasterio") and not is_installed("tifffile")
            if is_lost and GEO_KEYS in tiff_tags(path):
                self.note = f"{GEO_LOST}; to keep them, run: {pip_command('geo')}"
        self._path, self._input = path, input

    def read(self, rows: range, columns: range) -> tuple[UInt8, Mask | None]:
        """Read a window as `ImageReader.read` does."""
        return self._pixels[rows.start : rows.stop, columns.start : columns.stop], None

    @lazy_property
    def _pixels(self) -> UInt8:
        with open_with_pillow(self._path) as image:
            return decode_image(image, self._input, self._path)


def _check_tiff(path: Path, header: ImageHeader, input: InputFormat) -> None:
    """Raise an error for a TIFF that Pillow cannot decode."""
    if not header.pages and not needs_tiff_library(path, input == RGB):
        return
    if header.orientation != 1:
        problem = "has several bands and an orientation tag"
        raise DataError.of(Fault("unsupported-format", path, problem, "export it upright"))
    raise MissingExtra("rasterio", "geo", path)


def _rgb(image: Image.Image, path: StrPath) -> UInt8:
    upright = load_upright(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        grey = _make_0_black(scale_to_bytes(np.asarray(upright), path), image)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def _bands(image: Image.Image, input: InputFormat, path: StrPath) -> UInt8:
    """Decode the stored bands, without alpha if the number of channels requires it."""
    header = pillow_header(image)
    if not header.gives(input.channels):
        raise band_count_error(path, header.bands, input)
    if input.value_range is not None and image.mode.startswith("RGB") and ";16" in str(getattr(image, "tile", [])[:1]):
        problem = "has colours of 16 bits, of which Pillow reads only 8"
        raise DataError.of(Fault("unsupported-format", Path(path), problem, "save it as TIFF to use a range"))
    pixels = to_bytes(fit_bands(read_stored(image), input.channels), input.value_range, path)
    return _make_0_black(pixels, image)


def _make_0_black(pixels: UInt8, image: Image.Image) -> UInt8:
    """Return pixels in which 0 is black. Pillow has inverted those of 8 bits."""
    is_deep = image.mode == "F" or image.mode.startswith("I")
    white_at_0 = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    return 255 - pixels if is_deep and white_at_0 else pixels


def read_stored(image: Image.Image) -> npt.NDArray[Any]:
    """Decode the stored numbers of a Pillow image, H x W x bands."""
    upright = load_upright(image)
    plain = upright.mode in ("L", "LA", "RGB", "RGBA", "RGBX", "F") or upright.mode.startswith("I")
    stored = np.array(upright if plain else upright.convert("L" if upright.mode == "1" else "RGB"))
    return stored.reshape(*stored.shape[:2], -1)

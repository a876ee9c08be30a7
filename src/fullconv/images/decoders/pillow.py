"""Images that Pillow decodes, always whole: all but upright TIFFs, arrays, and PNG and JPEG of very many pixels."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.files import StrPath
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.base import GeoTags
from fullconv.images.decoders.headers import ImageHeader, needs_tiff_library, pillow_header
from fullconv.images.decoders.open_pillow import check_pixels, decoding_errors, loaded_upright, opened_image
from fullconv.images.decoders.tiff_tags import GEO_KEYS, tiff_tags
from fullconv.images.decoders.values import Mask, UInt8, eight_bits, fitted, to_bytes, wrong_bands
from fullconv.images.input_format import RGB, InputFormat
from fullconv.installation import pip_command

__all__ = ["GEO_LOST", "PillowReader", "pixels_of"]

GEO_LOST = "GeoTIFFs are read without their georeference and nodata value, which the labels lose"
"""The start of the note on a GeoTIFF that Pillow reads."""


def pixels_of(image: Image.Image, input: InputFormat = RGB, path: StrPath = "the image") -> UInt8:
    """Decode an opened Pillow image as `read_image` does its file: H x W x C uint8, with errors that name `path`."""
    with decoding_errors(path):
        check_pixels((image.height, image.width), path)
        return _rgb(image, path) if input == RGB else _bands(image, input, path)


class PillowReader:
    """An image that is decoded at once, up to `MAX_PIXELS`, when the first window is asked for."""

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
        """As `ImageReader.read`."""
        return self._pixels[rows.start : rows.stop, columns.start : columns.stop], None

    @cached_property
    def _pixels(self) -> UInt8:
        with opened_image(self._path) as image:
            return pixels_of(image, self._input, self._path)


def _check_tiff(path: Path, header: ImageHeader, input: InputFormat) -> None:
    """Refuse a TIFF that Pillow does not decode."""
    if not needs_tiff_library(path, input == RGB):
        return
    if header.orientation != 1:
        problem = "several bands and an orientation tag"
        raise DataError.of(Fault("unsupported-format", path, problem, "export it upright"))
    raise MissingExtra("rasterio", "geo", path)


def _rgb(image: Image.Image, path: StrPath) -> UInt8:
    upright = loaded_upright(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        return np.repeat(eight_bits(np.asarray(upright), path)[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def _bands(image: Image.Image, input: InputFormat, path: StrPath) -> UInt8:
    """Decode the bands that are stored, alpha left out where that makes the number right."""
    header = pillow_header(image)
    if not header.gives(input.channels):
        raise wrong_bands(path, header.bands, input.channels)
    if input.value_range is not None and image.mode.startswith("RGB") and ";16" in str(getattr(image, "tile", [])[:1]):
        problem = "colours of 16 bits, which are read as 8 here"
        raise DataError.of(Fault("unsupported-format", Path(path), problem, "save it as TIFF for a range"))
    return to_bytes(fitted(_stored(image), input.channels), input.value_range, path)


def _stored(image: Image.Image) -> npt.NDArray[Any]:
    """Decode the file's own numbers, H x W x bands."""
    upright = loaded_upright(image)
    plain = upright.mode in ("L", "LA", "RGB", "RGBA", "RGBX", "F") or upright.mode.startswith("I")
    stored = np.array(upright if plain else upright.convert("L" if upright.mode == "1" else "RGB"))
    return stored.reshape(*stored.shape[:2], -1)

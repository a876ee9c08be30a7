"""Reading of image headers: size, bands and orientation, without decoding any pixel."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from fullconv.errors import DataError
from fullconv.files import StrPath
from fullconv.images.decoders.npy import ARRAY_SUFFIX, is_array, open_array
from fullconv.images.decoders.open_pillow import (
    MAX_PIXELS,
    check_claim,
    check_pixels,
    decoding_errors,
    open_with_pillow,
    read_orientation,
)
from fullconv.images.decoders.pages import find_channel_pages
from fullconv.images.decoders.tiff_tags import is_tiff, tiff_tags

__all__ = [
    "BAND_SUFFIXES",
    "IMAGE_SUFFIXES",
    "ImageHeader",
    "image_size",
    "needs_tiff_library",
    "pillow_header",
    "pillow_lacks",
    "read_header",
]

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""Suffixes, in lower case, of the files that a search of a folder treats as images."""

BAND_SUFFIXES = IMAGE_SUFFIXES | {ARRAY_SUFFIX}
"""Suffixes, in lower case, of the files that images are read from, including NumPy arrays."""

MOST_PILLOW_BANDS, SEPARATE = 4, 2

_PALETTE, _CMYK, _YCBCR, _LAB = 3, 5, 6, 8


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        stored: (height, width) as stored, before the EXIF orientation is applied.
        bands: Number of bands; a palette, CMYK, YCbCr or CIELAB counts as three.
        alpha: Whether the last band is alpha.
        orientation: The EXIF orientation, 1 (upright) to 8.
        format: Pillow's name of the file format; empty for arrays.
        pages: The pages of a TIFF that are the bands; empty if all bands are in the first page.
    """

    stored: tuple[int, int]
    bands: int
    alpha: bool = False
    orientation: int = 1
    format: str = ""
    pages: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return self.stored if self.orientation < 5 else (self.stored[1], self.stored[0])

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.stored[0] * self.stored[1]

    @property
    def channels(self) -> int:
        """The default number of channels: 3 (RGB) for one or three bands, otherwise all bands; alpha is not counted."""
        without = self.bands - self.alpha
        return 3 if without in (1, 3) else without

    def gives(self, channels: int) -> bool:
        """Return whether the file can be read with this number of channels."""
        is_known = channels in (self.bands, self.bands - self.alpha, self.channels)
        return is_known or (channels == 3 and self.format == "TIFF")


def read_header(path: StrPath, limit: int | None = MAX_PIXELS) -> ImageHeader:
    """Read the header of an image file of at most `limit` pixels; None allows any size.

    Raises DataError as `read_image`, except for damage past the header.
    """
    path = Path(path)
    if is_array(path):
        height, width, bands = open_array(path).shape
        return ImageHeader((height, width), bands)
    try:
        with open_with_pillow(path, None) as image:
            header = pillow_header(image)
    except DataError:
        # Pillow does not open TIFFs with several bands of floats or five bands of 16 bits; read their tags.
        if not os.path.isfile(path) or not is_tiff(path):
            raise
        tags = tiff_tags(path)
        with decoding_errors(path):  # tags may have any type
            header = _tiff_header(tags, int(tags.get(ExifTags.Base.Orientation, 1)))
        check_claim(header.stored, path, "TIFF")
    if header.format == "TIFF" and (pages := find_channel_pages(path, tiff_tags(path))):
        header = replace(header, bands=len(pages), alpha=False, pages=pages)
    check_pixels(header.stored, path, limit)
    return header


def image_size(path: StrPath) -> tuple[int, int]:
    """Return (height, width) of the array that `read_image` or `read_label_map` returns.

    Raises DataError as `read_header`.
    """
    return read_header(path).size


def pillow_header(image: Image.Image) -> ImageHeader:
    """Return the header of an image that Pillow has opened."""
    orientation = read_orientation(image)
    if isinstance(image, TiffImageFile) and IMAGEWIDTH in image.tag_v2:
        return _tiff_header(image.tag_v2, orientation)
    grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
    alpha = image.mode in ("LA", "RGBA")
    bands = 4 if image.mode == "RGBX" else (1 if grey else 3) + alpha
    return ImageHeader((image.height, image.width), bands, alpha, orientation, image.format or "")


def pillow_lacks(tags: ImageFileDirectory_v2) -> bool:
    """Return whether Pillow cannot decode the pixels of a TIFF with these tags."""
    is_planar = tags.get(PLANAR_CONFIGURATION) == SEPARATE and np.max(tags.get(BITSPERSAMPLE, 1)) > 8
    return bool(is_planar) or int(tags.get(SAMPLESPERPIXEL, 1)) > MOST_PILLOW_BANDS


def needs_tiff_library(path: Path, as_rgb: bool) -> bool:
    """Return whether Pillow cannot decode a TIFF as required: all its bands, or only as RGB (`as_rgb`)."""
    tags = tiff_tags(path)
    try:
        with open_with_pillow(path, None) as image:
            opens = isinstance(image, ImageFile)
    except DataError:
        opens = False
    if not opens or pillow_lacks(tags):
        return True
    bits, samples = np.max(tags.get(BITSPERSAMPLE, 1)), int(tags.get(SAMPLESPERPIXEL, 1))
    return not as_rgb and (samples == 2 or bool(bits > 8 and samples > 1))


def _tiff_header(tags: ImageFileDirectory_v2, orientation: int) -> ImageHeader:
    # Some releases of Pillow swap the size of a rotated TIFF, others do not; the tags always hold the stored size.
    size = int(tags[IMAGELENGTH]), int(tags[IMAGEWIDTH])
    if tags.get(PHOTOMETRIC_INTERPRETATION) in (_PALETTE, _CMYK, _YCBCR, _LAB):
        return ImageHeader(size, 3, False, orientation, "TIFF")
    extra = tags.get(EXTRASAMPLES, ())
    roles = extra if isinstance(extra, tuple) else (extra,)
    alpha = roles[-1:] in ((1,), (2,))
    return ImageHeader(size, int(tags.get(SAMPLESPERPIXEL, 1)), alpha, orientation, "TIFF")

"""Image files are opened here and nowhere else: what is wrong with one is told in a sentence."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from fullconv.errors import DataError, FullconvError
from fullconv.faults import Fault
from fullconv.files import StrPath

__all__ = [
    "MAX_PIXELS",
    "check_pixels",
    "damaged",
    "image_header",
    "image_size",
    "loaded_upright",
    "nodata_of",
    "opened_image",
    "told_of",
]

MAX_PIXELS = 2**30
"""Images with more pixels are refused: a small file can claim a size that exhausts the memory."""

NODATA_TAG = 42113

# Only these decoders see a user's file; of Pillow's others, EPS starts a program, and some decode nothing.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's pixel limit and Python's warning filters belong to the process: one thread changes them at a time.
_PILLOW = threading.Lock()

# What Pillow logs of a file, and would print, is told by our errors, or is read by others than Pillow.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def opened_image(path: Path, limit: int | None = MAX_PIXELS) -> Iterator[ImageFile]:
    """The image with only its header read. Whatever fails in the block is told as this file's fault.

    One image can be open at a time. Raises DataError as `read_image`.
    """
    _check_file(path)
    with _PILLOW, warnings.catch_warnings(), told_of(path):
        warnings.simplefilter("ignore")
        pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            # Given a path, Pillow maps the file into memory, and then a rotated TIFF comes out scrambled.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                check_pixels(image, path, limit)
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = pillows


def image_header(path: StrPath, limit: int | None = None) -> tuple[tuple[int, int], int]:
    """(height, width) as stored, and the EXIF orientation, 1 (upright) to 8.

    Raises DataError as `image_size`; images of any size are taken unless there is a `limit` of pixels.
    """
    with opened_image(Path(path), limit) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):
            # Some releases of Pillow swap a rotated TIFF's size, others do not; the tags are the stored size.
            width, height = int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
        return (height, width), _orientation(image)


def image_size(path: StrPath) -> tuple[int, int]:
    """(height, width) of what `read_image` or `read_label_map` returns, from the header alone.

    Raises DataError as `read_image`, except for damage past the header.
    """
    (height, width), orientation = image_header(path, MAX_PIXELS)
    return (width, height) if orientation >= 5 else (height, width)


def loaded_upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned as its EXIF orientation says."""
    if isinstance(image, TiffImageFile):
        image.load()  # Pillow turns a TIFF as it loads, and then clears its orientation
    orientation = _orientation(image)
    image.load()
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def nodata_of(image: Image.Image) -> float | None:
    """The value of pixels without data that a GeoTIFF names (GDAL's tag 42113, in ASCII); None where there is none."""
    try:
        return float(image.tag_v2[NODATA_TAG]) if isinstance(image, TiffImageFile) else None
    except (KeyError, TypeError, ValueError):
        return None


def damaged(path: StrPath, error: Exception) -> DataError:
    """What to raise where a decoder failed on a file, with the decoder's own reason."""
    reason = " ".join(str(error).split()) or type(error).__name__
    problem = f"damaged or cut short ({reason})"
    return DataError.of(Fault("truncated-file", Path(path), problem, "copy or export it again"))


@contextmanager
def told_of(path: StrPath) -> Iterator[None]:
    """What decoders raise in the block, which is nearly everything on damaged input, becomes one sentence."""
    try:
        yield
    except (FullconvError, MemoryError):
        raise
    except UnidentifiedImageError:
        kind, what, remedy = "not-an-image", "not an image that can be read", "save it as PNG, JPEG or TIFF"
        if Path(path).is_file() and _is_html(Path(path)):
            kind, what, remedy = "html-file", "a web page (HTML), not an image", "download the image itself"
        raise DataError.of(Fault(kind, Path(path), what, remedy)) from None
    except Exception as error:
        raise damaged(path, error) from error


def check_pixels(image: Image.Image, path: StrPath, limit: int | None = MAX_PIXELS) -> None:
    pixels = image.width * image.height
    if pixels == 0 or (limit is not None and pixels > limit):
        problem = f"{image.width} x {image.height} pixels, where 1 to {MAX_PIXELS} can be read"
        raise DataError.of(Fault("too-large", Path(path), problem, "cut it into smaller images"))


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            problem, remedy = "a folder where an image file was expected", "put the image there, or remove it"
            raise DataError.of(Fault("not-a-file", path, problem, remedy))
        if not path.exists():
            raise DataError.of(Fault("missing-file", path, "no such file", "check the path"))
        if not path.is_file():
            raise DataError.of(Fault("not-a-file", path, "not a regular file", "copy the image into one"))
        with path.open("rb") as file:
            if not file.read(1):
                raise DataError.of(Fault("empty-file", path, "the file is empty", "copy or export it again"))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        problem, remedy = f"cannot be opened ({reason})", "check its name and permissions"
        raise DataError.of(Fault("unreadable-file", path, problem, remedy)) from error


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2048).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith(b"<") and (b"<!doctype html" in start or b"<html" in start)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that the pixels still have, 1 (upright) to 8."""
    # For PNG, `getexif` would decode the pixels in search of a late chunk; one before them is what counts.
    known = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
    if image.format == "PNG" and not known & image.info.keys():
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a camera's broken EXIF block must not cost the pixels
        return 1
    return orientation if orientation in _UPRIGHT else 1

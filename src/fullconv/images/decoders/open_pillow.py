"""Files are opened by Pillow here and nowhere else: what is wrong with one becomes an error of one sentence."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fullconv.errors import DataError, FullconvError
from fullconv.faults import Fault
from fullconv.files import StrPath

__all__ = [
    "MAX_PIXELS",
    "check_pixels",
    "damaged",
    "decoding_errors",
    "loaded_upright",
    "opened_image",
    "orientation_of",
]

MAX_PIXELS = 2**30
"""Images with more pixels are refused: a small file can claim a size that exhausts the memory."""

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

# Pillow would print what it logs about a file; our errors say it, or another library reads the file.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def opened_image(path: Path, limit: int | None = MAX_PIXELS) -> Iterator[ImageFile]:
    """Open the image and read its header only. Any failure in the block is reported as this file's fault.

    One image can be open at a time. Raises DataError as `read_image`.
    """
    _check_file(path)
    with _PILLOW, warnings.catch_warnings(), decoding_errors(path):
        warnings.simplefilter("ignore")
        pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            # Given a path, Pillow maps the file into memory, and then a rotated TIFF comes out scrambled.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                check_pixels((image.height, image.width), path, limit)
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = pillows


def loaded_upright(image: Image.Image) -> Image.Image:
    """Return the decoded image, turned as its EXIF orientation says."""
    if isinstance(image, TiffImageFile):
        image.load()  # Pillow turns a TIFF as it loads, and then clears its orientation
    orientation = orientation_of(image)
    image.load()
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation that the pixels still have, 1 (upright) to 8."""
    # For PNG, `getexif` would decode the pixels in search of a late chunk; one before them is what counts.
    known = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
    if image.format == "PNG" and not known & image.info.keys():
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a camera's broken EXIF block must not cost the pixels
        return 1
    return orientation if orientation in _UPRIGHT else 1


def damaged(path: StrPath, error: Exception) -> DataError:
    """Return the error to raise where a decoder failed on a file, with the decoder's own reason."""
    reason = " ".join(str(error).split()) or type(error).__name__
    problem = f"damaged or cut short ({reason})"
    return DataError.of(Fault("truncated-file", Path(path), problem, "copy or export it again"))


@contextmanager
def decoding_errors(path: StrPath) -> Iterator[None]:
    """Turn what decoders raise in the block, which is nearly everything on damaged input, into one sentence."""
    try:
        yield
    except (FullconvError, MemoryError):
        raise
    except UnidentifiedImageError:
        if Path(path).is_file() and _is_html(Path(path)):
            kind, problem, remedy = "html-file", "a web page (HTML), not an image", "download the image itself"
        else:
            kind, problem, remedy = "not-an-image", "not an image that can be read", "save it as PNG, JPEG or TIFF"
        raise DataError.of(Fault(kind, Path(path), problem, remedy)) from None
    except Exception as error:
        raise damaged(path, error) from error


def check_pixels(size: tuple[int, int], path: StrPath, limit: int | None = MAX_PIXELS) -> None:
    """Raise DataError for an image of (height, width) without pixels, or with more than `limit`."""
    height, width = size
    if height * width == 0 or (limit is not None and height * width > limit):
        problem = f"{width} x {height} pixels, where 1 to {MAX_PIXELS} can be read"
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

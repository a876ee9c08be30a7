"""Images and label maps on disk: what is read is checked, what is written appears whole or not at all.

Reading turns what cameras and annotation tools write (palettes, 1 to 16 bits, CMYK, EXIF orientation) into
plain arrays. A file that cannot be read is a `DataError` of one sentence: which, what was found, what to do.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from fullconv.errors import DataError, FullconvError, UsageError
from fullconv.files import StrPath, atomic_write, write_text
from fullconv.labels import LabelSet

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "atomic_write",
    "eight_bits",
    "image_header",
    "image_size",
    "loaded_upright",
    "nodata_of",
    "opened_image",
    "overlay",
    "read_image",
    "read_label_map",
    "rgb_of",
    "stored_labels",
    "write_image",
    "write_label_map",
    "write_text",
]

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""Suffixes, in lower case, of the files that are taken for images when a folder is searched."""

MAX_PIXELS = 2**30
"""Images with more pixels are refused: a small file can claim a size that exhausts the memory."""

NODATA_TAG = 42113

UInt8 = npt.NDArray[np.uint8]

# Only these decoders see a user's file; of Pillow's others, EPS starts a program, and some decode nothing.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")

_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".jfif": 65500, ".gif": 65535, ".webp": 16383}

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


def read_image(path: StrPath) -> UInt8:
    """An image file as H x W x 3 uint8 RGB, 0..255, upright (its EXIF orientation is applied).

    Palettes, grey, 1-bit, YCbCr and CMYK are converted to RGB. Alpha is dropped, not composited: the colours
    are those stored. Of 16-bit grey, 0..65535 becomes 0..255 (divided by 257, rounded); of 16-bit colour the
    high byte is read. 32-bit integer grey is read as 16-bit, and floating point as 0..1; values outside these
    are refused. Of several frames or pages the first is read.

    Raises DataError for files that are missing, empty, damaged, not images or larger than `MAX_PIXELS`.
    """
    with opened_image(Path(path)) as image:
        return rgb_of(image, path)


def rgb_of(image: Image.Image, path: StrPath = "the image") -> UInt8:
    """An opened Pillow image as `read_image` gives its file, with the same errors, which name `path`."""
    with _told_of(path):
        _check_pixels(image, path)
        upright = loaded_upright(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            return np.repeat(eight_bits(np.asarray(upright), path)[..., None], 3, axis=2)
        return np.array(upright.convert("RGB"))


def image_size(path: StrPath) -> tuple[int, int]:
    """(height, width) of what `read_image` or `read_label_map` returns, from the header alone.

    Raises DataError as `read_image`, except for damage past the header.
    """
    (height, width), orientation = image_header(path, MAX_PIXELS)
    return (width, height) if orientation >= 5 else (height, width)


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


def read_label_map(path: StrPath, labels: LabelSet | None = None) -> UInt8:
    """A mask file as an H x W uint8 label map of class ids, upright.

    The ids are the numbers stored: indices of a palette image (its colours are not read), values of a grey
    one of 1 to 32 bits; the nodata value of a GeoTIFF is 255. Colour images need `labels` and go through
    `LabelSet.from_colors`; alpha is dropped.

    Raises DataError as `read_image`, and for JPEG (whose compression changes labels), for ids above 255, and
    for colours that `labels` does not hold.
    """
    with opened_image(Path(path)) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{path}: a JPEG mask, whose compression changes labels; save masks as PNG")
        stored = stored_labels(image, path)
    return stored if stored.ndim == 2 else _ids_from_colors(stored, path, labels)


def stored_labels(image: ImageFile, path: StrPath) -> UInt8:
    """An opened mask upright: H x W uint8 class ids where it stores numbers, H x W x 3 uint8 RGB where colours.

    The value that a GeoTIFF names as its nodata is 255. Raises DataError as `read_label_map`, but not for JPEG.
    """
    with _told_of(path):
        maximum, nodata = _grey_maximum(image), nodata_of(image)
        upright = loaded_upright(image)
        if upright.mode in ("RGB", "RGBA"):
            return np.asarray(upright.convert("RGB"))
        if upright.mode in ("LA", "PA"):
            upright = upright.getchannel(0)
        if upright.mode not in ("1", "L", "P") and not upright.mode.startswith("I"):
            raise DataError(f"{path}: a mask of mode {upright.mode}; save masks as 8-bit indexed or grey PNG")
        stored = np.asarray(upright)
        return _ids_from_grey(stored if nodata is None else np.where(stored == nodata, 255, stored), maximum, path)


def nodata_of(image: Image.Image) -> float | None:
    """The value of pixels without data that a GeoTIFF names (GDAL's tag 42113, in ASCII); None where there is none."""
    try:
        return float(image.tag_v2[NODATA_TAG]) if isinstance(image, TiffImageFile) else None
    except (KeyError, TypeError, ValueError):
        return None


def write_label_map(path: StrPath, label_map: UInt8, labels: LabelSet) -> None:
    """Write an H x W uint8 label map as an 8-bit palette PNG, in the colours of `labels`, others white.

    Raises FullconvError if it cannot be written; the file is replaced whole or not at all.
    """
    image = Image.fromarray(label_map)
    image.putpalette(labels.colorize(np.arange(256, dtype=np.uint8)).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def write_image(path: StrPath, rgb: UInt8) -> None:
    """Write H x W x 3 uint8 RGB in the format that the suffix names (JPEG at quality 95).

    Raises UsageError for a suffix outside `IMAGE_SUFFIXES` or a format that cannot hold the size, and
    FullconvError if it cannot be written; the file is replaced whole or not at all.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UsageError(f"{path}: images are not written as {suffix or 'files without suffix'}; use .png")
    if max(rgb.shape) > _LONGEST_SIDE.get(suffix, MAX_PIXELS):
        raise UsageError(f"{path}: {_size(rgb)} pixels are more than {suffix} can hold; use .png")
    with atomic_write(path) as temporary:
        Image.fromarray(rgb).save(temporary, quality=95, subsampling=0)


def overlay(image: UInt8, label_map: UInt8, labels: LabelSet, alpha: float = 0.5) -> UInt8:
    """An H x W x 3 uint8 RGB image tinted with the colours of its H x W label map, as a new array.

    `alpha` is the share of the class colour, 0..1. Pixels whose label is no class keep the image.

    Raises DataError if the sizes differ, UsageError if `alpha` is out of range.
    """
    if image.shape[:2] != label_map.shape:
        raise DataError(f"an image of {_size(image)} and a label map of {_size(label_map)} pixels do not match")
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}; it is a share, 0 to 1")
    weight = round(256 * alpha)
    ids = np.arange(256, dtype=np.uint8)
    colors = labels.colorize(ids).astype(np.uint16)
    is_class = (ids < labels.num_classes) & (ids != labels.ignore_index)
    # 255 * 256 + 128 fits 16 bits, so a 12 megapixel photograph is blended without floats.
    tinted = image.astype(np.uint16)
    tinted *= 256 - weight
    tinted += (colors * weight + 128).astype(np.uint16)[label_map]
    tinted >>= 8
    return np.where(is_class[label_map][..., None], tinted.astype(np.uint8), image)


@contextmanager
def opened_image(path: Path, limit: int | None = MAX_PIXELS) -> Iterator[ImageFile]:
    """The image with only its header read. Whatever fails in the block is told as this file's fault.

    One image can be open at a time. Raises DataError as `read_image`.
    """
    _check_file(path)
    with _PILLOW, warnings.catch_warnings(), _told_of(path):
        warnings.simplefilter("ignore")
        pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            # Given a path, Pillow maps the file into memory, and then a rotated TIFF comes out scrambled.
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
                _check_pixels(image, path, limit)
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = pillows


@contextmanager
def _told_of(path: StrPath) -> Iterator[None]:
    """What decoders raise in the block, which is nearly everything on damaged input, becomes one sentence."""
    try:
        yield
    except (FullconvError, MemoryError):
        raise
    except UnidentifiedImageError:
        what, remedy = "not an image that can be read", "save it as PNG, JPEG or TIFF"
        if Path(path).is_file() and _is_html(Path(path)):
            what, remedy = "a web page (HTML), not an image", "download the image itself"
        raise DataError(f"{path}: {what}; {remedy}") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged or cut short ({reason}); copy or export it again") from error


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise DataError(f"{path}: a folder where an image file was expected; put the image there, or remove it")
        if not path.exists():
            raise DataError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise DataError(f"{path}: not a regular file; copy the image into one")
        with path.open("rb") as file:
            if not file.read(1):
                raise DataError(f"{path}: the file is empty; copy or export it again")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DataError(f"{path}: cannot be opened ({reason}); check its name and permissions") from error


def _check_pixels(image: Image.Image, path: StrPath, limit: int | None = MAX_PIXELS) -> None:
    pixels = image.width * image.height
    if pixels == 0 or (limit is not None and pixels > limit):
        raise DataError(
            f"{path}: {image.width} x {image.height} pixels, where 1 to {MAX_PIXELS} can be read; "
            "cut it into smaller images"
        )


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


def loaded_upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned as its EXIF orientation says."""
    if isinstance(image, TiffImageFile):
        image.load()  # Pillow turns a TIFF as it loads, and then clears its orientation
    orientation = _orientation(image)
    image.load()
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def eight_bits(grey: npt.NDArray[Any], path: StrPath) -> UInt8:
    """Grey values, integers of 16 or 32 bits or floats, to uint8 of the same shape, by the rules of `read_image`.

    Raises DataError, in the name of `path`, for values outside of 0..65535 or 0..1.
    """
    top = 1 if grey.dtype.kind == "f" else 65535
    low, high = grey.min(), grey.max()
    if not np.isfinite([low, high]).all():
        raise DataError(f"{path}: has pixels that are NaN or infinite, where 0 to {top} can be read; fill them in")
    if not (low >= 0 and high <= top):
        raise DataError(f"{path}: grey values from {low} to {high}, where 0 to {top} can be read; save 8 bits")
    if top == 1:
        return np.rint(grey * np.float32(255)).astype(np.uint8)
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _grey_maximum(image: ImageFile) -> int | None:
    """The largest grey value of the file's own scale, where Pillow stretches that scale to 8 or 16 bits."""
    parameters = image.tile[0][3] if image.tile else None
    values = parameters if isinstance(parameters, tuple) else (parameters,)
    if image.format == "PPM" and len(values) == 2:
        return int(values[1])
    return {"L;2": 3, "L;4": 15}.get(str(values[0])[:3])


def _ids_from_grey(stored: npt.NDArray[Any], maximum: int | None, path: StrPath) -> UInt8:
    if maximum is not None:
        top = 255 if stored.dtype == np.uint8 else 65535
        stored = (stored.astype(np.int64) * maximum + top // 2) // top
    low, high = stored.min(), stored.max()
    if low < 0 or high > 255:
        raise DataError(f"{path}: labels from {low} to {high}, where 0 to 255 can be read; renumber the classes")
    return stored.astype(np.uint8)


def _ids_from_colors(rgb: UInt8, path: StrPath, labels: LabelSet | None) -> UInt8:
    if labels is None:
        raise DataError(f"{path}: a mask in colours, with no table of class colours; give one or save class ids")
    try:
        return labels.from_colors(rgb)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _size(array: UInt8) -> str:
    return " x ".join(str(length) for length in array.shape[:2])

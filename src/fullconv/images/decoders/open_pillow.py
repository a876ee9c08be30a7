"""Opening of files with Pillow. All problems of a file become a DataError of one sentence."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fullconv.errors import DataError, FullconvError
from fullconv.faults import Fault
from fullconv.files import StrPath

__all__ = [
    "MAX_PIXELS",
    "check_claim",
    "check_file",
    "check_pixels",
    "damage_error",
    "decoding_errors",
    "load_upright",
    "open_with_pillow",
    "read_orientation",
    "without_warnings",
]

MAX_PIXELS = 2**30
"""Images with more pixels are refused: a small file can claim a size that exhausts the memory."""

LARGE_READ = 2**20

SMALL_CLAIM = 2**26
"""Images of at most so many pixels are decoded, few bytes or not: they cost little memory."""

PIXELS_PER_BYTE = {"PNG": 8256, "JPEG": 1024, "TIFF": 40_000, "WEBP": 5000, "GIF": 2000, "BMP": 5000, "PPM": 8}
"""No honest file of more than `SMALL_CLAIM` pixels holds more of them in a byte.

PNG: 1,032 bytes from one by zlib, of 8 pixels of one bit. JPEG: a bit for each 8 x 8 block, with a reserve. TIFF:
ZSTD's runs, and the table of empty tiles. The others by their run lengths; a WebP may hold more, if it has one colour.
"""

_PNG_BITS = {"RGB": 24, "RGBA": 32, "LA": 16, "I;16": 16, "I": 16}

# Only these decoders are used: Pillow's decoder of EPS starts a program, and some others decode no pixels.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Without a handler, Pillow's log messages about a file would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _GlobalSettings:
    """Pillow's pixel limit and Python's warning filters: changed while any thread reads, and then as before."""

    def __init__(self) -> None:
        self._lock, self._changes, self._are_changed = threading.RLock(), ExitStack(), False
        self._users: set[object] = set()

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Have no pixel limit and no warnings, in all threads, until the block ends."""
        user = object()
        try:
            with self._lock:
                self._users.add(user)
                if not self._are_changed:
                    self._are_changed = True
                    self._changes.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                    self._changes.enter_context(warnings.catch_warnings())
                    warnings.simplefilter("ignore")
                    Image.MAX_IMAGE_PIXELS = None
            yield
        finally:
            with self._lock:
                self._users.discard(user)
                if not self._users:
                    self._restore()

    def start_anew(self) -> None:
        """Undo in a forked child what the parent's threads were about to undo."""
        self._lock, self._users = threading.RLock(), set()
        self._restore()

    def _restore(self) -> None:
        self._changes.close()
        self._are_changed = False


_settings = _GlobalSettings()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settings.start_anew)


def without_warnings() -> AbstractContextManager[None]:
    """Hide the warnings of libraries about a file until the block ends. Any number of threads may do so at a time."""
    return _settings.changed()


class _BoundedFile(io.BufferedReader):
    """A file whose `read` takes no more memory than the file has bytes; chunks may state any size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGE_READ:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


@contextmanager
def open_with_pillow(path: Path, limit: int | None = MAX_PIXELS) -> Iterator[ImageFile]:
    """Open an image file with Pillow and read only its header. Exceptions in the block become DataErrors of this file.

    Raises DataError as `read_image`.
    """
    check_file(path)
    with (
        _settings.changed(),
        decoding_errors(path),
        _BoundedFile(io.FileIO(path)) as file,  # if it gets a path, Pillow maps the file and scrambles rotated TIFFs
        Image.open(file, formats=_FORMATS) as image,
    ):
        size = image.height, image.width
        check_pixels(size, path, limit)
        check_claim(size, path, image.format or "", image.mode)
        yield image


def load_upright(image: Image.Image) -> Image.Image:
    """Decode the image and apply its EXIF orientation."""
    if isinstance(image, TiffImageFile):
        image.load()  # Pillow rotates a TIFF when it loads it, and then clears its orientation
    orientation = read_orientation(image)
    image.load()
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that has not been applied yet, 1 (upright) to 8."""
    # `getexif` would decode all pixels of a PNG to search for a chunk after them; only chunks before them count.
    known = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
    if image.format == "PNG" and not known & image.info.keys():
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # an image with a broken EXIF block can still be read
        return 1
    return orientation if orientation in _UPRIGHT else 1


def damage_error(path: StrPath, error: Exception) -> DataError:
    """Return the DataError for a file that a decoder failed on, with the decoder's reason."""
    reason = " ".join(str(error).split()) or type(error).__name__
    problem = f"is damaged or cut short ({reason})"
    return DataError.of(Fault("truncated-file", Path(path), problem, "copy or export it again"))


@contextmanager
def decoding_errors(path: StrPath) -> Iterator[None]:
    """Convert exceptions in the block to DataErrors; for damaged files, decoders raise almost any type."""
    try:
        yield
    except (FullconvError, MemoryError):
        raise
    except UnidentifiedImageError:
        if os.path.isfile(path) and _is_html(Path(path)):
            kind, problem, remedy = "html-file", "is a web page (HTML), not an image", "download the image itself"
        else:
            kind, problem, remedy = "not-an-image", "is not an image that can be read", "save it as PNG, JPEG or TIFF"
        raise DataError.of(Fault(kind, Path(path), problem, remedy)) from None
    except Exception as error:
        raise damage_error(path, error) from error


def check_pixels(size: tuple[int, int], path: StrPath, limit: int | None = MAX_PIXELS) -> None:
    """Raise DataError if an image of `size` (height, width) has no pixels, or more than `limit`."""
    height, width = size
    if height * width == 0 or (limit is not None and height * width > limit):
        problem = f"has {width} x {height} pixels, but only 1 to {MAX_PIXELS} can be read"
        raise DataError.of(Fault("too-large", Path(path), problem, "cut it into smaller images"))


def check_claim(size: tuple[int, int], path: Path, form: str, mode: str = "") -> None:
    """Raise DataError if a file has far too few bytes for the size (height, width) in its header."""
    height, width = size
    most = PIXELS_PER_BYTE.get(form, max(PIXELS_PER_BYTE.values())) * os.stat(path).st_size
    if form == "PNG":
        most //= _PNG_BITS.get(mode, 1)
    if height * width > max(SMALL_CLAIM, most):
        problem = f"states {width} x {height} pixels, which its {os.stat(path).st_size} bytes cannot hold"
        remedy = "copy or export it again; if it has a single colour, save it as PNG"
        raise DataError.of(Fault("too-large", path, problem, remedy))


def check_file(path: Path) -> None:
    """Raise DataError for anything that is not a regular file with content; nothing else is opened."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _ABSENT:
            raise _unopened(path, error) from error
        raise DataError.of(Fault("missing-file", path, "no such file", "check the path")) from None
    if stat.S_ISDIR(facts.st_mode):
        problem, remedy = "is a folder, but an image file was expected", "put the image there, or remove it"
        raise DataError.of(Fault("not-a-file", path, problem, remedy))
    if not stat.S_ISREG(facts.st_mode):
        raise DataError.of(Fault("not-a-file", path, "is not a regular file", "copy the image into one"))
    if not facts.st_size:
        raise DataError.of(Fault("empty-file", path, "the file is empty", "copy or export it again"))
    if not os.access(path, os.R_OK):
        try:
            path.open("rb").close()
        except OSError as error:
            raise _unopened(path, error) from error


def _unopened(path: Path, error: OSError) -> DataError:
    problem, remedy = f"cannot be opened ({error.strerror or error})", "check its name and permissions"
    return DataError.of(Fault("unreadable-file", path, problem, remedy))


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2048).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith(b"<") and (b"<!doctype html" in start or b"<html" in start)

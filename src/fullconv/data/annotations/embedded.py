"""Images that labelme stores in its JSON files: taken out into a folder that is removed when the process ends."""

from __future__ import annotations

import atexit
import base64
import hashlib
import io
import logging
import os
from functools import cache
from pathlib import Path

from PIL import Image

from fullconv.errors import DataError
from fullconv.locks import make_private_folder, remove_private_folder

__all__ = ["extract_image", "is_extracted"]

logger = logging.getLogger(__name__)

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif", "WEBP": ".webp"}
"""The formats that are taken out, with the suffix of each."""

_EXTRACTED: set[Path] = set()


def extract_image(source: Path, text: str) -> Path:
    """Write the image that the file `source` holds as base64 into the temporary folder, and return its path.

    The pixels are not decoded: `images.reader` reads the file like any other. Raises DataError for damaged data.
    """
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=list(SUFFIXES)) as image:
            suffix = SUFFIXES[image.format or ""]
    except Exception:  # Pillow raises many types of errors for damaged input
        raise DataError("has an imageData that is not an image", code="not-an-image") from None
    digest = hashlib.sha256(os.fsencode(source.parent.absolute())).hexdigest()[:16]
    target = _folder(os.getpid()) / digest / (source.stem + suffix)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    _EXTRACTED.add(target)
    return target


def is_extracted(path: Path) -> bool:
    """Return whether `extract_image` has written the file."""
    return path in _EXTRACTED


@cache
def _folder(process: int) -> Path:
    folder = make_private_folder("images")

    def remove() -> None:
        if os.getpid() == process:  # forked workers leave it to the process that made it
            remove_private_folder(folder)

    atexit.register(remove)
    return folder

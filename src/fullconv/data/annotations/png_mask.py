"""Masks of one shape that an annotation file holds as PNG in base64."""

from __future__ import annotations

import base64
import io
import zlib
from functools import partial

import numpy as np
from PIL import Image

from fullconv.data.annotations.shapes import Patch, Rasterizer, Size
from fullconv.errors import DataError

__all__ = ["png_rasterizer"]

MAX_BYTES = 2**28
"""A larger PNG is refused: a small file can claim a size that exhausts the memory."""


def png_rasterizer(text: str, top: int, left: int, compressed: bool = False) -> Rasterizer:
    """Return the rasterizer of a PNG whose first pixel lies at (top, left); `compressed` PNGs are compressed by zlib.

    Pixels that are transparent are not covered; without transparency, those that are 0. Raises DataError, worded to
    follow the name of the shape, for text that is not base64 of such data.
    """
    try:
        png = base64.b64decode(text, validate=True)
    except ValueError:
        raise DataError("has a mask that is not base64", code="damaged-shape") from None
    if compressed:
        stream = zlib.decompressobj()
        try:
            png = stream.decompress(png, MAX_BYTES)
        except zlib.error:
            raise DataError("has a damaged mask", code="damaged-shape") from None
        if not stream.eof:
            raise DataError("has a damaged mask", code="damaged-shape")
    try:
        Image.open(io.BytesIO(png), formats=["PNG"]).close()
    except Exception:  # Pillow raises many types of errors for damaged input
        raise DataError("has a damaged mask", code="damaged-shape") from None
    return partial(_rasterize_png, png, top, left)


def _rasterize_png(png: bytes, top: int, left: int, size: Size) -> Patch:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            fits = 0 <= top <= size[0] - image.height and 0 <= left <= size[1] - image.width
            is_clear = image.mode in ("RGBA", "LA") or "transparency" in image.info
            mask = None
            if fits:
                visible = image.convert("RGBA").getchannel("A") if is_clear else image.convert("L")
                mask = np.asarray(visible) > 0
    except Exception:  # Pillow raises many types of errors for damaged input
        raise DataError("has a damaged mask", code="damaged-shape") from None
    if mask is None:
        raise DataError("has a mask that reaches outside of the image", code="damaged-shape")
    return Patch(top, left, mask)

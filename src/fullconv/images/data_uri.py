"""Encode pictures as bytes, and bytes as text for JSON and HTML."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

from PIL import Image

from fullconv.arrays import UInt8

__all__ = ["encode_base64", "encode_picture", "jpeg_data_uri"]


def encode_picture(picture: UInt8 | Image.Image, kind: Literal["JPEG", "PNG"], **options: Any) -> bytes:
    """Return the file of an H x W or H x W x 3 uint8 picture; `options` are those of Pillow's `save`."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def encode_base64(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def jpeg_data_uri(jpeg: bytes) -> str:
    """Return a JPEG file as a data URI, the address of a picture inside an HTML page."""
    return f"data:image/jpeg;base64,{encode_base64(jpeg)}"

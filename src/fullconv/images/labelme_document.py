"""The JSON document that labelme opens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fullconv.arrays import Int64

__all__ = ["labelme_document"]

VERSION = "5.5.0"


def labelme_document(
    polygons: Iterable[tuple[str, Int64]], size: tuple[int, int], image_path: str, image_data: str | None = None
) -> dict[str, Any]:
    """Return the values of a labelme file.

    `polygons` are labels with rings (n x 2, x and y in pixels); labelme draws later ones on top. `size` is the height
    and width of the image. `image_path` is relative to the labelme file. `image_data` is the image as base64, if the
    file contains it.
    """
    shapes = [
        {
            "label": label,
            "points": ring.astype(float).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for label, ring in polygons
    ]
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": image_data,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }

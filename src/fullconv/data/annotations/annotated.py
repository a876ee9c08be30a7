"""One annotated image: what all readers of shapes return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.data.annotations.shapes import Rasterizer, Size

__all__ = ["AnnotatedImage"]


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its shapes, each a label and its rasterizer.

    `source` is the annotation file, and `size` the height and width that it states, or None. An image is not `complete`
    if some of its shapes cannot be used; the faults say why. The positions of
    `relative` shapes are shares of the sides, so that they fit any size.
    """

    name: str
    image: Path
    source: Path
    size: Size | None
    shapes: tuple[tuple[str, Rasterizer], ...]
    complete: bool = True
    relative: bool = False

"""Annotations that cover no pixels: boxes, points, lines, empty segmentations. One warning for each file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.data.annotations.shapes import Rasterizer, has_corners
from fullconv.faults import Fault

__all__ = ["WithoutArea"]


@dataclass
class WithoutArea:
    """The annotations without area of one file, by type, and the images that have them.

    `left_out` are the images that have no other shape. As background they would teach that the object is not there.
    """

    path: Path
    split: str | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    images: dict[str, None] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    first: str = ""

    def add(self, kind: str, image: str, shown: str) -> None:
        """Count one annotation of a type on an image; `shown` names it."""
        self.first = self.first or f"{shown} on {image}"
        self.kinds[kind] += 1
        self.images[image] = None

    def covers(self, rasterizer: Rasterizer, image: str, shown: str) -> bool:
        """Return whether a shape may cover pixels; a polygon of fewer than three corners is counted instead."""
        if has_corners(rasterizer):
            return True
        self.add("with fewer than three corners", image, shown)
        return False

    def keeps(self, image: str, shapes: int) -> bool:
        """Return whether an image with so many shapes that cover pixels is used, and note it if not."""
        if shapes or image not in self.images:
            return True
        self.left_out.append(image)
        return False

    def faults(self) -> list[Fault]:
        """Return the warning, or nothing if all annotations have an area."""
        if not self.kinds:
            return []
        total = sum(self.kinds.values())
        listed = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        problem = (
            f"{_count(total, 'annotation')} without area ({listed}) on {_count(len(self.images), 'image')} "
            f"{'is' if total == 1 else 'are'} not used, first {self.first}"
        )
        if self.left_out:
            are = "has no other shape and is" if len(self.left_out) == 1 else "have no other shape and are"
            problem += f"; {_count(len(self.left_out), 'image')} {are} left out, first {self.left_out[0]}"
        remedy = "draw a polygon or a mask for each object that no other shape covers"
        sample = next(iter(self.images)) if len(self.images) == 1 else None
        return [Fault("no-area", self.path, problem, remedy, sample, self.split)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""Rare classes: which they are, crops around their pixels, and copies of their objects in other crops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fullconv.arrays import Mask
from fullconv.data.statistics import DataSetStatistics

__all__ = ["CopyPaste", "RareClasses", "choose_rare_pixel", "connected_region"]

OBJECTS = 3
"""The largest number of objects that are pasted into a crop."""

SMALLEST = 16
"""Regions of fewer pixels are not pasted."""

LARGEST = 0.25
"""Regions of a larger share of the crop's pixels are not pasted."""


@dataclass(frozen=True)
class RareClasses:
    """The classes that have fewer pixels than the mean of all classes in the training masks.

    `chances` are K floats whose sum is 1, in proportion to 1 / frequency, and 0 for other classes. `images` are the
    indices of the training images with each class, K tuples.
    """

    chances: tuple[float, ...]
    images: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, statistics: DataSetStatistics) -> RareClasses | None:
        """Return the rare classes of the training images; None if all classes have the same number of pixels."""
        pixels = np.array(statistics.pixels, np.float64)
        present = pixels > 0
        rare = present & (pixels < pixels.sum() / max(1, present.sum()))
        if not rare.any():
            return None
        inverse = np.where(rare, 1 / np.maximum(pixels, 1), 0)
        images = tuple(
            tuple(index for index, shown in enumerate(statistics.shows) if label in shown)
            for label in range(len(pixels))
        )
        return cls(tuple((inverse / inverse.sum()).tolist()), images)

    def draw(self, present: Tensor | None = None) -> int | None:
        """Return a random class of those `present` (K booleans, None for all); None if no rare class is present."""
        chances = torch.tensor(self.chances)
        if present is not None:
            chances = chances * present
        return int(torch.multinomial(chances, 1)) if chances.any() else None


def choose_rare_pixel(mask: Tensor, rare: RareClasses) -> tuple[int, int] | None:
    """Return row and column of a random pixel of a random rare class in a mask, H x W uint8; None if it has none."""
    counts = torch.bincount(mask.flatten(), minlength=256)[: len(rare.chances)]
    label = rare.draw(counts > 0)
    if label is None:
        return None
    places = (mask == label).nonzero()
    row, column = places[torch.randint(len(places), ())].tolist()
    return row, column


class CopyPaste:
    """Pastes objects of rare classes from the training images into a crop (Ghiasi et al., CVPR 2021).

    With the `probability`, 1 to `OBJECTS` objects are pasted. For each, a class is drawn by `rare`, then one of its
    images, and then a pixel of the class: the object is the connected region around it. The object is resized by a
    factor in `scale`, flipped with the probability `flip`, and pasted at a random place. Regions that are larger than
    the crop, than `LARGEST` of its pixels, or smaller than `SMALLEST` are left out.
    """

    def __init__(
        self,
        decode: Callable[[int], tuple[Tensor, Tensor]],
        rare: RareClasses,
        probability: float,
        scale: tuple[float, float],
        flip: float,
    ) -> None:
        """Paste from the pairs that `decode` returns: uint8 C x H x W and H x W."""
        self.decode, self.rare, self.probability, self.scale, self.flip = decode, rare, probability, scale, flip

    def __call__(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pair with objects, as new tensors, or the same pair."""
        if torch.rand(()).item() >= self.probability:
            return image, target
        image, target = image.clone(), target.clone()
        for _ in range(1 + int(torch.randint(OBJECTS, ()))):
            label = self.rare.draw()
            if label is None or not self.rare.images[label]:
                continue
            images = self.rare.images[label]
            piece = _cut_object(*self.decode(images[int(torch.randint(len(images), ()))]), label, tuple(target.shape))
            if piece is not None:
                _place(image, target, *self._transform(*piece, tuple(target.shape)), label)
        return image, target

    def _transform(self, piece: Tensor, region: Tensor, most: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the object, C x h x w uint8 and h x w bool, at another size, and perhaps flipped."""
        low, high = (math.log(bound) for bound in self.scale)
        factor = math.exp(low + (high - low) * torch.rand(()).item())
        factor = min(factor, *(limit / side for limit, side in zip(most, region.shape, strict=True)))
        size = [max(1, int(side * factor)) for side in region.shape]
        if factor != 1:
            small = factor < 1
            piece = functional.interpolate(piece[None].float(), size, mode="bilinear", antialias=small)[0].round()
            region = functional.interpolate(region[None, None].float(), size, mode="nearest-exact")[0, 0] > 0
        if torch.rand(()).item() < self.flip:
            piece, region = piece.flip(-1), region.flip(-1)
        return piece.to(torch.uint8), region


def connected_region(inside: Mask, row: int, column: int) -> Mask:
    """Return the 8-connected region of True pixels around a True pixel, H x W bool.

    The runs of each row are the nodes of a graph, and runs that touch are its edges.
    """
    starts = np.ones(inside.shape, bool)
    starts[:, 1:] = inside[:, 1:] != inside[:, :-1]
    runs = starts.ravel().cumsum().reshape(inside.shape) - 1
    edges = []
    for shift in (-1, 0, 1):
        width = inside.shape[1] - abs(shift)
        above, below = slice(max(0, -shift), max(0, -shift) + width), slice(max(0, shift), max(0, shift) + width)
        touch = inside[:-1, above] & inside[1:, below]
        edges.append(np.stack([runs[:-1, above][touch], runs[1:, below][touch]]))
    first, second = np.concatenate(edges, 1)
    changes = np.ones(len(first), bool)
    changes[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    first, second = first[changes], second[changes]
    reached = np.zeros(int(runs[-1, -1]) + 1, bool)
    reached[runs[row, column]] = True
    count = 0
    while count != (count := int(reached.sum())):
        reached[second[reached[first]]] = True
        reached[first[reached[second]]] = True
    region: Mask = reached[runs] & inside
    return region


def _cut_object(image: Tensor, mask: Tensor, label: int, most: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """Return the box around an object of the class, C x h x w, and its region, h x w bool; None if it is not used."""
    places = (mask == label).nonzero()
    if not len(places):
        return None
    pixel = places[torch.randint(len(places), ())].tolist()
    spans = [
        (max(0, at - side), min(length, at + side + 1))
        for at, side, length in zip(pixel, most, mask.shape, strict=True)
    ]
    (top, bottom), (left, right) = spans
    inside = (mask[top:bottom, left:right] == label).numpy()
    region = connected_region(inside, pixel[0] - top, pixel[1] - left)
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    if height > most[0] or width > most[1] or not SMALLEST <= region.sum() <= LARGEST * most[0] * most[1]:
        return None
    part = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    first, begin = top + int(rows[0]), left + int(columns[0])
    return image[:, first : first + height, begin : begin + width], torch.from_numpy(np.ascontiguousarray(part))


def _place(image: Tensor, target: Tensor, piece: Tensor, region: Tensor, label: int) -> None:
    """Paste an object at a random place of the crop, in place."""
    top, left = (
        int(torch.randint(length - side + 1, ())) for length, side in zip(target.shape, region.shape, strict=True)
    )
    height, width = region.shape
    box = (slice(top, top + height), slice(left, left + width))
    image[:, box[0], box[1]] = torch.where(region, piece, image[:, box[0], box[1]])
    target[box] = target[box].masked_fill(region, label)

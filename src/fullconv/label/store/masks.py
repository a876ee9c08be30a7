"""Writing of a mask from painted pixels, in bands of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.files import atomic_write
from fullconv.images.png import write_png
from fullconv.labels import LabelSet

__all__ = ["write_mask"]

BAND = 512

LEVEL = 2
"""zlib's level: masks of large areas are small with any, and this one takes a third of the time."""


def write_mask(
    path: Path, size: tuple[int, int], read: Callable[[range, range], UInt8], ids: UInt8, labels: LabelSet
) -> None:
    """Write the mask of an image of `size` (height, width) atomically as a palette PNG of class ids and 255.

    `read` returns the raw keys of a window, and `ids` is the class id of each raw key. Raises FullconvError if the file
    cannot be written.
    """

    def bands() -> Iterator[UInt8]:
        for top in range(0, size[0], BAND):
            yield ids[read(range(top, min(top + BAND, size[0])), range(size[1]))]

    with atomic_write(path) as temporary:
        write_png(temporary, size, bands(), labels.colorize(np.arange(256, dtype=np.uint8)), LEVEL)

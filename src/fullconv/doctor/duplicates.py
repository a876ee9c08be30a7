"""The same image in two splits, copied, resized or saved again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Print", "print_of", "same_images"]

UInt8 = npt.NDArray[np.uint8]

SMALL = 32
NEAR_BITS = 10
NEAR_LEVELS = 4.0
FLAT_LEVELS = 4.0

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


@dataclass(frozen=True)
class Print:
    """What is kept of an image to know it again: 3 KB.

    `digest` of the file's bytes; `bits`, 8 uint8 that say for 8 x 8 places whether the image gets brighter to the
    right; `small`, 32 x 32 x 3 uint8 RGB.
    """

    digest: bytes
    bits: UInt8
    small: UInt8


def print_of(path: Path, rgb: UInt8) -> Print:
    """The print of an image file and its decoded pixels, H x W x 3 uint8."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    image = Image.fromarray(rgb)
    small = image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR)).astype(np.int16)
    return Print(digest, np.packbits(grey[:, 1:] > grey[:, :-1]), np.asarray(small))


def same_images(first: Sequence[Print], second: Sequence[Print]) -> Iterator[tuple[int, int, bool]]:
    """For each of `second` that is in `first`: its index, the index there, and whether the files are equal.

    Files are equal by their bytes. Otherwise the 64 bits differ in at most 10, and the small images by at most 4 of
    255 levels on average; images that are nearly one colour are compared by their bytes alone. It is the difference
    hash of Krawetz, "Kind of Like That", 2013, confirmed by pixels.
    """
    if not first:
        return
    digests = {found.digest: index for index, found in reversed(list(enumerate(first)))}
    bits = np.stack([found.bits for found in first])
    for index, found in enumerate(second):
        if found.digest in digests:
            yield index, digests[found.digest], True
        elif _spread(found.small) > FLAT_LEVELS:
            apart = _ONES[bits ^ found.bits].sum(1)
            near = [i for i in np.flatnonzero(apart <= NEAR_BITS).tolist() if _apart(first[i], found) <= NEAR_LEVELS]
            if near:
                yield index, min(near, key=lambda i: _apart(first[i], found)), False


def _spread(small: UInt8) -> float:
    return float(small.reshape(-1, 3).std(0).max())


def _apart(one: Print, other: Print) -> float:
    return float(np.abs(one.small.astype(np.int16) - other.small).mean())

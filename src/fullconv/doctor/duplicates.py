"""Find images that appear in two splits: copied, resized or saved again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8

__all__ = ["ImageHash", "hash_image", "same_images"]

SMALL = 32
NEAR_BITS = 10
NEAR_LEVELS = 4.0
FLAT_LEVELS = 4.0

_BIT_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


@dataclass(frozen=True)
class ImageHash:
    """Three KB that identify an image.

    `digest` is the SHA-256 of the file. `bits` (8 uint8) have one bit for each of 8 x 8 places: whether the image gets
    brighter to the right. `small` is the image in 32 x 32 x 3 uint8 RGB.
    """

    digest: bytes
    bits: UInt8
    small: UInt8


def hash_image(path: Path, rgb: UInt8) -> ImageHash:
    """Return the hash of an image file and its decoded pixels, H x W x 3 uint8."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    image = Image.fromarray(rgb)
    small = image.resize((SMALL, SMALL), Image.Resampling.BILINEAR)
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR)).astype(np.int16)
    return ImageHash(digest, np.packbits(grey[:, 1:] > grey[:, :-1]), np.asarray(small))


def same_images(first: Sequence[ImageHash], second: Sequence[ImageHash]) -> Iterator[tuple[int, int, bool]]:
    """Yield the images of `second` that are also in `first`: index, index in `first`, whether the files are equal.

    Images are the same if their files are equal. They are also the same if their 64 bits differ in at most 10 and their
    small images differ by at most 4 of 255 levels on average; images of nearly one colour are compared by file only.

    The bits are the difference hash of Krawetz, "Kind of Like That", 2013.
    """
    if not first:
        return
    digests = {image.digest: index for index, image in reversed(list(enumerate(first)))}
    bits = np.stack([image.bits for image in first])
    for index, image in enumerate(second):
        if image.digest in digests:
            yield index, digests[image.digest], True
        elif _spread(image.small) > FLAT_LEVELS:
            differing = _BIT_COUNTS[bits ^ image.bits].sum(1)
            similar = np.flatnonzero(differing <= NEAR_BITS).tolist()
            near = [i for i in similar if _difference(first[i], image) <= NEAR_LEVELS]
            if near:
                yield index, min(near, key=lambda i: _difference(first[i], image)), False


def _spread(small: UInt8) -> float:
    return float(small.reshape(-1, 3).std(0).max())


def _difference(one: ImageHash, other: ImageHash) -> float:
    return float(np.abs(one.small.astype(np.int16) - other.small).mean())

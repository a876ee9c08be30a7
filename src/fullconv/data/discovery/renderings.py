"""Folders that show masks in another way: in colours, as instances, as arrays, or as pictures for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from fullconv.images.decoders.npy import ARRAY_SUFFIX

__all__ = ["FORMAT_WORDS", "PICTURES", "rank_rendering", "rank_words"]

FORMAT_WORDS = frozenset({"png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "npy", "npz"})
"""Words for file formats in the name of a folder of masks or images: `SegmentationClassPNG`, `images_png`."""

PICTURES = 4
"""The rank of pictures for people, of predictions and of depth: they are never masks if there are others."""

_RANKS: tuple[tuple[int, str], ...] = (
    (PICTURES, r"visuali[sz]ations?|vis|viz|overlays?|previews?|blend(ed)?|depths?|disparity|superpixels?"),
    (PICTURES, r"preds?|predictions?|predicted|thumbs|thumbnails?"),
    (3, r"instances?|inst|instanceids?|panoptic|segmentation_?objects?"),
    (2, r"colou?rs?|colou?red|colou?ri[sz]ed|colou?rmaps?|rgb"),
)


def rank_rendering(masks: Path, images: Path, names: Sequence[str]) -> int:
    """Return 0 for masks of class ids, and more for what shows them in another way, by the words of the folder's name.

    Only the part of the path counts that the images do not share. Arrays come after image files, coloured masks after
    masks of ids, instances after both, and pictures for people last.
    """
    parts = [part for place, part in enumerate(masks.parts) if masks.parts[: place + 1] != images.parts[: place + 1]]
    return rank_words(" ".join(parts)) or int(all(Path(name).suffix.lower() == ARRAY_SUFFIX for name in names))


@lru_cache(maxsize=10_000)
def rank_words(name: str) -> int:
    """Return the rank of a name by its words; 0 where it has none of them."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_\d]+", " ", name).lower()
    words = words.replace("segmentation object", "segmentation_object")
    return next((rank for rank, pattern in _RANKS if re.search(rf"\b({pattern})\b", words)), 0)

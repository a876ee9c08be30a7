"""Small pictures of samples for the page of `check`: the faulty ones and a selection of good ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.faults import Fault
from fullconv.images import overlay
from fullconv.images.data_uri import encode_picture
from fullconv.labels import LabelSet

__all__ = ["Gallery", "Thumb"]

SIDE = 160
MAX_FAULTY, GOOD = 60, 12


@dataclass(frozen=True)
class Thumb:
    """JPEGs of image, mask and overlay, at most 160 pixels high and wide; None if a picture cannot be shown."""

    name: str
    split: str
    faults: tuple[Fault, ...]
    image: bytes | None
    mask: bytes | None
    overlay: bytes | None


class Gallery:
    """Keeps a small picture of each sample (about 6 KB) and selects 60 faulty and about 12 good ones of all splits."""

    def __init__(self) -> None:
        """Start without samples."""
        self._small: list[tuple[bytes | None, bytes | None] | None] = []

    def add(self, rgb: UInt8 | None, target: UInt8 | None) -> None:
        """Add the next sample: H x W x 3 uint8 and H x W uint8, or None for what cannot be read."""
        shape = next((array.shape for array in (rgb, target) if array is not None), (1, 1))
        scale = min(1.0, SIDE / max(shape[:2]))
        size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
        image = None if rgb is None else Image.fromarray(rgb).resize(size, Image.Resampling.BOX)
        mask = None if target is None else Image.fromarray(target).resize(size, Image.Resampling.NEAREST)
        jpeg = None if image is None else _encode_jpeg(image)
        self._small.append((jpeg, None if mask is None else encode_picture(mask, "PNG")))

    def skip(self) -> None:
        """Skip the next sample, because it was added before."""
        self._small.append(None)

    def thumbs(self, samples: Sequence[tuple[str, str, tuple[Fault, ...]]], labels: LabelSet) -> tuple[Thumb, ...]:
        """Return the selected thumbnails: samples with errors, samples with warnings, good ones.

        `samples` has split, name and faults of each sample that was added.
        """
        shown = [index for index, small in enumerate(self._small) if small is not None]
        faulty = [index for index in shown if samples[index][2]]
        faulty.sort(key=lambda index: all(fault.severity != "error" for fault in samples[index][2]))
        good = [index for index in shown if not samples[index][2]]
        spread = {good[round(position)] for position in np.linspace(0, len(good) - 1, min(GOOD, len(good)))}
        firsts = {samples[index][0]: index for index in reversed(good)}
        selected = [*faulty[:MAX_FAULTY], *sorted(spread | set(firsts.values()))]
        return tuple(_make_thumb(*samples[index], *(self._small[index] or (None, None)), labels) for index in selected)


def _make_thumb(
    split: str, name: str, faults: tuple[Fault, ...], image: bytes | None, mask: bytes | None, labels: LabelSet
) -> Thumb:
    target = None if mask is None else np.asarray(Image.open(io.BytesIO(mask)))
    colors = both = None
    if target is not None:
        colors = _encode_jpeg(labels.colorize(target))
    if target is not None and image is not None:
        both = _encode_jpeg(overlay(np.asarray(Image.open(io.BytesIO(image))), target, labels))
    return Thumb(name, split, faults, image, colors, both)


def _encode_jpeg(picture: UInt8 | Image.Image) -> bytes:
    return encode_picture(picture, "JPEG", quality=80, subsampling=0)

"""Small pictures of samples for the sheet, chosen when all is found: those at fault, and a spread of good ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.faults import Fault
from fullconv.images import overlay
from fullconv.labels import LabelSet

__all__ = ["Gallery", "Thumb"]

UInt8 = npt.NDArray[np.uint8]

SIDE = 160
AT_FAULT, GOOD = 60, 12


@dataclass(frozen=True)
class Thumb:
    """JPEG of image, mask and overlay, at most 160 pixels a side; None where there is none."""

    name: str
    split: str
    faults: tuple[Fault, ...]
    image: bytes | None
    mask: bytes | None
    overlay: bytes | None


class Gallery:
    """Keeps a small picture of each sample, about 6 KB, and shows 60 at fault and about 12 good ones of all splits."""

    def __init__(self) -> None:
        self._small: list[tuple[bytes | None, bytes | None] | None] = []

    def add(self, rgb: UInt8 | None, target: UInt8 | None) -> None:
        """The next sample: H x W x 3 uint8 and H x W uint8 of its size, None where it cannot be read."""
        shape = next((array.shape for array in (rgb, target) if array is not None), (1, 1))
        scale = min(1.0, SIDE / max(shape[:2]))
        size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
        image = None if rgb is None else Image.fromarray(rgb).resize(size, Image.Resampling.BOX)
        mask = None if target is None else Image.fromarray(target).resize(size, Image.Resampling.NEAREST)
        self._small.append((_encoded(image, "JPEG"), _encoded(mask, "PNG")))

    def skip(self) -> None:
        """The next sample is one that was there before."""
        self._small.append(None)

    def thumbs(self, samples: Sequence[tuple[str, str, tuple[Fault, ...]]], labels: LabelSet) -> tuple[Thumb, ...]:
        """Those at fault first, errors before warnings; `samples`: split, name and faults of each that was added."""
        shown = [index for index, small in enumerate(self._small) if small is not None]
        at_fault = [index for index in shown if samples[index][2]]
        at_fault.sort(key=lambda index: all(fault.severity != "error" for fault in samples[index][2]))
        good = [index for index in shown if not samples[index][2]]
        spread = {good[round(place)] for place in np.linspace(0, len(good) - 1, min(GOOD, len(good)))}
        firsts = {samples[index][0]: index for index in reversed(good)}
        picked = [*at_fault[:AT_FAULT], *sorted(spread | set(firsts.values()))]
        return tuple(_thumb(*samples[index], *(self._small[index] or (None, None)), labels) for index in picked)


def _thumb(
    split: str, name: str, faults: tuple[Fault, ...], image: bytes | None, mask: bytes | None, labels: LabelSet
) -> Thumb:
    target = None if mask is None else np.asarray(Image.open(io.BytesIO(mask)))
    colors = both = None
    if target is not None:
        colors = _encoded(Image.fromarray(labels.colorize(target)), "JPEG")
    if target is not None and image is not None:
        both = _encoded(Image.fromarray(overlay(np.asarray(Image.open(io.BytesIO(image))), target, labels)), "JPEG")
    return Thumb(name, split, faults, image, colors, both)


def _encoded(image: Image.Image | None, kind: str) -> bytes | None:
    if image is None:
        return None
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 80, "subsampling": 0} if kind == "JPEG" else {}))
    return file.getvalue()

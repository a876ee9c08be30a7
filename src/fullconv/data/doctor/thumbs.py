"""Small pictures of samples for the sheet: those with findings first, and a spread of good ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.data.doctor.findings import Finding
from fullconv.image import overlay
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
    findings: tuple[Finding, ...]
    image: bytes | None
    mask: bytes | None
    overlay: bytes | None


class Gallery:
    """Collects thumbs while samples pass: the first 60 at fault, and about 12 good ones of all splits."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._at_fault: list[Thumb] = []
        self._good: list[Thumb] = []
        self._passed = 0

    def add(
        self,
        split: str,
        name: str,
        findings: Sequence[Finding],
        rgb: UInt8 | None,
        target: UInt8 | None,
        labels: LabelSet,
    ) -> None:
        """A sample: H x W x 3 uint8 and H x W uint8 of its size, None where it cannot be read."""
        position, self._passed = self._passed, self._passed + 1
        if findings and len(self._at_fault) < AT_FAULT:
            self._at_fault.append(_thumb(split, name, tuple(findings), rgb, target, labels))
        is_due = position >= len(self._good) * self._total / GOOD
        if not findings and (is_due or all(thumb.split != split for thumb in self._good)):
            self._good.append(_thumb(split, name, (), rgb, target, labels))

    def thumbs(self) -> tuple[Thumb, ...]:
        """Those at fault first."""
        return (*self._at_fault, *self._good)


def _thumb(
    split: str, name: str, findings: tuple[Finding, ...], rgb: UInt8 | None, target: UInt8 | None, labels: LabelSet
) -> Thumb:
    shape = next((array.shape for array in (rgb, target) if array is not None), (1, 1))
    scale = min(1.0, SIDE / max(shape[:2]))
    width, height = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    small = small_target = None
    if rgb is not None:
        small = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))
    if target is not None:
        small_target = np.asarray(Image.fromarray(target).resize((width, height), Image.Resampling.NEAREST))
    both = None
    if small is not None and small_target is not None:
        both = overlay(small, small_target, labels)
    colors = None if small_target is None else labels.colorize(small_target)
    return Thumb(name, split, findings, _jpeg(small), _jpeg(colors), _jpeg(both))


def _jpeg(rgb: UInt8 | None) -> bytes | None:
    if rgb is None:
        return None
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=80, subsampling=0)
    return file.getvalue()

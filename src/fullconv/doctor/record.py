"""The facts of a sample that stay in memory after its files were decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.arrays import Int64
from fullconv.data.dataset import Sample
from fullconv.doctor.duplicates import ImageHash
from fullconv.faults import Fault

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """One sample.

    `size` (height, width) and `bands` describe the image; they are None and 0 if it cannot be read. `counts` has the
    pixels of each label (256 int64), or is None if the mask cannot be used. `hash` identifies the image.
    """

    split: str
    sample: Sample
    faults: tuple[Fault, ...] = ()
    size: tuple[int, int] | None = None
    bands: int = 0
    counts: Int64 | None = None
    hash: ImageHash | None = None

    @property
    def label_path(self) -> Path:
        """Return the file that faults of the labels name: the mask, or the image if the labels are in a JSON file."""
        return self.sample.image if self.sample.target.suffix.lower() == ".json" else self.sample.target

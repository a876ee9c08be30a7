"""What is kept of a sample once its files are forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import Sample
from fullconv.doctor.duplicates import Print
from fullconv.faults import Fault

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """One sample: `size` (height, width) and `bands` of its image, None and 0 where that cannot be read.

    `counts`: pixels by label, 256 int64; None where the mask cannot be used. `look`: to know the image again.
    """

    split: str
    sample: Sample
    faults: tuple[Fault, ...] = ()
    size: tuple[int, int] | None = None
    bands: int = 0
    counts: npt.NDArray[np.int64] | None = None
    look: Print | None = None

    @property
    def place(self) -> Path:
        """The file that a fault on the labels names: the mask, or the image where a JSON file may hold many."""
        return self.sample.image if self.sample.target.suffix.lower() == ".json" else self.sample.target

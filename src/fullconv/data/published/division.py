"""Division of a published data set that has no labelled validation images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fullconv.data.dataset import Sample
from fullconv.data.discovery.held_out import hold_out

__all__ = ["divide"]


def divide(samples: Sequence[Sample], kinds: Sequence[str] | None = None) -> dict[str, tuple[Sample, ...]]:
    """Hold out a fifth of the samples, chosen by a hash of their names. With `kinds`, every kind is on both sides."""
    names = [sample.name for sample in samples]
    known = np.array(sorted(set(kinds or ())))
    shown = None if kinds is None else np.array(kinds)[:, None] == known[None, :]
    val = set(hold_out(names, shown, groups=names).val)
    return {
        "train": tuple(sample for index, sample in enumerate(samples) if index not in val),
        "val": tuple(samples[index] for index in sorted(val)),
    }

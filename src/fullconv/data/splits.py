"""The splits of a data set: their names, and the one that is made where there is none."""

from __future__ import annotations

import hashlib
import re
from typing import get_args

from fullconv.choices import Split
from fullconv.data.dataset import Sample

__all__ = ["SPLITS", "split_by_hash", "split_of"]

SPLITS: tuple[str, ...] = get_args(Split)
VAL_SHARE = 0.2

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?!val)")


def split_by_hash(samples: tuple[Sample, ...]) -> dict[str, tuple[Sample, ...]]:
    """About 20% to val by a hash of the stem, so that adding samples moves no other across."""

    def share(sample: Sample) -> float:
        digest = hashlib.sha256(sample.name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    ranked = sorted(samples, key=share)
    count = sum(share(sample) < VAL_SHARE for sample in ranked)
    count = min(max(count, 1), len(ranked) - 1) if len(ranked) > 1 else 0
    val = set(ranked[:count])
    return {
        "train": tuple(sample for sample in samples if sample not in val),
        "val": tuple(sample for sample in samples if sample in val),
    }


def split_of(name: str) -> str | None:
    """The split that a file or folder is named after: of `instances_val2017`, `valid` and `Validation` it is `val`.

    VOC's `trainval` is none.
    """
    found = _SPLIT_WORD.search(name.lower())
    return found[1] if found else None

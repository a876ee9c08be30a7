"""The names of splits, and a split by hash for data sets without splits."""

from __future__ import annotations

import hashlib
import re
from typing import get_args

from fullconv.choices import Split
from fullconv.data.dataset import Sample

__all__ = ["SPLITS", "split_by_hash", "split_of"]

SPLITS: tuple[str, ...] = get_args(Split)
"""The splits of a data set, in the order in which they are listed."""

VAL_SHARE = 0.2
"""Approximate share of samples that a split by hash gives to val."""

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?!val)")


def split_by_hash(samples: tuple[Sample, ...]) -> dict[str, tuple[Sample, ...]]:
    """Give about 20 % of the samples to val by a hash of their stems, so that new samples do not move others."""

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
    """Return the split that a file or folder is named after; None if its name has no split.

    The split of `instances_val2017`, `valid` and `Validation` is `val`. VOC's `trainval` is not a split.
    """
    match = _SPLIT_WORD.search(name.lower())
    return match[1] if match else None

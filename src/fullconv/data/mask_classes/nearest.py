"""Smeared masks: colours and grey values that JPEG, smoothing or resizing moved get the nearest class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Int64
from fullconv.data.mask_classes.summary import Kind, MaskSummary, add_counts

__all__ = ["are_apart", "find_centers", "find_nearest", "is_smeared", "measure_moved", "within_levels"]

MERGED = 24
"""Codes closer than this to a more frequent one are the same class (distance in RGB)."""

APART = 48
"""Classes closer than this cannot be distinguished in a smeared mask."""

FEW_LEVELS = 16
"""A colour this close to that of a class, and far from others, is that class."""

SOLID_SHARE = 0.001
"""The share of the pixels from which a cluster of codes that fills areas is a class."""

SMEARED_SHARE = 0.03
"""Smaller clusters of codes that fill no area, or lie near a class or between two, are smeared pixels."""

UNCLEAR_SHARE = 0.05
"""With a larger share of pixels between the classes, masks are not read."""

FEWEST_BETWEEN = 4
"""Smoothed edges have at least so many codes between those of the classes."""

ON_LINE = 12
"""A code at most this far from the line between two classes lies between them."""

MOST_BETWEEN = 0.2
MOST_CENTERS = 64


def _colors_of(kind: Kind, codes: Collection[int]) -> npt.NDArray[np.float64]:
    """Return codes as points in RGB, N x 3; numbers are grey levels."""
    values = np.fromiter(codes, np.int64, len(codes))
    if kind == "numbers":
        return np.repeat(values[:, None], 3, 1).astype(np.float64)
    values = np.where(values < 0, -1 - values, values)
    return np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.float64)


def find_nearest(kind: Kind, codes: Collection[int], centers: Sequence[int]) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Return the index of the nearest centre of each code, and whether it is at most half as far as the next."""
    apart = _distances(_colors_of(kind, codes), _colors_of(kind, centers))
    ranked = np.sort(apart, 1)
    clear = ranked[:, 0] * 2 <= ranked[:, 1] if len(centers) > 1 else ranked[:, 0] <= FEW_LEVELS
    return apart.argmin(1), clear


def within_levels(kind: Kind, code: int, centers: Sequence[int]) -> bool:
    """Return whether a code is off by a few levels from one centre, and far from the others."""
    apart = np.sort(_distances(_colors_of(kind, [code]), _colors_of(kind, centers))[0])
    return bool(apart[0] <= FEW_LEVELS and (len(apart) == 1 or 2 * apart[0] <= apart[1]))


def are_apart(kind: Kind, centers: Sequence[int]) -> bool:
    """Return whether the classes of smeared masks can be distinguished."""
    points = _colors_of(kind, centers)
    apart = _distances(points, points) + np.eye(len(points)) * 1e9
    return bool(apart.min(initial=1e9) >= APART)


def is_smeared(kind: Kind, masks: Sequence[MaskSummary]) -> bool:
    """Return whether many codes that fill no area lie near more frequent ones, or between others.

    Compression, noise and smoothing make such codes.
    """
    counts = add_counts(masks)
    solid = frozenset().union(*(mask.solid for mask in masks)) & counts.keys()
    if len(counts) - len(solid) < FEWEST_BETWEEN:
        return False
    codes = sorted(counts, key=lambda code: (-counts[code], code))[: 4 * MOST_CENTERS]
    points, pixels = _colors_of(kind, codes), np.array([counts[code] for code in codes])
    near: npt.NDArray[np.bool_] = np.any(np.tril(_distances(points, points) <= FEW_LEVELS, -1), axis=1)
    loose = np.array([code not in solid for code in codes])
    main = [code for code, is_near in zip(codes, near.tolist(), strict=True) if not is_near and code in solid][
        :MOST_CENTERS
    ]
    between = loose & ~near & _lie_between(points, _colors_of(kind, main))
    strange = loose & (near | between)
    few = pixels[between].sum() <= MOST_BETWEEN * pixels.sum()
    return bool(few and strange.sum() >= FEWEST_BETWEEN and 2 * strange.sum() > loose.sum())


def find_centers(kind: Kind, masks: Sequence[MaskSummary]) -> list[int] | None:
    """Return the codes around which those of smeared masks lie, ascending; None if they are not well separated.

    Small clusters near a larger one, or between two larger ones, are taken for its smeared pixels.
    """
    counts = add_counts(masks)
    centers: list[int] = []
    for code, share in _find_clusters(kind, masks, counts):
        apart = are_apart(kind, [*centers, code])
        ends = _colors_of(kind, centers)
        between = len(centers) > 1 and bool(_lie_between(_colors_of(kind, [code]), ends)[0])
        if not apart and share >= SMEARED_SHARE:
            return None
        if apart and not (between and share < SMEARED_SHARE):
            centers.append(code)
    if not 2 <= len(centers) <= MOST_CENTERS:
        return None
    return sorted(centers) if measure_moved(kind, counts, centers)[1] <= UNCLEAR_SHARE else None


def _find_clusters(kind: Kind, masks: Sequence[MaskSummary], counts: Mapping[int, int]) -> list[tuple[int, float]]:
    """Return the most frequent code of each group of similar codes with its share, the largest first."""
    solid = frozenset().union(*(mask.solid for mask in masks))
    codes = np.array(sorted(counts, key=lambda code: (-counts[code], code)), np.int64)
    pixels = np.array([counts[int(code)] for code in codes])
    points, total = _colors_of(kind, codes.tolist()), pixels.sum()
    free, clusters = np.ones(len(codes), bool), list[tuple[int, float]]()
    while free.any() and pixels[free].sum() >= SOLID_SHARE * total and len(clusters) <= MOST_CENTERS:
        first = int(free.argmax())
        near = free & (_distances(points, points[first : first + 1])[:, 0] < MERGED)
        share = float(pixels[near].sum() / total)
        if share >= SMEARED_SHARE or (share >= SOLID_SHARE and any(int(code) in solid for code in codes[near])):
            clusters.append((int(codes[first]), share))
        free &= ~near
    return sorted(clusters, key=lambda cluster: -cluster[1])


def measure_moved(kind: Kind, counts: Mapping[int, int], centers: Sequence[int]) -> tuple[float, float]:
    """Return the share of the pixels that are not exactly a centre, and of those that are near none."""
    strange = [code for code in counts if code not in set(centers)]
    if not strange:
        return 0.0, 0.0
    total = sum(counts.values())
    pixels = np.array([counts[code] for code in strange])
    _, clear = find_nearest(kind, strange, centers)
    return float(pixels.sum() / total), float(pixels[~clear].sum() / total)


def _distances(points: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    apart: npt.NDArray[np.float64] = np.sqrt(((points[:, None] - others) ** 2).sum(2))
    return apart


def _lie_between(points: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which points lie near a line between two of the ends."""
    between = np.zeros(len(points), bool)
    for index, start in enumerate(ends):
        for end in ends[index + 1 :]:
            line = end - start
            along: npt.NDArray[Any] = (points - start) @ line / (line @ line)
            off = points - start - along[:, None] * line
            between |= (along > 0) & (along < 1) & ((off**2).sum(1) <= ON_LINE**2)
    return between

"""Decode one mask of a data set, find its faults, and compute the labels that a repair would write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.dataset import DataSet, Sample, distinct_labels, jpeg_fault
from fullconv.faults import Fault
from fullconv.images import stored_labels
from fullconv.images.decoders.open_pillow import open_with_pillow
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX
from fullconv.labels import IGNORE_INDEX, LabelSet, legal_ids

__all__ = ["InspectedMask", "inspect_mask"]

MAIN_SHARE = 0.02
"""Values with at least this share of a mask's pixels are classes; rarer ones may come from smoothing."""

FEWEST_BETWEEN = 4
WIDEST_EDGE = 6
FULL_SHARE = 0.01
"""Smoothed edges contain at least FEWEST_BETWEEN values between those of the classes, in strips of at most WIDEST_EDGE
pixels: the number of larger squares full of such pixels is at most FULL_SHARE of these pixels."""

JPEG_LEVELS = 48
JPEG_SHARE = 0.95
"""A JPEG mask can be repaired if JPEG_SHARE of its pixels are within JPEG_LEVELS of the value of a class."""

MOST_LEVELS, LEVEL_ERROR = 16, 1
"""Grey levels stand for class ids if they are at most MOST_LEVELS and within LEVEL_ERROR of equal steps."""

WHITE = 0xFFFFFF


@dataclass(frozen=True)
class InspectedMask:
    """A mask of `size` (height, width).

    `target` (H x W uint8) contains class ids and 255; it is None if the labels are not class ids. `snapped` is the
    target of a smoothed or compressed mask after each pixel was set to the nearest class, or None if that is unclear.
    """

    size: tuple[int, int]
    target: UInt8 | None
    faults: tuple[Fault, ...] = ()
    snapped: UInt8 | None = None


def inspect_mask(dataset: DataSet, sample: Sample) -> InspectedMask:
    """Read a mask and find its faults. Raises DataError if it cannot be decoded."""
    if sample.reader is not None or sample.target.suffix == MASK_SUFFIX:
        target = dataset.read_mask(sample)
        return InspectedMask(_size(target), target)
    with open_with_pillow(sample.target) as image:
        is_jpeg = image.format in ("JPEG", "MPO")
        stored = stored_labels(image, sample.target)
        colors = image.getpalette() if image.mode == "P" and dataset.color_masks else None
    if stored.ndim == 3:
        return _inspect_colors(dataset, sample.target, stored, is_jpeg)
    mask = _inspect_numbers(dataset, sample.target, stored, is_jpeg)
    fault = None if colors is None else _palette_fault(dataset.labels, sample.target, colors, distinct_labels(stored))
    return replace(mask, faults=(*mask.faults, fault)) if fault else mask


def _palette_fault(labels: LabelSet, path: Path, colors: list[int], held: list[int]) -> Fault | None:
    """Return the fault of an index that is read as one class but has the colour of another."""
    for index in held:
        color = tuple(colors[3 * index : 3 * index + 3])
        if index < labels.num_classes and color != labels.palette[index] and color in labels.palette:
            names = labels.class_names[index], labels.class_names[labels.palette.index(color)]
            problem = f"has index {index} in the colour of class {names[1]}, but the index is read as class {names[0]}"
            remedy = "sort the classes in dataset.yaml by these indices, or save the mask in RGB"
            return Fault("palette-order", path, problem, remedy)
    return None


def _inspect_numbers(dataset: DataSet, path: Path, stored: UInt8, is_jpeg: bool) -> InspectedMask:
    table = np.arange(256, dtype=np.uint8)
    for old, new in dataset.remap:
        table[old] = new
    legal = np.zeros(256, bool)
    legal[[*range(dataset.labels.num_classes), dataset.labels.ignore_index]] = True
    counts = np.bincount(stored.ravel(), minlength=256)
    if is_jpeg:
        return _jpeg_mask(path, stored, None if dataset.states_ignored else _snap_jpeg(dataset.labels, stored))
    smoothed = _between(counts, legal[table])
    if smoothed is not None:
        main, between = smoothed
        if _is_edge(np.isin(stored, between)):
            fault = Fault("antialiased", path, *_smoothed(len(between), "grey levels"))
            white = dataset.labels.num_classes == 2 and not dataset.states_ignored
            return InspectedMask(_size(stored), None, (fault,), table[_nearest(main, stored, white)])
    target = table[stored]
    wrong = [label for label in distinct_labels(target) if not legal[label]]
    if wrong:
        remap = _level_remedy(dataset.labels.num_classes, np.flatnonzero(counts).tolist())
        return InspectedMask(_size(stored), None, (_unknown_labels(dataset.labels, path, wrong, remap),))
    return InspectedMask(_size(stored), target)


def _between(counts: Int64, legal: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """Return the values of classes and the values between them that smoothing made; None if these are too few."""
    frequent, held = counts >= max(1, MAIN_SHARE * counts.sum()), counts > 0
    if counts[1] < counts[IGNORE_INDEX] and legal.sum() == 3:
        frequent[1] = False  # for two classes, edges between 0 and 255 contain 1
    main = np.flatnonzero(frequent & legal)
    strange = np.flatnonzero(held & ~legal)
    if len(main) < 2 or len(strange) < FEWEST_BETWEEN:
        return None
    return (main, strange) if main[0] < strange[0] and strange[-1] < main[-1] else None


def _inspect_colors(dataset: DataSet, path: Path, stored: UInt8, is_jpeg: bool) -> InspectedMask:
    size, labels = _size(stored), dataset.labels
    if is_jpeg:
        return _jpeg_mask(path, stored, _snap(labels, stored, JPEG_LEVELS) if dataset.color_masks else None)
    codes = stored.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colors, counts = np.unique(codes, return_counts=True)
    if not dataset.color_masks:
        frequent = colors[np.argsort(-counts, kind="stable")].tolist()
        shown = ", ".join(f"#{code:06x}" for code in frequent[:5])
        problem = f"is a mask in {len(colors)} colours ({shown}), and no file assigns them to classes"
        remedy = "write names and palette into dataset.yaml, or save class ids"
        return InspectedMask(size, None, (Fault("no-colour-table", path, problem, remedy),))
    known = [WHITE, *((r << 16) | (g << 8) | b for r, g, b in labels.palette)]
    strange = colors[~np.isin(colors, known)]
    if not len(strange):
        return InspectedMask(size, labels.from_colors(stored))
    if len(strange) >= FEWEST_BETWEEN and _is_edge(~np.isin(codes, known)):
        fault = Fault("antialiased", path, *_smoothed(len(strange), "colours"))
        return InspectedMask(size, None, (fault,), _snap(labels, stored))
    shown = ", ".join(f"#{code:06x}" for code in strange.tolist()[:5])
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    remedy = "correct the mask, or add the colour and its class to dataset.yaml"
    return InspectedMask(
        size, None, (Fault("unknown-colour", path, f"contains colours that belong to no class: {shown}{more}", remedy),)
    )


def _snap(labels: LabelSet, rgb: UInt8, levels: int | None = None) -> UInt8 | None:
    """Return the class of the nearest colour; white is ignored. None if too few pixels are within `levels` of it."""
    ids = [*range(labels.num_classes)]
    colors = [*labels.palette]
    if (255, 255, 255) not in labels.palette:
        ids, colors = [*ids, labels.ignore_index], [*colors, (255, 255, 255)]
    best = np.full(rgb.shape[:2], 2**30, np.int32)
    target = np.zeros(rgb.shape[:2], np.uint8)
    for class_id, color in zip(ids, colors, strict=True):
        distance = ((rgb.astype(np.int32) - np.array(color, np.int32)) ** 2).sum(2, dtype=np.int32)
        nearer = distance < best
        best[nearer], target[nearer] = distance[nearer], class_id
    return None if levels is not None and (best <= levels**2).mean() < JPEG_SHARE else target


def _snap_jpeg(labels: LabelSet, stored: UInt8) -> UInt8 | None:
    """Return 0 and 1 for two classes if nearly all levels are near 0 or 255; otherwise None.

    JPEG destroys class ids, because their values are too similar.
    """
    ends = [(stored <= JPEG_LEVELS).mean(), (stored >= 255 - JPEG_LEVELS).mean()]
    clear = labels.num_classes == 2 and min(ends) >= MAIN_SHARE and sum(ends) >= JPEG_SHARE
    return (stored >= 128).astype(np.uint8) if clear else None


def _nearest(main: npt.NDArray[np.intp], stored: UInt8, white: bool) -> UInt8:
    """Return the nearest value of a class for each pixel. With `white`, 0 and 255 alone become 0 and 1."""
    table = main[np.abs(np.arange(256)[:, None] - main).argmin(1)]
    if white and main.tolist() == [0, IGNORE_INDEX]:
        table = np.minimum(table, 1)
    snapped: UInt8 = table.astype(np.uint8)[stored]
    return snapped


def _is_edge(between: Mask) -> bool:
    """Return whether the pixels between the classes lie in strips: few squares wider than an edge are full of them."""
    side = WIDEST_EDGE + 1
    if min(between.shape) < side:
        return True
    sums = np.pad(between.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    full = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == side**2
    return bool(full.sum() <= FULL_SHARE * between.sum())


def _smoothed(count: int, what: str) -> tuple[str, str]:
    return (
        f"has smoothed edges: {count} {what} between those of the classes",
        "export it without antialiasing, and resize masks with nearest neighbour",
    )


def _jpeg_mask(path: Path, stored: UInt8, snapped: UInt8 | None) -> InspectedMask:
    return InspectedMask(_size(stored), None, (jpeg_fault(path, sure=snapped is not None),), snapped)


def _unknown_labels(labels: LabelSet, path: Path, wrong: list[int], remap: str | None) -> Fault:
    shown = ", ".join(map(str, wrong[:8])) + (f" and {len(wrong) - 8} more" if len(wrong) > 8 else "")
    problem = f"contains the labels {shown}, but {legal_ids(labels.num_classes)}"
    return Fault("unknown-label", path, problem, remap or "correct the mask, or name the missing classes")


def _level_remedy(classes: int, held: list[int]) -> str | None:
    """Return the remedy for masks whose values are equal steps from black to white; None for other values."""
    if not 2 <= classes <= MOST_LEVELS:
        return None
    ids = [round(value * (classes - 1) / 255) for value in held]
    errors = [abs(value - level * 255 / (classes - 1)) for value, level in zip(held, ids, strict=True)]
    if max(errors) > LEVEL_ERROR:
        return None
    return f"write the grey levels {', '.join(map(str, held))} as the class ids {', '.join(map(str, ids))}"


def _size(stored: UInt8) -> tuple[int, int]:
    return stored.shape[0], stored.shape[1]

"""One mask of a data set, decoded once: its class ids, or why it has none, and what can be made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.data.dataset import DataSet, Sample, distinct_labels, jpeg_fault
from fullconv.data.layouts import UNNAMED
from fullconv.faults import Fault
from fullconv.images import open_with_pillow, stored_labels
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["Mask", "read_mask"]

UInt8 = npt.NDArray[np.uint8]

MAIN_SHARE = 0.02
"""Values with this share of a mask's pixels are meant; rarer ones may come from smoothing."""

FEWEST_BETWEEN = 4
WIDEST_EDGE = 6
FULL_SHARE = 0.01
"""Smoothed edges hold at least so many values between the classes, in strips of at most so many pixels: in proportion
to these pixels, there are hardly any squares beyond that side which are full of them."""

JPEG_LEVELS = 48
JPEG_SHARE = 0.95
"""A JPEG mask snaps cleanly where this share of its pixels is this near to the value of a class."""

MOST_LEVELS, LEVEL_ERROR = 16, 1
"""Grey levels stand for class ids where they are few and far apart, and within rounding of their places."""

WHITE = 0xFFFFFF


@dataclass(frozen=True)
class Mask:
    """`size` is (height, width). `target`, H x W uint8, holds class ids and 255; None where the labels are no ids.

    `snapped` is the target that the nearest classes give, of a mask that was smoothed or compressed; None where they
    cannot be told.
    """

    size: tuple[int, int]
    target: UInt8 | None
    faults: tuple[Fault, ...] = ()
    snapped: UInt8 | None = None


def read_mask(dataset: DataSet, sample: Sample) -> Mask:
    """The mask with its faults. Raises DataError where nothing can be decoded."""
    if sample.reader is not None or sample.target.suffix == MASK_SUFFIX:
        target = dataset.read_mask(sample)
        return Mask(_size(target), target)
    with open_with_pillow(sample.target) as image:
        is_jpeg = image.format in ("JPEG", "MPO")
        stored = stored_labels(image, sample.target)
        colors = image.getpalette() if image.mode == "P" and dataset.color_masks else None
    if stored.ndim == 3:
        return _of_colors(dataset, sample.target, stored, is_jpeg)
    mask = _of_numbers(dataset, sample.target, stored, is_jpeg)
    order = None if colors is None else _palette_order(dataset.labels, sample.target, colors, distinct_labels(stored))
    return replace(mask, faults=(*mask.faults, order)) if order else mask


def _palette_order(labels: LabelSet, path: Path, colors: list[int], held: list[int]) -> Fault | None:
    """An index that is read as one class and shown in the colour of another."""
    for index in held:
        color = tuple(colors[3 * index : 3 * index + 3])
        if index < labels.num_classes and color != labels.palette[index] and color in labels.palette:
            names = labels.class_names[index], labels.class_names[labels.palette.index(color)]
            problem = f"shows its index {index}, which is read as class {names[0]}, in the colour of class {names[1]}"
            remedy = "order the classes in dataset.yaml by these indices, or save the mask in RGB"
            return Fault("palette-order", path, problem, remedy)
    return None


def _of_numbers(dataset: DataSet, path: Path, stored: UInt8, is_jpeg: bool) -> Mask:
    table = np.arange(256, dtype=np.uint8)
    for old, new in dataset.remap:
        table[old] = new
    legal = np.zeros(256, bool)
    legal[[*range(dataset.labels.num_classes), dataset.labels.ignore_index]] = True
    counts = np.bincount(stored.ravel(), minlength=256)
    if is_jpeg:
        return _of_jpeg(path, stored, _snapped_jpeg(dataset.labels, stored))
    smoothed = _between(counts, legal[table], dataset.labels is UNNAMED)
    if smoothed is not None:
        main, between = smoothed
        if _is_edge(np.isin(stored, between)):
            fault = Fault("antialiased", path, *_smoothed(len(between), "grey levels"))
            return Mask(_size(stored), None, (fault,), table[_nearest(dataset.labels, main, stored)])
    target = table[stored]
    wrong = [label for label in distinct_labels(target) if not legal[label]]
    if wrong:
        remap = _levels(dataset.labels.num_classes, np.flatnonzero(counts).tolist())
        return Mask(_size(stored), None, (_unknown_labels(dataset.labels, path, wrong, remap),))
    return Mask(_size(stored), target)


def _between(
    counts: npt.NDArray[np.int64], legal: npt.NDArray[np.bool_], unnamed: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """The values that are meant, and those between them that only smoothing makes, if there are enough of these.

    Without names every number is legal: then rare values count, if they are many and far above their number.
    """
    frequent, held = counts >= max(1, MAIN_SHARE * counts.sum()), counts > 0
    if counts[1] < counts[IGNORE_INDEX] and legal.sum() == 3:
        frequent[1] = False  # of two classes, smoothed 0 and 255 pass through 1
    main = np.flatnonzero(frequent & legal)
    strange = np.flatnonzero(held & (~frequent if unnamed else ~legal))
    if len(main) < 2 or len(strange) < FEWEST_BETWEEN * (2 if unnamed else 1):
        return None
    inside = main[0] < strange[0] and strange[-1] < main[-1]
    far = not unnamed or int(strange[-1]) > 2 * int(held.sum())
    return (main, strange) if inside and far else None


def _of_colors(dataset: DataSet, path: Path, stored: UInt8, is_jpeg: bool) -> Mask:
    size, labels = _size(stored), dataset.labels
    if is_jpeg:
        return _of_jpeg(path, stored, _snap(labels, stored, JPEG_LEVELS) if dataset.color_masks else None)
    codes = stored.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, counts = np.unique(codes, return_counts=True)
    if not dataset.color_masks:
        frequent = found[np.argsort(-counts, kind="stable")].tolist()
        shown = ", ".join(f"#{code:06x}" for code in frequent[:5])
        return Mask(size, None, (Fault(
            "no-colour-table", path, f"is a mask in {len(found)} colours ({shown}), which no file gives to classes",
            "write names and palette into dataset.yaml, or save class ids",
        ),))  # fmt: skip
    known = [WHITE, *((r << 16) | (g << 8) | b for r, g, b in labels.palette)]
    strange = found[~np.isin(found, known)]
    if not len(strange):
        return Mask(size, labels.from_colors(stored))
    if len(strange) >= FEWEST_BETWEEN and _is_edge(~np.isin(codes, known)):
        fault = Fault("antialiased", path, *_smoothed(len(strange), "colours"))
        return Mask(size, None, (fault,), _snap(labels, stored))
    shown = ", ".join(f"#{code:06x}" for code in strange.tolist()[:5])
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    remedy = "correct the mask, or add the colour and its class to dataset.yaml"
    return Mask(size, None, (Fault("unknown-colour", path, f"holds colours of no class: {shown}{more}", remedy),))


def _snap(labels: LabelSet, rgb: UInt8, levels: int | None = None) -> UInt8 | None:
    """The class of the nearest colour, white being ignored; None if too few pixels are within `levels` of theirs."""
    ids = [*range(labels.num_classes)]
    colors = [*labels.palette]
    if (255, 255, 255) not in labels.palette:
        ids, colors = [*ids, labels.ignore_index], [*colors, (255, 255, 255)]
    best = np.full(rgb.shape[:2], 2**30, np.int32)
    target = np.zeros(rgb.shape[:2], np.uint8)
    for class_id, color in zip(ids, colors, strict=True):
        apart = ((rgb.astype(np.int32) - np.array(color, np.int32)) ** 2).sum(2, dtype=np.int32)
        nearer = apart < best
        best[nearer], target[nearer] = apart[nearer], class_id
    return None if levels is not None and (best <= levels**2).mean() < JPEG_SHARE else target


def _snapped_jpeg(labels: LabelSet, stored: UInt8) -> UInt8 | None:
    """0 and 1 for two classes, where nearly all levels are at both ends; ids lie too close together to survive JPEG."""
    ends = [(stored <= JPEG_LEVELS).mean(), (stored >= 255 - JPEG_LEVELS).mean()]
    clear = labels.num_classes == 2 and min(ends) >= MAIN_SHARE and sum(ends) >= JPEG_SHARE
    return (stored >= 128).astype(np.uint8) if clear else None


def _nearest(labels: LabelSet, main: npt.NDArray[np.intp], stored: UInt8) -> UInt8:
    """The nearest of the values that are meant; of two classes, 0 and 255 are 0 and 1 unless 1 is meant, too."""
    table = main[np.abs(np.arange(256)[:, None] - main).argmin(1)]
    if labels.num_classes == 2 and main.tolist() == [0, IGNORE_INDEX]:
        table = np.minimum(table, 1)
    found: UInt8 = table.astype(np.uint8)[stored]
    return found


def _is_edge(between: npt.NDArray[np.bool_]) -> bool:
    """Whether the pixels between the classes lie in strips: hardly a square wider than an edge is full of them."""
    side = WIDEST_EDGE + 1
    if min(between.shape) < side:
        return True
    sums = np.pad(between.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    full = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == side**2
    return bool(full.sum() <= FULL_SHARE * between.sum())


def _smoothed(count: int, what: str) -> tuple[str, str]:
    return (
        f"has smoothed edges: {count} {what} between those of the classes",
        "export it without antialiasing, and resize masks without interpolation",
    )


def _of_jpeg(path: Path, stored: UInt8, snapped: UInt8 | None) -> Mask:
    return Mask(_size(stored), None, (jpeg_fault(path, sure=snapped is not None),), snapped)


def _unknown_labels(labels: LabelSet, path: Path, wrong: list[int], remap: str | None) -> Fault:
    shown = ", ".join(map(str, wrong[:8])) + (f" and {len(wrong) - 8} more" if len(wrong) > 8 else "")
    problem = f"holds the labels {shown}, but the {labels.num_classes} classes are 0 to {labels.num_classes - 1}"
    return Fault("unknown-label", path, problem, remap or "correct the mask, or name the classes that are missing")


def _levels(classes: int, held: list[int]) -> str | None:
    """What to do with values that are the grey levels from black to white of so many classes; None for others."""
    if not 2 <= classes <= MOST_LEVELS:
        return None
    meant = [round(value * (classes - 1) / 255) for value in held]
    apart = [abs(value - level * 255 / (classes - 1)) for value, level in zip(held, meant, strict=True)]
    if max(apart) > LEVEL_ERROR:
        return None
    return f"write the grey levels {', '.join(map(str, held))} as the class ids {', '.join(map(str, meant))}"


def _size(stored: UInt8) -> tuple[int, int]:
    return stored.shape[0], stored.shape[1]

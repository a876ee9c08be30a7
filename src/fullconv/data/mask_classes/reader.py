"""Pairs of images and masks become samples: all masks are decoded once, their classes decided, and readers made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.dataset import MaskFacts, Sample, size_fault
from fullconv.data.mask_classes.declared import declare_classes
from fullconv.data.mask_classes.stored_masks import apply_reading, read_stored_mask, summarize
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary, code_of
from fullconv.errors import DataError, faults_of
from fullconv.faults import Fault
from fullconv.images import IMAGE_SUFFIXES, image_size
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["Labelled", "MaskReader", "Pair", "compare_sizes", "label_pairs", "summarize_masks"]

MEASURED = 100
"""Objects are measured in so many masks, evenly spread."""


@dataclass(frozen=True)
class Pair:
    """An image and its masks: several where each is of one class or object."""

    name: str
    image: Path
    masks: tuple[Path, ...]
    split: str = ""

    @property
    def sample(self) -> Sample:
        """Return the pair as a sample whose mask holds class ids."""
        return Sample(self.name, self.image, self.masks[0])


@dataclass(frozen=True, eq=False)
class MaskReader:
    """The `reader` of a sample: reads the class ids of a mask by the reading of all masks.

    Of several masks of one image, one for each object or class, a pixel gets its largest id.
    """

    masks: tuple[Path, ...]
    reading: ClassReading = field(repr=False)
    reads_masks = True

    def __call__(self) -> UInt8:
        """Return the class ids, H x W uint8. Raises DataError for masks that cannot be read."""
        target = apply_reading(self.masks[0], self.reading)
        for path in self.masks[1:]:
            other = apply_reading(path, self.reading)
            if other.shape != target.shape:
                first = f"{self.masks[0]} is {target.shape[1]}x{target.shape[0]}"
                problem = f"is {other.shape[1]}x{other.shape[0]}, but {first}"
                raise DataError.of(Fault("size-mismatch", path, problem, "export the masks again"))
            united = np.where(other == IGNORE_INDEX, target, np.maximum(target, other))
            target = np.where(target == IGNORE_INDEX, other, united)
        return target


@dataclass(frozen=True)
class Labelled:
    """Samples by split, in the order of their pairs, their classes, and the keys of dataset.yaml that state these.

    `states_ignored` is that of `ClassReading`.
    """

    labels: LabelSet
    samples: dict[str, tuple[Sample, ...]]
    color_masks: bool
    facts: dict[Path, MaskFacts] = field(repr=False)
    declares: dict[str, Any] = field(repr=False)
    states_ignored: bool = False


def summarize_masks(pairs: Sequence[Pair], faults: list[Fault]) -> dict[Path, MaskSummary]:
    """Decode every mask once; those that cannot be read become faults."""
    summaries: dict[Path, MaskSummary] = {}
    measured = set(np.linspace(0, max(0, len(pairs) - 1), min(MEASURED, len(pairs))).round().astype(int).tolist())
    for index, pair in enumerate(pairs):
        for path in pair.masks:
            if path in summaries:
                continue
            try:
                summaries[path] = summarize(read_stored_mask(path), index in measured and len(pair.masks) == 1)
            except Exception as error:  # one file never stops the others
                sample = pair.sample if path.suffix.lower() in IMAGE_SUFFIXES else None
                faults += (_of_pair(fault, pair, sample) for fault in faults_of(path, error))
    return summaries


def compare_sizes(pairs: Sequence[Pair], summaries: Mapping[Path, MaskSummary]) -> dict[Pair, list[Fault]]:
    """Return the faults of images whose header cannot be read or has another size than their masks, by pair."""
    found: dict[Pair, list[Fault]] = {}
    for pair in pairs:
        try:
            size = image_size(pair.image)
        except Exception as error:
            found[pair] = [_of_pair(fault, pair) for fault in faults_of(pair.image, error)]
            continue
        masks = [(path, summaries[path].size) for path in pair.masks if path in summaries]
        faults = [
            size_fault(Sample(pair.name, pair.image, path), size, other) for path, other in masks if other != size
        ]
        if faults:
            found[pair] = [_of_pair(fault, pair) for fault in faults]
    return found


def label_pairs(
    pairs: Sequence[Pair],
    summaries: Mapping[Path, MaskSummary],
    reading: ClassReading,
    known: Mapping[Pair, Sequence[Fault]],
    faults: list[Fault],
) -> Labelled:
    """Return the samples of the pairs whose masks fit the reading; add the faults of the others, and those `known`.

    Masks that hold class ids, or the colours of the classes, get no reader: `DataSet.read_mask` reads them, in windows
    if they are large.
    """
    table = {code_of(color): index for index, color in enumerate(reading.colors or ())} if reading.colours else {}
    plain = _is_plain(summaries, reading, table)
    odd = {list(summaries)[index]: question for index, question in reading.odd.items()}
    samples: dict[str, list[Sample]] = {}
    facts: dict[Path, MaskFacts] = {}
    for pair in pairs:
        is_plain = plain and len(pair.masks) == 1
        reader = None if is_plain else MaskReader(pair.masks, reading)
        classes = {
            label
            for path in pair.masks
            for label in (reading.exact_classes(summaries[path]).values() if path in summaries else ())
        }
        shows = frozenset(label for label in classes if label is not None)
        sample = Sample(pair.name, pair.image, pair.masks[0], reader, shows)
        strange = [
            Fault(odd[path].code, path, odd[path].problem, odd[path].remedy) for path in pair.masks if path in odd
        ]
        if pair in known or strange:
            faults += (replace(fault, pair=sample) for fault in known.get(pair, ()))
            faults += (_of_pair(fault, pair, sample if is_plain else None) for fault in strange)
        elif all(path in summaries for path in pair.masks):
            samples.setdefault(pair.split, []).append(sample)
            of_mask = _facts(summaries[pair.masks[0]], reading) if len(pair.masks) == 1 else None
            facts |= {} if of_mask is None else {pair.masks[0]: of_mask}
    labels = LabelSet.named(reading.names, reading.colors)
    of_split = {split: tuple(found) for split, found in samples.items()}
    declares = declare_classes(reading, list(summaries.values()))
    return Labelled(labels, of_split, plain and bool(table), facts, declares, reading.states_ignored)


def _of_pair(fault: Fault, pair: Pair, sample: Sample | None = None) -> Fault:
    """Return a fault with its sample; `check` opens the files of `sample` again."""
    return replace(fault, sample=pair.name, split=pair.split or None, pair=sample)


def _is_plain(summaries: Mapping[Path, MaskSummary], reading: ClassReading, table: Mapping[int, int]) -> bool:
    """Return whether `images.read_label_map` reads all masks as the reading does."""
    colors = {0xFFFFFF: IGNORE_INDEX, **table} if table else {}
    for index, mask in enumerate(summaries.values()):
        if index in reading.odd:
            continue
        for code, label in reading.exact_classes(mask).items():
            if mask.kind == "colours":
                expected = colors.get(max(code, -1 - code))
            else:
                expected = IGNORE_INDEX if code == mask.nodata else code
            if not mask.plain or label is None or label != expected:
                return False
    return True


def _facts(mask: MaskSummary, reading: ClassReading) -> MaskFacts | None:
    """Return the pixels and object widths of each class of a mask; None where codes are moved to the nearest class."""
    classes = reading.exact_classes(mask)
    pixels: dict[int, int] = {}
    for code, label in classes.items():
        if label is None:
            return None
        pixels[label] = pixels.get(label, 0) + mask.counts[code]
    widths = None
    if mask.widths is not None and len(pixels) == len(classes):
        widths = {label: mask.widths[code] for code, label in classes.items() if label is not None}
    return MaskFacts(mask.size, pixels, widths)

"""From pairs of images and masks to samples: every mask is decoded once, and what all store decides the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fullconv.data.mask_classes.by_table import decide_with_tables
from fullconv.data.mask_classes.reader import Labelled, Pair, compare_sizes, label_pairs, summarize_masks
from fullconv.data.mask_classes.summary import ClassReading, MaskSummary
from fullconv.data.mask_classes.values import decide_classes
from fullconv.data.reading import MaskNodata
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["decide_and_label"]


def decide_and_label(
    root: Path, pairs: Sequence[Pair], faults: list[Fault], notes: list[str], nodata: MaskNodata | None = None
) -> Labelled | None:
    """Decode all masks once, decide what is a class, and return the samples without faults.

    None, with a fault, means that the classes are uncertain.
    """
    summaries = summarize_masks(pairs, faults)
    known = compare_sizes(pairs, summaries)
    sound = {path for pair in pairs if _holds_classes(known.get(pair, ())) for path in pair.masks}
    summaries = {path: summary for path, summary in summaries.items() if path in sound}
    reading = _decide(root, summaries, faults, notes, nodata) if summaries else None
    if reading is None:
        faults += (fault for found in known.values() for fault in found)
        return None
    return label_pairs(pairs, summaries, reading, known, faults)


def _holds_classes(faults: Sequence[Fault]) -> bool:
    """Return whether a mask with these faults holds the classes of its image: it does if it is only not turned."""
    return all(fault.kind == "exif-rotation" for fault in faults)


def _decide(
    root: Path, summaries: Mapping[Path, MaskSummary], faults: list[Fault], notes: list[str], nodata: MaskNodata | None
) -> ClassReading | None:
    try:
        decision = decide_with_tables(root, summaries, partial(decide_classes, nodata=nodata))
    except DataError as error:
        faults += error.faults_at(root)
        return None
    if isinstance(decision, Fault):
        faults.append(decision)
        return None
    notes += decision.notes
    remedy = "compare the masks in the report of `fullconv check` with yours; export them without compression"
    faults += (Fault("moved-pixels", root, warning, remedy) for warning in decision.warnings)
    return decision

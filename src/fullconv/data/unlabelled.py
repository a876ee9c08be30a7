"""The class of pixels that no shape covers, where the user chooses it."""

from __future__ import annotations

from dataclasses import replace

from fullconv.data.annotations.assembly import IGNORED, Classes, Drawing
from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import UsageError
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["cover_unlabelled"]


def cover_unlabelled(dataset: DataSet, choice: str) -> DataSet:
    """Return the data set with pixels that no shape covers ignored (`choice` "ignore"), or of the class `choice`.

    The class that they had goes away if no shape has it. Raises UsageError for an unknown class, and for data sets
    without shapes, whose masks have a value for every pixel.
    """
    drawings = [sample.reader for samples in dataset.splits.values() for sample in samples]
    first = next((drawing for drawing in drawings if isinstance(drawing, Drawing)), None)
    if first is None:
        message = "--unlabelled is for shapes, but this data set has masks, with a value for every pixel; leave it out"
        raise UsageError(message, code="unlabelled-without-shapes")
    names = dataset.labels.class_names
    if choice != "ignore" and choice not in names:
        message = f"--unlabelled {choice}: is not a class; write ignore, or one of {', '.join(names)}"
        raise UsageError(message, code="unknown-unlabelled-class")
    shown = {label for samples in dataset.splits.values() for sample in samples for label in sample.shows or ()}
    classes = _choose(first.classes, choice, shown)
    splits = {
        name: tuple(_draw_with(sample, classes) for sample in samples) for name, samples in dataset.splits.items()
    }
    about = dataset.about.replace(first.classes.about, classes.about)
    return replace(dataset, labels=classes.labels, splits=splits, about=about)


def _choose(classes: Classes, choice: str, shown: set[int]) -> Classes:
    names = list(classes.labels.class_names)
    before = classes.uncovered
    if before != IGNORE_INDEX and before not in shown and names[before] != choice:
        del names[before]
    known = {name: index for index, name in enumerate(names)}
    ids = {
        label: known.get(classes.labels.class_names[old], IGNORE_INDEX)
        for label, old in classes.ids.items()
        if old != IGNORE_INDEX
    }
    uncovered = IGNORE_INDEX if choice == "ignore" else known[choice]
    return Classes(LabelSet.named(names), ids | {IGNORED: IGNORE_INDEX}, uncovered)


def _draw_with(sample: Sample, classes: Classes) -> Sample:
    drawing = sample.reader
    if not isinstance(drawing, Drawing):
        return sample
    shows = frozenset(classes.ids[label] for label, _ in drawing.entry.shapes)
    return replace(sample, reader=replace(drawing, classes=classes), shows=shows)

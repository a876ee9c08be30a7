"""Judge a model in plain words: its gain over predicting one class everywhere, and whether it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fullconv.arrays import Int64
from fullconv.evaluation.intervals import Bootstrap
from fullconv.metrics import Scores
from fullconv.predict.ranges import Misfit
from fullconv.report.source import Source

__all__ = ["Verdict", "find_majority_class", "judge", "score_majority"]

FEW_STEPS = 80
"""The number of training steps below which the report warns; train chooses more, even for a single image."""

COLLAPSED = 0.1
"""A model works only if it predicts other classes on this share of the pixels outside its most predicted class."""


@dataclass(frozen=True)
class Verdict:
    """The gain of a model in one sentence, and, if it does not work, an alarm with remedies.

    `alarm` is the reason not to use the model, or empty.
    """

    headline: str
    alarm: str
    remedies: tuple[str, ...]
    notes: tuple[str, ...]


def find_majority_class(confusion: Int64) -> int:
    """Return the class with most labelled pixels, and the first one of equals."""
    return int(confusion.sum(1).argmax())


def score_majority(scores: Scores) -> Scores:
    """Score a model that predicts the majority class of the same truth for every pixel."""
    counts = np.zeros_like(scores.confusion)
    counts[:, find_majority_class(scores.confusion)] = scores.confusion.sum(1)
    return Scores.from_confusion(counts, scores.class_names)


def judge(scores: Scores, intervals: Bootstrap, source: Source, misfit: Misfit | None = None) -> Verdict:
    """Judge a model; `source` holds the known settings of its training, `misfit` an image that misses its range.

    A range of values that may not fit is the first sentence of the alarm, or of the notes if there is no alarm.
    """
    base = score_majority(scores)
    name = scores.class_names[find_majority_class(scores.confusion)]
    points = 100 * (scores.mean_iou - base.mean_iou)
    direction = "better" if points >= 0 else "worse"
    headline = (
        f"{abs(points):.1f} percentage points of mIoU {direction} than predicting “{name}” everywhere "
        f"({100 * scores.mean_iou:.1f} against {100 * base.mean_iou:.1f})"
    )
    if intervals.gain is not None:
        drawn = "series" if intervals.in_series else "images"
        headline += (
            f"; with other {drawn} of this kind, {100 * intervals.gain.low:+.1f} to {100 * intervals.gain.high:+.1f}"
        )
    lone = _one_class(scores)
    alarms = [text for text in (_collapsed(scores), _no_gain(intervals, points, name)) if text and not lone]
    doubt, remedy = _doubtful_range(source, misfit)
    if not alarms:
        doubts = (f"{doubt} {remedy}",) if doubt else ()
        return Verdict(headline + ".", "", (), (*doubts, *lone, *_unseen(scores)))
    remedies = (*[remedy] * bool(doubt), *_remedies(source))
    return Verdict(headline + ".", " ".join([doubt] * bool(doubt) + alarms), remedies, ())


def _one_class(scores: Scores) -> tuple[str, ...]:
    """Return a note if the truth has one class only, as predicting it everywhere is then right."""
    true = np.flatnonzero(scores.confusion.sum(1))
    if len(true) > 1:
        return ()
    return (
        f"These images show only “{scores.class_names[true[0]]}”, so they cannot show whether the model works: "
        "measure it on images with other classes, too.",
    )


def _collapsed(scores: Scores) -> str:
    """Return an alarm if the model predicts nearly only one class although there are others, else empty text."""
    predicted, true = scores.confusion.sum(0), scores.confusion.sum(1)
    top, total = int(predicted.argmax()), int(true.sum())
    others = total - int(true[top])
    majority = int(predicted[top])
    if not others or total - majority >= COLLAPSED * others:
        return ""
    return (
        f"The model predicts “{scores.class_names[top]}” for {_percent(majority, total)} of the pixels, although "
        f"{_percent(others, total)} of them belong to other classes. It learned the frequent class and nothing else, "
        "even where its pixel accuracy is high."
    )


def _no_gain(intervals: Bootstrap, points: float, name: str) -> str:
    low = points if intervals.gain is None or intervals.hangs_on_one else 100 * intervals.gain.low
    if low > 0:
        return ""
    return (
        f"The model is not better than predicting “{name}” everywhere, or only by as much as the choice of images can "
        "explain: do not use its label maps."
    )


def _unseen(scores: Scores) -> tuple[str, ...]:
    predicted, true = scores.confusion.sum(0), scores.confusion.sum(1)
    never = [f"“{name}”" for name, p, t in zip(scores.class_names, predicted, true, strict=True) if t and not p]
    return (f"These classes are in the truth, but never predicted: {', '.join(never)}.",) if never else ()


def _remedies(source: Source) -> tuple[str, ...]:
    """Return likely causes with remedies that were not tried; those that the settings suggest come first."""
    recipe = source.recipe
    advice = [
        *_manual_settings(source),
        "The masks may be wrong: look at the truth in the pictures below, and check that ids and classes agree. If "
        "unlabelled pixels have the id of a class, the network learns them as that class; give them the ignored label.",
        "The training may have been too short: if the scores still rise, train for more epochs (--epochs).",
        "The learning rate may not fit: if the loss falls neither fast nor far, try --lr ten times smaller, then ten "
        "times larger.",
    ]
    power = recipe.get("class_weight_power")
    if isinstance(power, int | float) and power < 0.5:
        advice.append(
            f"Rare classes have little weight (class_weight_power {power:g}): try --set class_weight_power=0.5."
        )
    finer = [stride for stride in (16, 8, 4) if stride < source.stride]
    if finer:
        words = " or ".join(map(str, finer))
        advice.append(f"The objects may be smaller than the network can draw: try a finer --stride ({words}).")
    known = "try another --model" if source.pretrained else "start from pretrained weights (--weights pretrained)"
    return (*advice, f"The backbone may know too little: {known}.")


def _doubtful_range(source: Source, misfit: Misfit | None) -> tuple[str, str]:
    """Return a sentence on numbers that miss the range that became 0 to 255, and its remedy; empty if they fit."""
    values = source.settings.get("range")
    problem, remedy = (misfit.problem, misfit.remedy) if misfit is not None else ("", "")
    if isinstance(values, Mapping) and values.get("doubt"):
        problem, remedy = str(values["doubt"]), str(values.get("remedy"))
    if not problem:
        return "", ""
    return (
        f"The images may be too dark or too bright for the network: {problem}.",
        f"{remedy[:1].upper()}{remedy[1:]}.",
    )


def _manual_settings(source: Source) -> list[str]:
    """Return remedies for settings by hand that are far from the values that train chooses."""
    remedies, recipe = [], source.recipe
    steps = _count_steps(source)
    if steps is not None and steps < FEW_STEPS:
        minutes, epochs = recipe.get("minutes"), recipe.get("epochs")
        count, unit = (epochs, "epoch") if minutes is None else (minutes, "minute")
        remedies.append(
            f"It was trained for {steps} step{'s' * (steps > 1)} only ({count} {unit}{'s' * (count != 1)}): "
            f"without --{unit}s, train chooses a number that fits the number of images."
        )
    if isinstance(recipe.get("lr"), int | float):
        remedies.append(
            f"The learning rate was set by hand (--lr {recipe['lr']:g}): without --lr, train chooses one that fits."
        )
    return remedies


def _count_steps(source: Source) -> int | None:
    """Return the number of training steps: that of the schedule, or else of all epochs; None if it is unknown."""
    schedule, samples, recipe = source.settings.get("schedule"), source.settings.get("samples"), source.recipe
    steps = schedule.get("steps") if isinstance(schedule, Mapping) else None
    if isinstance(steps, int):
        return steps
    epochs, batch = recipe.get("epochs"), recipe.get("batch_size")
    images = samples.get("train") if isinstance(samples, Mapping) else None
    if recipe.get("minutes") is None and isinstance(epochs, int) and isinstance(batch, int) and isinstance(images, int):
        return epochs * -(-images // max(1, batch))
    return None


def _percent(part: int, whole: int) -> str:
    """Return a percentage with enough digits to distinguish nearly all from all, and nearly none from none."""
    share = 100 * part / whole
    digits = next((n for n in (1, 2, 3) if part in (0, whole) or 0 < float(f"{share:.{n}f}") < 100), 4)
    return f"{share:.{digits}f} %"

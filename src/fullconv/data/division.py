"""Division of samples into train and val, where a data set has no such splits or the user asks for others."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from fullconv.arrays import Mask
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.held_out import VAL_SHARE, hold_out, make_folds, series_of, show_series
from fullconv.data.reading import ReadingOptions
from fullconv.data.splits import SPLITS, UNDIVIDED
from fullconv.errors import UsageError

__all__ = ["divide", "divide_into_folds", "find_series", "group_names", "which_classes"]

KINDS_IN_FOLDERS = "mvtec"
"""The layout whose folders are kinds of defects; the images of one are of different parts."""


def divide(dataset: DataSet, options: ReadingOptions) -> DataSet:
    """Return the data set with train and val, if it has samples.

    Samples without a split are divided; so is train where there is no val. With `val_share` or `val_by`, train and val
    are put together and divided again; test stays.
    """
    splits = {name: samples for name, samples in dataset.splits.items() if samples}
    asked = options.val_share is not None or options.val_by is not None
    pool: Sequence[Sample]
    if UNDIVIDED in splits and splits.keys() <= {UNDIVIDED, "test"}:
        pool = splits[UNDIVIDED]
    elif dataset.unusable or "train" not in splits or ("val" in splits and not asked):
        kept = {name: samples for name, samples in dataset.splits.items() if name != UNDIVIDED}
        left = len(splits.get(UNDIVIDED, ()))
        note = (f"{left} images are in no split and not used",) if left else ()
        return replace(dataset, splits=kept, inferences=(*dataset.inferences, *note))
    else:
        pool = [*splits["train"], *splits.get("val", ())]
    share = options.val_share or VAL_SHARE
    groups = None if options.val_by is None else group_names(dataset, pool, options.val_by)
    held = hold_out([sample.name for sample in pool], which_classes(pool, dataset.labels.num_classes), groups, share)
    val = set(held.val)
    divided = {
        "train": tuple(sample for index, sample in enumerate(pool) if index not in val),
        "val": tuple(sample for index, sample in enumerate(pool) if index in val),
    }
    ordered = {name: found for name in SPLITS if (found := divided.get(name) or splits.get(name))}
    if asked:
        return replace(dataset, splits=ordered, about="; ".join(filter(None, [dataset.about, held.reason])))
    declares = {**dataset.declares, "val_share": share}
    return replace(dataset, splits=ordered, inferences=(*dataset.inferences, held.reason), declares=declares)


def divide_into_folds(dataset: DataSet, count: int) -> list[DataSet]:
    """Return the data set once for each fold: its images are val, and all others, except those of test, are train.

    `options.val_by` keeps images together, as in `divide`. Raises UsageError for fewer than two folds, and if there are
    fewer images, or groups of images that stay together, than folds.
    """
    if not isinstance(count, int) or count < 2:
        raise UsageError(f"--folds {count!r}: must be a whole number, at least 2", code="too-few-folds")
    pool = [*dataset.splits.get("train", ()), *dataset.splits.get("val", ())]
    pattern = dataset.options.val_by
    groups = None if pattern is None else group_names(dataset, pool, pattern)
    classes = which_classes(pool, dataset.labels.num_classes)
    try:
        folds, reason = make_folds([sample.name for sample in pool], count, classes, groups)
    except ValueError as error:
        raise UsageError(f"--folds {count}: {dataset.root} has only {error}", code="too-many-folds") from error
    divided = []
    for number, fold in enumerate(folds, 1):
        chosen = set(fold)
        splits = {
            "train": tuple(sample for index, sample in enumerate(pool) if index not in chosen),
            "val": tuple(pool[index] for index in fold),
        }
        about = "; ".join(filter(None, [dataset.about, f"fold {number} of {reason}"]))
        divided.append(replace(dataset, splits=splits, about=about, fold=(number, count)))
    return divided


def which_classes(samples: Sequence[Sample], count: int) -> Mask | None:
    """Return N x `count` bool, the classes that each sample shows; None if that is not known of all."""
    if any(sample.shows is None for sample in samples):
        return None
    shown = np.zeros((len(samples), count), bool)
    for row, sample in enumerate(samples):
        shown[row, [index for index in sample.shows or () if index < count]] = True
    return shown


def group_names(dataset: DataSet, samples: Sequence[Sample], pattern: str) -> list[str]:
    """Return the group of each sample: what the pattern matches in its image's path below the data set's folder.

    Raises UsageError, which names an image, if the pattern matches no part of its path.
    """
    expression, groups = re.compile(pattern), []
    for sample in samples:
        path = os.path.relpath(sample.image, dataset.root).replace(os.sep, "/")
        match = expression.search(path)
        if match is None:
            message = f"--val-by {pattern}: does not match {path}; write a pattern that matches a part of every path"
            raise UsageError(message, code="val-by-matches-nothing")
        groups.append((match[1] if expression.groups else match[0]) or "")
    return groups


def find_series(dataset: DataSet, samples: Sequence[Sample]) -> list[str]:
    """Return what each sample belongs to: its group by `--val-by`, else the series of its name, else itself.

    Images of one series, such as frames of a video, are not independent. Names count only if those of the data set
    show series: a counter alone (`img_001`) or the name of a class (`crack_001`) does not say what belongs together.
    """
    pattern = dataset.options.val_by
    if pattern is not None:
        with suppress(UsageError):  # the images of test need not match
            return group_names(dataset, samples, pattern)
    if _names_show_series(dataset):
        return [series_of(sample.name) for sample in samples]
    return [str(sample.image) for sample in samples]


def _names_show_series(dataset: DataSet) -> bool:
    """Return whether the names in all splits show series, which are not named after classes."""
    if dataset.layout == KINDS_IN_FOLDERS:
        return False
    names = [sample.name for samples in dataset.splits.values() for sample in samples]
    words = {series_of(name).rstrip("/_-. ").rpartition("/")[2].casefold() for name in names}
    classes = {name.casefold() for name in dataset.labels.class_names}
    return show_series(names) and words.isdisjoint(classes)

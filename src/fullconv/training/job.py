"""What a training is asked for, and the job that follows from it for one data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from fullconv.choices import Dilation, PaddingMode, RecipeName, Stride, UpsampleMode
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.errors import UsageError
from fullconv.net.classifiers.backbones import describe_pretrained
from fullconv.net.classifiers.user_file import absolute
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.choose import MODEL, Choice, choose
from fullconv.training.recipe import RECIPES, Recipe, override

__all__ = ["Job", "TrainingOptions", "ladder_folder", "make_job", "run_folder"]

logger = logging.getLogger(__name__)

STRIDE = 8
"""The prediction stride where neither the user nor the data choose one."""

CHOICES: Mapping[str, Any] = {
    "stride": Stride, "upsample": UpsampleMode, "padding": PaddingMode, "dilate": Dilation, "recipe": RecipeName,
}  # fmt: skip
"""The options that have a fixed set of values."""


@dataclass(frozen=True)
class TrainingOptions:
    """What a user asks of a training; `fullconv train` and `fullconv ladder` have the same options.

    - model: the classifier, by name or as FILE.py:FUNCTION. None: mobilenet_v2.
    - stride: prediction stride. None: 8, or 4 where the data have thin objects.
    - weights: those of the classifier: a file, "pretrained", "imagenet", or "none".
    - head_width: channels of fc6 and fc7, from scratch. None: the classifier's.
    - upsample, padding, dilate: how the skip network is built (see `NetSpec`).
    - recipe: the values of the training to start from.
    - epochs, batch, crop, lr: values of the recipe. None: chosen by the data, or the recipe's.
    - values: any other values of the recipe, by name.
    - by_data: whether the data choose what is None; if not, the recipe's values stay.
    """

    model: str | None = None
    stride: Stride | None = None
    weights: str | os.PathLike[str] = "pretrained"
    head_width: int | None = None
    upsample: UpsampleMode = "fixed"
    padding: PaddingMode = "minimal"
    dilate: Dilation | None = None
    recipe: RecipeName = "default"
    epochs: int | None = None
    batch: int | None = None
    crop: int | None = None
    lr: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    by_data: bool = True

    def check(self) -> None:
        """UsageError for a value that an option does not have."""
        for name, literal in CHOICES.items():
            value, known = getattr(self, name), get_args(literal)
            if value not in known and not (value is None and name in ("stride", "dilate")):
                shown = ", ".join(map(str, known))
                raise UsageError(f"{name} {value!r}: choose from {shown}", code=f"unknown-{name}")
        if self.head_width is not None and self.head_width < 1:
            raise UsageError(f"head_width {self.head_width}: at least 1", code="bad-head-width")
        self.make_recipe()

    def make_recipe(self) -> Recipe:
        """The recipe with the values that are given. UsageError for names and values that it does not have."""
        return override(RECIPES[self.recipe](), self.recipe_values())

    def recipe_values(self) -> dict[str, Any]:
        """The values of the recipe that are given, by their names there."""
        named = {"epochs": self.epochs, "batch_size": self.batch, "crop": self.crop, "lr": self.lr}
        return {**{name: value for name, value in named.items() if value is not None}, **self.values}


@dataclass(frozen=True)
class Job:
    """All that decides a run's outcome. `start` is a run whose weights the network begins with, where they fit.

    `choices` are the reasons for its values, for the reader of the run folder.
    """

    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    start: Path | None = None
    choices: tuple[Choice, ...] = ()


def make_job(dataset: DataSet, options: TrainingOptions, statistics: DataSetStatistics | None = None) -> Job:
    """Decide what `options` leave open, by the `statistics` of the data, which are read where they are not given.

    Raises UsageError for values that an option or the recipe does not have, ModelError where a FILE.py is absent.
    """
    options.check()
    given, paper = options.recipe_values(), options.recipe == "paper"
    model, recipe = options.model or MODEL, options.make_recipe()
    stride: int = options.stride or STRIDE
    choices: tuple[Choice, ...] = ()
    if options.by_data:
        statistics = statistics or read_statistics(dataset, "train", "val")
        asked: dict[str, Any] = {"model": options.model, "stride": options.stride, "dilate": options.dilate}
        chosen = choose(statistics, recipe, given, **asked, published=paper)
        model, stride, recipe, choices = chosen.model, chosen.stride, chosen.recipe, chosen.choices
    model = absolute(model)
    if weights_from := describe_pretrained(model):
        logger.info(weights_from)
    spec = NetSpec(
        model,
        dataset.labels.num_classes,
        min(stride, options.dilate or stride),
        options.head_width,
        norm=not paper,
        upsample=options.upsample,
        at_once=paper,
        padding=options.padding,
        dilate=options.dilate,
    )
    weights = os.fspath(options.weights)
    return Job(spec, recipe, None if weights == "none" else weights, choices=choices)


def run_folder(data: Path, job: Job) -> Path:
    """The folder of a run that nobody names: runs/<data>-<network>-<model>."""
    return Path("runs") / f"{data.resolve().name}-{job.spec.name.lower()}-{_slug(job.spec.model)}"


def ladder_folder(data: Path, job: Job) -> Path:
    """The folder of a ladder that nobody names: runs/<data>-ladder-<model>."""
    return Path("runs") / f"{data.resolve().name}-ladder-{_slug(job.spec.model)}"


def _slug(model: str) -> str:
    """A classifier's name as part of a folder's: my_module.py:build becomes my_module-build."""
    path, _, function = model.rpartition(".py:")
    return f"{Path(path).name}-{function}" if path else model.replace("/", "-")

"""Choose the settings that the user did not give from statistics of the data, and state the reason for each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

from fullconv.data.statistics import LARGEST, DataSetStatistics
from fullconv.training.distill.unlabelled import count_unlabelled
from fullconv.training.recipe import Recipe

__all__ = ["Choice", "TrainingChoices", "choose", "choose_recipe", "choose_stride"]

MODEL = "mobilenet_v2"

THIN = 24
"""Objects narrower than this many pixels, three cells of stride 8, gain by stride 4 (docs/results.md)."""

STEPS, IMAGES = 400, 20
"""Training steps for this many images. Steps grow with the square root of the number of images."""

VALIDATIONS = 12
"""Validations in a training, about."""

UNEQUAL = 0.9
"""A class with a larger share of the pixels than this outweighs all others."""

ASKED, PUBLISHED = "set by the user", "as published"


@dataclass(frozen=True)
class Choice:
    """The name of a setting, its value as text, and the reason for the value."""

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name:<13} {self.value}: {self.reason}"


@dataclass(frozen=True)
class TrainingChoices:
    """The settings of a training.

    `choices` are the six reasons: for backbone, stride, crop, batch, epochs and class weights.
    """

    model: str
    stride: int
    recipe: Recipe
    choices: tuple[Choice, ...]


def choose(
    statistics: DataSetStatistics,
    recipe: Recipe,
    set_by_user: Collection[str] = (),
    *,
    model: str | None = None,
    stride: int | None = None,
    dilate: int | None = None,
    published: bool = False,
    mixed: bool = False,
) -> TrainingChoices:
    """Choose each setting that is None, and the values of the recipe that are not in `set_by_user`.

    A `published` recipe keeps its values, and its stride is 8. `mixed` batches have images without masks, too.
    """
    reason = ASKED if model else "fast without a GPU, and its pretrained weights are bundled with fullconv"
    backbone = Choice("backbone", model or MODEL, reason)
    step = choose_stride(statistics, stride, dilate, published)
    recipe, choices = choose_recipe(statistics, recipe, set_by_user, published, mixed)
    return TrainingChoices(backbone.value, int(step.value), recipe, (backbone, step, *choices))


def choose_stride(
    statistics: DataSetStatistics, stride: int | None = None, dilate: int | None = None, published: bool = False
) -> Choice:
    """Choose the prediction stride: `stride` if it is not None, else 4 if a class has thin objects, else 8.

    It is never coarser than `dilate`.
    """
    if dilate is not None and (stride is None or stride > dilate):
        return Choice(
            "stride", str(min(stride or 8, dilate)), f"the feature maps of the backbone stay at stride {dilate}"
        )
    if stride is not None or published:
        return Choice("stride", "8" if stride is None else str(stride), PUBLISHED if stride is None else ASKED)
    thinnest = statistics.thinnest
    if thinnest is None:
        why = "few pixels are labelled, so " if statistics.ignored else ""
        return Choice("stride", "8", f"{why}the widths of the objects are unknown")
    name, width = thinnest
    if width < THIN:
        return Choice("stride", "4", f"objects of class {name} are {width} px wide (median over their pixels)")
    return Choice("stride", "8", f"the objects of every class are at least {width} px wide (median over their pixels)")


def choose_recipe(
    statistics: DataSetStatistics,
    recipe: Recipe,
    set_by_user: Collection[str],
    published: bool = False,
    mixed: bool = False,
) -> tuple[Recipe, list[Choice]]:
    """Choose batch size, epochs and class weights of the recipe, except for those in `set_by_user`.

    Returns the new recipe and the choices. A `published` recipe is not changed. `mixed` is as in `choose`.
    """
    choices = []
    for name, field, rule in (
        ("crop", "crop", _crop),
        ("batch", "batch_size", _batch),
        ("epochs", "epochs", partial(_epochs, mixed=mixed)),
        ("class weights", "class_weight_power", _weights),
    ):
        reason = ASKED if field in set_by_user else PUBLISHED
        if field not in set_by_user and not published:
            recipe, reason = rule(statistics, recipe, set_by_user)
        choices.append(Choice(name, _shown(field, getattr(recipe, field), statistics), reason))
    recipe.check()
    return recipe, choices


def _shown(field: str, value: float | None, statistics: DataSetStatistics) -> str:
    """Return a value as text. A crop of None is that of the data; a crop of 0 is the whole image."""
    if field == "crop" and not value:
        return str(statistics.crop) if value is None else "whole images"
    return f"{value:g}"


def _crop(statistics: DataSetStatistics, recipe: Recipe, set_by_user: Collection[str]) -> tuple[Recipe, str]:
    if statistics.crop < LARGEST:
        return recipe, "the longest side of the training images, rounded up to a multiple of the coarsest stride"
    return recipe, "the largest crop without --crop, because the images are larger"


def _batch(statistics: DataSetStatistics, recipe: Recipe, set_by_user: Collection[str]) -> tuple[Recipe, str]:
    count = statistics.images
    images = f"there {'is' if count == 1 else 'are'} {count} training image{'s' * (count != 1)}"
    if recipe.crop == 0 or statistics.images >= recipe.batch_size:
        return recipe, f"the value of the recipe; {images}"
    return replace(recipe, batch_size=max(2, statistics.images)), images


def _epochs(
    statistics: DataSetStatistics, recipe: Recipe, set_by_user: Collection[str], mixed: bool
) -> tuple[Recipe, str]:
    labelled = recipe.batch_size - (count_unlabelled(recipe) if mixed else 0)
    steps = -(-statistics.images // labelled)
    target = STEPS * sqrt(statistics.images / IMAGES)
    every = recipe.val_every if "val_every" in set_by_user else max(1, round(target / steps / VALIDATIONS))
    epochs = every * max(1, round(target / steps / every))
    validated = f"; validated every {every} epochs" if every > 1 else ""
    images = f"{statistics.images} image{'s' * (statistics.images != 1)}"
    return replace(recipe, epochs=epochs, val_every=every), f"about {target:.0f} steps suit {images}{validated}"


def _weights(statistics: DataSetStatistics, recipe: Recipe, set_by_user: Collection[str]) -> tuple[Recipe, str]:
    name, share = statistics.largest
    if share > UNEQUAL:
        reason = f"class {name} has {100 * share:.0f} % of the pixels, so rare classes get larger weights"
        return replace(recipe, class_weight_power=0.5), reason
    return recipe, f"small, because no class has more than {100 * UNEQUAL:.0f} % of the pixels"

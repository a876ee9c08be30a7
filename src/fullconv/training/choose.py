"""Choose what a training leaves open, by the data, with reasons; values that the user gives stay."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import sqrt

from fullconv.data.statistics import LARGEST, DataSetStatistics
from fullconv.training.recipe import Recipe

__all__ = ["Choice", "Chosen", "choose", "choose_recipe", "choose_stride"]

MODEL = "mobilenet_v2"

THIN = 8
"""Objects of fewer pixels across vanish between the cells of stride 8."""

STEPS, IMAGES = 400, 20
"""Steps of a training of so many images; they grow with the square root of the number of images."""

VALIDATIONS = 12
UNEQUAL = 0.9

ASKED, PUBLISHED = "as asked for", "as published"


@dataclass(frozen=True)
class Choice:
    """The value of something, in words, and the reason for it."""

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name:<13} {self.value}: {self.reason}"


@dataclass(frozen=True)
class Chosen:
    """What a training is made of, with the six reasons: backbone, stride, crop, batch, epochs, class weights."""

    model: str
    stride: int
    recipe: Recipe
    choices: tuple[Choice, ...]


def choose(
    statistics: DataSetStatistics,
    recipe: Recipe,
    given: Collection[str] = (),
    *,
    model: str | None = None,
    stride: int | None = None,
    dilate: int | None = None,
    published: bool = False,
) -> Chosen:
    """Decide what is None, and the values of the recipe that are not `given`, which a `published` one keeps."""
    reason = ASKED if model else "quick without a GPU, and its pretrained weights come with fullconv"
    backbone = Choice("backbone", model or MODEL, reason)
    step = choose_stride(statistics, stride, dilate, published)
    recipe, choices = choose_recipe(statistics, recipe, given, published)
    return Chosen(backbone.value, int(step.value), recipe, (backbone, step, *choices))


def choose_stride(
    statistics: DataSetStatistics, asked: int | None = None, dilate: int | None = None, published: bool = False
) -> Choice:
    """The prediction stride: 4 where objects of a class are thin, else 8; that which is asked for; `dilate` at most."""
    if dilate is not None and (asked is None or asked > dilate):
        return Choice("stride", str(min(asked or 8, dilate)), f"the backbone's maps are kept at stride {dilate}")
    if asked is not None or published:
        return Choice("stride", "8" if asked is None else str(asked), PUBLISHED if asked is None else ASKED)
    thin = statistics.thinnest
    if thin is not None and thin[1] < THIN:
        return Choice("stride", "4", f"objects of class {thin[0]} are {thin[1]} px wide (median over their pixels)")
    width = "unknown" if thin is None else f"{thin[1]} px or more"
    return Choice("stride", "8", f"the objects of every class are {width} wide")


def choose_recipe(
    statistics: DataSetStatistics, recipe: Recipe, given: Collection[str], published: bool = False
) -> tuple[Recipe, list[Choice]]:
    """The recipe with batch size, epochs and class weights by the data, but for the values that are `given`."""
    choices = []
    for name, field, rule in (
        ("crop", "crop", _crop),
        ("batch", "batch_size", _batch),
        ("epochs", "epochs", _epochs),
        ("class weights", "class_weight_power", _weights),
    ):
        reason = ASKED if field in given else PUBLISHED
        if field not in given and not published:
            recipe, reason = rule(statistics, recipe, given)
        choices.append(Choice(name, _shown(field, getattr(recipe, field), statistics), reason))
    recipe.check()
    return recipe, choices


def _shown(field: str, value: float | None, statistics: DataSetStatistics) -> str:
    """The crop of None is that of the data, and of 0 the whole image."""
    if field == "crop" and not value:
        return str(statistics.crop) if value is None else "whole images"
    return f"{value:g}"


def _crop(statistics: DataSetStatistics, recipe: Recipe, given: Collection[str]) -> tuple[Recipe, str]:
    if statistics.crop < LARGEST:
        return recipe, "the longest side of the training images, rounded up to the coarsest stride"
    return recipe, "the most that is cut from larger images without --crop"


def _batch(statistics: DataSetStatistics, recipe: Recipe, given: Collection[str]) -> tuple[Recipe, str]:
    count = statistics.images
    images = f"there {'is' if count == 1 else 'are'} {count} training image{'s' * (count != 1)}"
    if recipe.crop == 0 or statistics.images >= recipe.batch_size:
        return recipe, f"the recipe's; {images}"
    return replace(recipe, batch_size=max(2, statistics.images)), images


def _epochs(statistics: DataSetStatistics, recipe: Recipe, given: Collection[str]) -> tuple[Recipe, str]:
    steps = -(-statistics.images // recipe.batch_size)
    wanted = STEPS * sqrt(statistics.images / IMAGES)
    every = recipe.val_every if "val_every" in given else max(1, round(wanted / steps / VALIDATIONS))
    epochs = every * max(1, round(wanted / steps / every))
    scored = f"; scored every {every}" if every > 1 else ""
    suits = f"some {wanted:.0f} steps suit {statistics.images} image{'s' * (statistics.images != 1)}{scored}"
    return replace(recipe, epochs=epochs, val_every=every), suits


def _weights(statistics: DataSetStatistics, recipe: Recipe, given: Collection[str]) -> tuple[Recipe, str]:
    name, share = statistics.largest
    if share > UNEQUAL:
        reason = f"{name} has {100 * share:.0f} % of the pixels: rare classes count more"
        return replace(recipe, class_weight_power=0.5), reason
    return recipe, f"mild, for no class has more than {100 * UNEQUAL:.0f} % of the pixels"

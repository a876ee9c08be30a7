"""What `train` decides by itself, from the data, and why: what was not asked for by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from fullconv.data.fingerprint import Fingerprint
from fullconv.learn.recipe import Recipe

__all__ = ["Choice", "choose", "choose_recipe", "choose_stride"]

THIN = 8
"""Objects of fewer pixels across vanish between the cells of stride 8."""

STEPS, IMAGES = 400, 20
"""Steps of a training of so many images; they grow with the square root of the number of images."""

VALIDATIONS = 12
UNEQUAL = 0.9


@dataclass(frozen=True)
class Choice:
    """The value of something, in words, and the reason for it."""

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name:<8} {self.value}: {self.reason}"


def choose(
    found: Fingerprint, stride: int | None, recipe: Recipe, given: Callable[[str], bool]
) -> tuple[int, Recipe, list[Choice]]:
    """Stride and recipe, with the reasons; a `stride` that was asked for stays, as do the values that are `given`."""
    recipe, choices = choose_recipe(found, recipe, given)
    if stride is not None:
        return stride, recipe, choices
    stride, why = choose_stride(found)
    return stride, recipe, [why, *choices]


def choose_stride(found: Fingerprint) -> tuple[int, Choice]:
    """The prediction stride: 4 where objects of a class are thin, else 8."""
    thin = found.thinnest
    if thin is not None and thin[1] < THIN:
        reason = f"objects of class {thin[0]} are {thin[1]} px wide (median over their pixels)"
        return 4, Choice("stride", "4", reason)
    width = "unknown" if thin is None else f"{thin[1]} px or more"
    return 8, Choice("stride", "8", f"the objects of every class are {width} wide")


def choose_recipe(found: Fingerprint, recipe: Recipe, given: Callable[[str], bool]) -> tuple[Recipe, list[Choice]]:
    """The recipe with batch size, epochs and class weights by the data, but for the values that are `given`."""
    choices = []
    if not given("batch_size") and recipe.crop != 0 and found.images < recipe.batch_size:
        recipe = replace(recipe, batch_size=max(2, found.images))
        choices.append(Choice("batch", str(recipe.batch_size), f"there are {found.images} training images"))
    if not given("epochs"):
        steps = -(-found.images // recipe.batch_size)
        wanted = STEPS * sqrt(found.images / IMAGES)
        every = recipe.val_every if given("val_every") else max(1, round(wanted / steps / VALIDATIONS))
        epochs = every * max(1, round(wanted / steps / every))
        recipe = replace(recipe, epochs=epochs, val_every=every)
        reason = (
            f"some {wanted:.0f} steps suit {found.images} images; scored every {every}"
            if every > 1
            else (f"some {wanted:.0f} steps suit {found.images} images")
        )
        choices.append(Choice("epochs", str(epochs), reason))
    name, share = found.largest
    if not given("class_weight_power") and share > UNEQUAL:
        recipe = replace(recipe, class_weight_power=0.5)
        choices.append(
            Choice("weights", "0.5", f"{name} has {100 * share:.0f} % of the pixels: rare classes count more")
        )
    recipe.check()
    return recipe, choices

"""What commands share: a check before the heavy imports, messages, and what the words of a command line mean."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fullconv.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from fullconv.learn.recipe import Recipe
    from fullconv.net.spec import NetSpec

__all__ = ["need_torch", "parse_numbers", "parse_recipe", "parse_size", "parse_spec", "recipe_values", "say", "slug"]


def need_torch() -> None:
    """MissingExtra where what trains and runs networks is not installed."""
    for package in ("torch", "torchvision", "lightning"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")


def say(text: str) -> None:
    """A message, on stderr."""
    print(text, file=sys.stderr, flush=True)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from HxW; UsageError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip().lower())
    if match is None:
        raise UsageError(f"--size {text}: write height x width in pixels, such as 480x640")
    return int(match[1]), int(match[2])


def parse_spec(
    model: str,
    num_classes: int,
    stride: int,
    head_width: int | None,
    upsample: str,
    padding: str,
    dilate: int | None,
    recipe: str,
) -> NetSpec:
    """The network that the options describe; UsageError for words that are not known.

    A FILE.py of one's own gets its whole path, and it is said where weights come from the function that builds a model.
    """
    from fullconv.net.backbones import describe_pretrained
    from fullconv.net.own import absolute
    from fullconv.net.spec import NetSpec, Padding
    from fullconv.net.upsample import UpsampleMode

    for option, value, known in (("upsample", upsample, UpsampleMode), ("padding", padding, Padding)):
        if value not in get_args(known):
            choices = ", ".join(get_args(known))
            raise UsageError(f"--{option} {value}: choose from {choices}")
    if dilate not in (None, 16, 8, 4):
        raise UsageError(f"--dilate {dilate}: choose from 16, 8, 4")
    if stride not in (32, 16, 8, 4):
        raise UsageError(f"--stride {stride}: a prediction stride is 32, 16, 8 or 4")
    model = absolute(model)
    if describe_pretrained(model):
        say(describe_pretrained(model))
    return NetSpec(
        model,
        num_classes,
        min(stride, dilate or stride),
        head_width,
        norm=recipe != "paper",
        upsample=upsample,  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        dilate=dilate,
    )


def slug(model: str) -> str:
    """A classifier's name as part of a folder's: my_module.py:build becomes my_module-build."""
    path, _, function = model.rpartition(".py:")
    return f"{Path(path).name}-{function}" if path else model.replace("/", "-")


def parse_numbers(text: str | None) -> list[int] | None:
    """10,6,6,10 to numbers; UsageError for anything else."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--epochs-each {text}: write whole numbers with commas, as 10,6,6,10") from error


def recipe_values(
    epochs: int | None, batch: int | None, crop: int | None, lr: float | None, others: list[str] | None
) -> dict[str, Any]:
    """The values of the recipe that the options give; UsageError for a --set that is no NAME=VALUE."""
    values: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "crop": crop, "lr": lr}
    given = {key: value for key, value in values.items() if value is not None}
    for entry in others or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--set {entry}: write it as NAME=VALUE")
        given[key.strip().replace("-", "_")] = value
    return given


def parse_recipe(name: str, given: dict[str, Any]) -> Recipe:
    """The recipe `name` with the values that are given; UsageError for names and values that it does not have."""
    from fullconv.learn.recipe import RECIPES, override

    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: there is {' and '.join(repr(known) for known in RECIPES)}")
    return override(RECIPES[name](), given)

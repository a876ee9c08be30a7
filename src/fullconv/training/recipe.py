"""Recipes: every number of a training in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from fullconv.choices import LossName, RecipeName
from fullconv.documents import parse_yaml
from fullconv.errors import UsageError

__all__ = ["RECIPES", "Recipe", "default_recipe", "override", "paper_recipe"]

ONE_OR_MORE = ("epochs", "val_every", "batch_size", "fixed_views", "frozen_stride")
ZERO_OR_MORE = (
    "crop", "ema", "warmup", "momentum", "bias_lr_scale", "head_lr_scale", "weight_decay", "power", "color",
    "deep_supervision", "class_weight_power", "clip", "save_minutes", "workers", "patience", "gamma", "blur", "noise",
)  # fmt: skip
SHARES = ("flip", "ohem_threshold", "ohem_share", "hue", "grey", "jpeg", "rare_crops", "copy_paste", "distill")


@dataclass(frozen=True)
class Recipe:
    """Every number of a training; the defaults are those of `default_recipe`.

    - epochs: passes over the training images. val_every: epochs between validations.
    - batch_size: crops per step, divided over the processes. crop: side of the crops in pixels; None means 352, or less
      if all images are smaller; 0 means whole images, one per step.
    - minutes: time of the training with its validations, instead of `epochs`; None means that epochs count. patience:
      validations without a better mIoU after which the training ends; 0 means that it does not end early.
    - loss: cross-entropy; ohem, cross-entropy of hard pixels only, which are those whose class has a probability below
      ohem_threshold, and at least ohem_share of the labelled pixels; or dice or lovasz, which are added to it.
    - deep_supervision: weight of the mean cross-entropy of scores on the coarser sums of a refined decoder, which are
      trained with it and not kept; 0 means none.
    - optimizer: adamw, or sgd with momentum. normalized: whether the loss is the mean over pixels, or their sum.
    - lr: learning rate of the pretrained layers; None means 5e-4 if the backbone has batch norm, else 1e-4; with sgd,
      the published rates (see `paper_recipe`). head_lr_scale: factor for new layers; 15 with the refined
      decoder. bias_lr_scale: factor for biases.
    - layer_decay: the rate of a backbone layer is lr * layer_decay ** (stages above it); a stage is the layers whose
      maps have one stride. 1 means the same rate for all.
    - weight_decay: for kernels, not for biases and norms. warmup: share of the steps. power: exponent of the decay to
      zero; 0 means a constant rate.
    - scale: bounds of the random resize. flip: probability. color: jitter of brightness, contrast, saturation.
    - hue: largest turn of the colours, as a share of a full turn. gamma: random exposure, x ** g with g up to 1 + gamma
      and down to 1 / (1 + gamma). grey: probability of a grey image. blur: largest deviation of a Gaussian in pixels;
      noise: largest deviation in grey levels; jpeg: strength of JPEG compression, from 0 to 1; each for half of the
      crops. What does not apply to the channels of the data is left out.
    - rare_crops: share of the crops whose centre is on a pixel of a rare class, where the image has one. copy_paste:
      probability that objects of rare classes from training images are pasted into a crop. A class is rare if it has
      fewer pixels than the mean class; it is drawn in proportion to 1 / frequency.
    - distill, temperature: with a teacher, the loss is (1 - distill) * loss + distill * temperature ** 2 * divergence
      from the teacher at this temperature. unlabelled_share: share of images without masks in each batch, if there are
      any; the other crops are labelled, so an epoch has more steps.
    - class_weight_power: the weight of a class is (median frequency / frequency) ** power; 0 means no weights.
    - ema: decay of the running average of the weights, which is validated and saved; 0 means no average.
    - frozen_stride: backbone layers whose maps are finer than this stride are not trained; 1 means none.
    - bf16: autocast to bfloat16; None means if the device supports it. fp16: autocast to float16 on a GPU instead, with
      scaled gradients.
    - clip: maximum norm of the gradients; 0 means no clipping.
    - fixed_views: crops of each image in the cache of FCN-32s-fixed.
    - save_minutes: minutes between saves. workers: processes that load images; None means none on the CPU, and as many
      as there are cores, up to 8, for each GPU.
    """

    epochs: int = 40
    val_every: int = 1
    batch_size: int = 8
    crop: int | None = None
    loss: LossName = "cross-entropy"
    ohem_threshold: float = 0.7
    ohem_share: float = 0.1
    deep_supervision: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.99
    normalized: bool = True
    lr: float | None = None
    bias_lr_scale: float = 1.0
    head_lr_scale: float = 5.0
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.05
    power: float = 0.9
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    color: float = 0.3
    hue: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    rare_crops: float = 0.0
    copy_paste: float = 0.0
    distill: float = 0.5
    temperature: float = 1.0
    unlabelled_share: float = 0.5
    class_weight_power: float = 0.25
    ema: float = 0.998
    frozen_stride: int = 1
    bf16: bool | None = None
    fp16: bool = False
    clip: float = 5.0
    minutes: float | None = None
    patience: int = 0
    fixed_views: int = 2
    save_minutes: float = 3.0
    workers: int | None = None
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for YAML."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe. Raises UsageError that names every unknown name or every invalid value."""
        known = [f.name for f in dataclasses.fields(cls)]
        faults = []
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                faults.append(f"no setting is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if faults:
            message = f"recipe: {'; '.join(faults)} (the settings are {', '.join(known)})"
            raise UsageError(message, code="unknown-recipe-setting")
        try:
            recipe = TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, e['loc']))}={e['input']!r:.60}: {e['msg']}" for e in error.errors()[:5]]
            raise UsageError(f"recipe: {'; '.join(wrong)}", code="invalid-recipe-value") from error
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise UsageError that names every value that no training can use."""
        values = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        faults = [f"{name} must be a finite number" for name, value in values.items() if not isfinite(value)]
        least = dict.fromkeys(ONE_OR_MORE, 1) | dict.fromkeys(ZERO_OR_MORE, 0)
        faults += [f"{name} must be at least {low}" for name, low in least.items() if values.get(name, low) < low]
        faults += [f"{name} must be from 0 to 1" for name in SHARES if not 0 <= values[name] <= 1]
        faults += [f"{name} must be less than 1" for name in ("ema", "warmup", "momentum") if values[name] >= 1]
        faults += ["whole images (crop 0) differ in size: batch_size must be 1"] * (
            self.crop == 0 and self.batch_size > 1
        )
        faults += ["epochs must be a multiple of val_every"] * (self.epochs % max(1, self.val_every) != 0)
        faults += ["scale must be two numbers greater than 0, the smaller one first"] * (
            not 0 < self.scale[0] <= self.scale[1] < inf
        )
        faults += ["layer_decay must be greater than 0, and at most 1"] * (not 0 < self.layer_decay <= 1)
        faults += ["temperature must be greater than 0"] * (self.temperature <= 0)
        faults += ["unlabelled_share must be between 0 and 1"] * (not 0 < self.unlabelled_share < 1)
        faults += ["minutes must be greater than 0"] * (self.minutes is not None and self.minutes <= 0)
        faults += ["bf16 and fp16 exclude each other"] * (bool(self.bf16) and self.fp16)
        faults += ["lr must be greater than 0"] * (self.lr is not None and self.lr <= 0)
        if faults:
            raise UsageError(f"recipe: {'; '.join(faults)}", code="invalid-recipe-value")


def default_recipe() -> Recipe:
    """Return the default recipe: AdamW, augmented crops, small class weights, and an average of the weights."""
    return Recipe()


def paper_recipe() -> Recipe:
    """Return the published recipe: SGD with momentum 0.99, one whole image per step, no augmentation, constant rates.

    The loss is a sum over pixels, and biases have twice the rate (solvers and net descriptions of
    fcn.berkeleyvision.org, "heavy learning"). The rates suit sums over about 500 x 500 pixels: 1e-10 for FCN-32s and
    at-once training, 1e-12 for FCN-16s and 1e-14 for FCN-8s, which start from the coarser network.
    """
    return Recipe(
        batch_size=1,
        crop=0,
        optimizer="sgd",
        normalized=False,
        bias_lr_scale=2.0,
        head_lr_scale=1.0,
        weight_decay=5e-4,
        warmup=0.0,
        power=0.0,
        scale=(1.0, 1.0),
        flip=0.0,
        color=0.0,
        class_weight_power=0.0,
        ema=0.0,
        clip=0.0,
        fixed_views=1,
    )


RECIPES: dict[RecipeName, Callable[[], Recipe]] = {"default": default_recipe, "paper": paper_recipe}
"""The recipes by name."""


def override(recipe: Recipe, assignments: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some values replaced. Strings are read as YAML, so `scale=[0.5,2]` works.

    If `val_every` is given and `epochs` is not, the epochs are rounded up to a multiple of `val_every`.
    Raises UsageError for unknown names and invalid values.
    """
    parsed = {name: _parse_yaml(name, v) if isinstance(v, str) else v for name, v in assignments.items()}
    every = parsed.get("val_every")
    if "epochs" not in parsed and isinstance(every, int) and every > 0:
        parsed["epochs"] = -(-recipe.epochs // every) * every
    return Recipe.from_dict({**recipe.to_dict(), **parsed})


def _parse_yaml(name: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        message = f"recipe: {name}={text} is not a YAML value, such as 3, true or [0.5, 2]"
        raise UsageError(message, code="invalid-recipe-value") from error

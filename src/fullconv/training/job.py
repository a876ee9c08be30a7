"""The options of a training, and the job that they give for one data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

from fullconv.choices import (
    Accelerator,
    ActivationName,
    DecoderName,
    Device,
    Dilation,
    LateLayers,
    LoggerName,
    LossName,
    PaddingMode,
    RecipeName,
    Stride,
    TrainPrecision,
    UpsampleMode,
)
from fullconv.data.archives import data_name
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.errors import UsageError
from fullconv.net.classifiers.backbones import PRETRAINED, describe_pretrained
from fullconv.net.classifiers.user_file import hash_code, make_absolute
from fullconv.net.fcn.spec import NetSpec
from fullconv.runtime.models import model_path
from fullconv.training.choose import MODEL, Choice, choose
from fullconv.training.recipe import RECIPES, Recipe, override
from fullconv.training.start import find_start, refuse_network_options, spec_of_start

__all__ = [
    "Hardware",
    "Job",
    "TrainingOptions",
    "make_job",
    "name_ladder_folder",
    "name_run_folder",
    "refuse_with_minutes",
]

logger = logging.getLogger(__name__)

STRIDE = 8
"""The prediction stride if neither the user nor the data choose one."""

MAX_WIDTH = 4096
"""The largest number of channels of the refined decoder."""

REFINED_SCALE = 15.0
"""head_lr_scale of the refined decoder, whose layers are all new; it learns faster so (docs/results.md)."""

CHOICES: Mapping[str, Any] = {
    "stride": Stride, "upsample": UpsampleMode, "padding": PaddingMode, "dilate": Dilation, "recipe": RecipeName,
    "decoder": DecoderName, "late": LateLayers, "activation": ActivationName,
    "accelerator": Accelerator, "precision": TrainPrecision, "logger": LoggerName, "loss": LossName,
}  # fmt: skip
"""The options that have a fixed set of values."""

OF_NETWORK = (
    "model", "weights", "head_width", "upsample", "padding", "dilate", "decoder", "decoder_width", "context",
    "activation",
)  # fmt: skip
"""The options that a trained network decides from which a training starts."""

OF_LENGTH = ("epochs", "epochs_each", "val_every")
"""The settings that `minutes` replaces."""

OPTION_OF = {"batch_size": "batch"}
"""The options that are named differently in the recipe."""

PRECISIONS: Mapping[TrainPrecision, Mapping[str, bool]] = {
    "auto": {}, "bf16": {"bf16": True}, "fp16": {"bf16": False, "fp16": True}, "fp32": {"bf16": False},
}  # fmt: skip
"""The values of the recipe for each precision."""


@dataclass(frozen=True)
class Hardware:
    """The devices of a training: `devices` on each of `nodes` machines, with one process for each device.

    "auto" means all GPUs of the machine; on a CPU, one process. With torchrun or SLURM, their numbers count.
    """

    devices: int | Literal["auto"] = 1
    nodes: int = 1
    accelerator: Accelerator = "auto"

    @property
    def runner(self) -> Device:
        """Return the device on which a trained network runs after the training, and its teacher."""
        return "cpu" if self.accelerator == "cpu" else "auto"

    def check(self) -> None:
        """Raise UsageError for anything but numbers from 1, and "auto" for devices."""
        for name, value in (("devices", self.devices), ("nodes", self.nodes)):
            if not _is_count(value) and (name, value) != ("devices", "auto"):
                message = f"{name} is {value!r}; it must be a whole number, at least 1"
                raise UsageError(message, code="too-few-devices")


def _is_count(value: object, most: float = inf) -> bool:
    return isinstance(value, int) and 1 <= value <= most


@dataclass(frozen=True)
class TrainingOptions:
    """The options of a training. `fullconv train` and `fullconv ladder` share them.

    - model: the classifier, by name or as FILE.py:FUNCTION. None: mobilenet_v2.
    - stride: prediction stride. None: 8, or 4 if the data have thin objects.
    - weights: weights of the classifier: a file, "pretrained", "imagenet", or "none".
    - start: a trained network: a run folder, a .safetensors file, or a bundled model by its name. The training starts
      from its weights where they fit, and its network is taken, except for stride and late. None: from the classifier.
    - head_width: channels of fc6 and fc7, which then start from random weights. None: those of the classifier.
    - upsample, padding, dilate: how the skip network is built (see `NetSpec`).
    - decoder, decoder_width, context, late, activation: see `NetSpec`. None: 64 for decoder_width, keep for late.
    - recipe: name of the recipe whose values are used.
    - epochs, batch, crop, lr, loss: values of the recipe. None: chosen from the data, or the value of the recipe.
    - teacher: a trained model with the same classes, whose logits the network imitates, too. unlabelled_images: a
      folder of images without masks, which only the teacher labels.
    - devices, nodes, accelerator: see `Hardware`. precision: the numbers in which the training computes.
    - minutes: time of the training, instead of epochs. patience: validations without a better mIoU before the end.
    - logger: where losses and scores are logged, in addition to metrics.csv.
    - values: other values of the recipe, by name.
    - by_data: whether settings that are None are chosen from the data. If not, the values of the recipe stay.
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
    decoder: DecoderName = "paper"
    decoder_width: int | None = None
    context: bool = False
    late: LateLayers | None = None
    activation: ActivationName = "keep"
    loss: LossName | None = None
    teacher: str | os.PathLike[str] | None = None
    unlabelled_images: str | os.PathLike[str] | None = None
    devices: int | Literal["auto"] = 1
    nodes: int = 1
    accelerator: Accelerator = "auto"
    precision: TrainPrecision = "auto"
    minutes: float | None = None
    patience: int | None = None
    logger: LoggerName | None = None
    start: str | os.PathLike[str] | None = None

    def check(self) -> None:
        """Raise UsageError for an unknown value of an option or of the recipe, and for one that would be ignored."""
        for name, literal in CHOICES.items():
            value, known = getattr(self, name), get_args(literal)
            if value not in known and not (value is None and name in ("stride", "dilate", "late", "logger", "loss")):
                shown = ", ".join(map(str, known))
                raise UsageError(f"{name} {value!r} is unknown; choose from {shown}", code="unknown-option-value")
        if not isinstance(self.values, Mapping):
            message = f"values is {self.values!r:.80}; give a dictionary, such as {{'seed': 1}}"
            raise UsageError(message, code="values-not-a-dictionary")
        if self.head_width is not None and not _is_count(self.head_width):
            message = f"head_width is {self.head_width!r}; it must be a whole number, at least 1"
            raise UsageError(message, code="head-width-too-small")
        if self.decoder_width is not None and (self.decoder == "paper" or not _is_count(self.decoder_width, MAX_WIDTH)):
            message = f"decoder_width is {self.decoder_width!r}; it is for --decoder refined, from 1 to {MAX_WIDTH}"
            raise UsageError(message, code="decoder-width-out-of-range")
        if self.unlabelled_images is not None and self.teacher is None:
            message = (
                f"{self.unlabelled_images}: images without masks need a teacher that labels them; add --teacher RUN, "
                "or leave out --unlabelled-images"
            )
            raise UsageError(message, code="needs-teacher")
        if self.unlabelled_images is not None and not os.path.isdir(self.unlabelled_images):
            message = f"{self.unlabelled_images}: is no folder; --unlabelled-images takes a folder of images"
            raise UsageError(message, code="unlabelled-not-a-folder")
        if self.start is not None:
            default = TrainingOptions()
            refuse_network_options(
                self.start, {name: getattr(self, name) != getattr(default, name) for name in OF_NETWORK}
            )
        self.hardware.check()
        self._refuse_ignored()

    def _refuse_ignored(self) -> None:
        """Raise UsageError for values of the recipe that another one replaces, or that no recipe has."""
        options = [(OPTION_OF.get(name, name), name) for name in self._named_values()]
        options += [("precision", name) for name in ("bf16", "fp16") if self.precision != "auto"]
        for option, name in options:
            if name in self.values:
                message = f"{option} is given as an option and as a value of the recipe ({name}); give it once"
                raise UsageError(message, code="given-twice")
        recipe = self.make_recipe()
        refuse_with_minutes(recipe, self.recipe_values())
        for needed, is_given, names in (
            ("--teacher", self.teacher is not None, ("distill", "temperature")),
            ("--unlabelled-images", self.unlabelled_images is not None, ("unlabelled_share",)),
            ("--loss ohem", recipe.loss == "ohem", ("ohem_threshold", "ohem_share")),
            ("optimizer=sgd", recipe.optimizer == "sgd", ("momentum",)),
            ("a --crop that is not 0", recipe.crop != 0, ("rare_crops",)),
        ):
            for name in names:
                if name in self.values and not is_given:
                    message = f"{name} changes nothing without {needed}; add it, or leave out {name}"
                    raise UsageError(message, code="value-without-effect")

    @property
    def hardware(self) -> Hardware:
        """Return the devices of the training."""
        return Hardware(self.devices, self.nodes, self.accelerator)

    def make_recipe(self) -> Recipe:
        """Return the recipe with the given values. Raises UsageError for unknown names and values."""
        return override(RECIPES[self.recipe](), self.recipe_values())

    def recipe_values(self) -> dict[str, Any]:
        """Return the given values of the recipe, by their names in the recipe."""
        return {**self._named_values(), **PRECISIONS[self.precision], **self.values}

    def _named_values(self) -> dict[str, Any]:
        """Return the values of the recipe that have an option and are given."""
        named = {"epochs": self.epochs, "batch_size": self.batch, "crop": self.crop, "lr": self.lr, "loss": self.loss}
        named |= {"minutes": self.minutes, "patience": self.patience}
        return {name: value for name, value in named.items() if value is not None}


def refuse_with_minutes(recipe: Recipe, given: Collection[str]) -> None:
    """Raise UsageError if the recipe has minutes, and a setting of the `given` ones that minutes replace."""
    name = next((name for name in OF_LENGTH if name in given), None)
    if recipe.minutes is not None and name is not None:
        message = f"minutes decides the number of steps and validations; leave out minutes or {name}"
        raise UsageError(message, code="minutes-and-epochs")


@dataclass(frozen=True)
class Job:
    """Everything that decides the outcome of a run, except the data; and the devices that compute it.

    `start` is a run folder or a weights file. The network starts from its weights where they fit. `choices` are the
    reasons for the values; they are written to the run folder. `teacher` and `unlabelled_images` are those of
    `TrainingOptions`.
    """

    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    start: Path | None = None
    choices: tuple[Choice, ...] = ()
    teacher: Path | None = None
    unlabelled_images: Path | None = None
    hardware: Hardware = Hardware()
    logger: LoggerName | None = None


def make_job(dataset: DataSet, options: TrainingOptions, statistics: DataSetStatistics | None = None) -> Job:
    """Make the job of a training: choose each setting that `options` leaves open from the `statistics` of the data.

    Statistics that are None are read from the data. Raises UsageError for unknown values of an option or of the recipe,
    ModelError if the FILE.py of the classifier does not exist.
    """
    options.check()
    values = options.recipe_values()
    teacher = None if options.teacher is None else model_path(options.teacher)
    unlabelled = None if options.unlabelled_images is None else Path(options.unlabelled_images)
    start = None if options.start is None else find_start(options.start)
    started = None if start is None else spec_of_start(start, dataset, options.stride, options.late)
    model, recipe = options.model or MODEL, options.make_recipe()
    stride: int = options.stride or STRIDE
    choices: tuple[Choice, ...] = ()
    if options.by_data:
        statistics = statistics or read_statistics(dataset, "train", "val")
        named: dict[str, Any] = {name: getattr(started or options, name) for name in ("model", "stride", "dilate")}
        mixed = unlabelled is not None
        chosen = choose(statistics, recipe, values, **named, published=options.recipe == "paper", mixed=mixed)
        model, stride, recipe, choices = chosen.model, chosen.stride, chosen.recipe, chosen.choices
        if recipe.minutes is not None:
            choices = tuple(_time_choice(choice, recipe.minutes) for choice in choices)
        if start is not None:
            choices = tuple(_start_choice(choice, start, options.stride) for choice in choices)
    model = make_absolute(model)
    if start is None and options.weights == PRETRAINED and (weights_from := describe_pretrained(model)):
        logger.info(weights_from)
    spec = started or _make_spec(options, model, dataset.labels.num_classes, stride)
    spec.check()
    if spec.decoder == "refined" and "head_lr_scale" not in values:
        recipe = override(recipe, {"head_lr_scale": REFINED_SCALE})
    if recipe.deep_supervision and spec.decoder == "paper":
        message = "deep_supervision belongs to the refined decoder; add --decoder refined"
        raise UsageError(message, code="supervision-needs-refined")
    return Job(
        spec,
        recipe,
        _name_weights(options.weights),
        start,
        choices=choices,
        teacher=teacher,
        unlabelled_images=unlabelled,
        hardware=options.hardware,
        logger=options.logger,
    )


def _name_weights(weights: str | os.PathLike[str]) -> str | None:
    """Return the weights of the classifier as a run keeps them: a file by its absolute path, None for none."""
    name = os.fspath(weights)
    if name == "none":
        return None
    return os.path.abspath(name) if os.path.isfile(name) else name


def _make_spec(options: TrainingOptions, model: str, classes: int, stride: int) -> NetSpec:
    """Return the network that the options describe, for a classifier and a stride that are chosen."""
    paper = options.recipe == "paper"
    return NetSpec(
        model,
        classes,
        min(stride, options.dilate or stride),
        options.head_width,
        norm=not paper,
        upsample=options.upsample,
        at_once=paper,
        padding=options.padding,
        dilate=options.dilate,
        code_sha256=hash_code(model),
        decoder=options.decoder,
        decoder_width=options.decoder_width or NetSpec.decoder_width,
        context=options.context,
        late=options.late or NetSpec.late,
        activation=options.activation,
    )


def _time_choice(choice: Choice, minutes: float) -> Choice:
    """Return the choice; for the epochs, that the time decides."""
    if choice.name != "epochs":
        return choice
    return Choice("epochs", f"those of {minutes:g} minutes", "the plan measures steps and validations, and counts them")


def _start_choice(choice: Choice, start: Path, stride: int | None) -> Choice:
    """Return the choice; for backbone and stride, that they are those of the trained network."""
    if choice.name == "backbone" or (choice.name == "stride" and stride is None):
        return Choice(choice.name, choice.value, f"that of {start}, from which the training starts")
    return choice


def name_run_folder(data: Path, job: Job) -> Path:
    """Return the default folder of a run: runs/<data>-<network>-<model>."""
    return Path("runs") / f"{data_name(data)}-{job.spec.name.lower()}-{_slug(job.spec.model)}"


def name_ladder_folder(data: Path, job: Job) -> Path:
    """Return the default folder of a ladder: runs/<data>-ladder-<model>."""
    return Path("runs") / f"{data_name(data)}-ladder-{_slug(job.spec.model)}"


def _slug(model: str) -> str:
    """Return the name of a classifier as part of a folder name: my_module.py:build becomes my_module-build."""
    path, _, function = model.rpartition(".py:")
    return f"{Path(path).name}-{function}" if path else model.replace("/", "-")

"""The commands: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fullconv import __version__
from fullconv.errors import FullconvError, MissingExtra, UsageError

if TYPE_CHECKING:
    from fullconv.learn.recipe import Recipe
    from fullconv.metrics import Scores
    from fullconv.net.fcn import NetSpec

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Argument(help="Folder of labelled images: folder, CamVid or VOC layout.", show_default=False)]
Model = Annotated[str, typer.Option(help="Classifier: vgg16, alexnet, resnet18, resnet34, resnet50, mobilenet_v2.")]
Weights = Annotated[str, typer.Option(help="Weights of the classifier: a file, 'imagenet' (torchvision's), or 'none'.")]
HeadWidth = Annotated[Optional[int], typer.Option(help="Channels of fc6 and fc7, from scratch. [default: the classifier's]", show_default=False)]  # noqa: UP045
Upsampling = Annotated[str, typer.Option(help="Bilinear kernels: 'fixed' or 'learned'.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Recipe: modern.")]
Epochs = Annotated[Optional[int], typer.Option(help="Passes over the training images.", show_default=False)]  # noqa: UP045
Batch = Annotated[Optional[int], typer.Option(help="Crops in a step.", show_default=False)]  # noqa: UP045
Crop = Annotated[Optional[int], typer.Option(help="Side of the training crops, pixels.", show_default=False)]  # noqa: UP045
Rate = Annotated[Optional[float], typer.Option("--lr", help="Learning rate of the pretrained layers.", show_default=False)]  # noqa: UP045
Set = Annotated[Optional[list[str]], typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe, as in recipe.yaml; repeatable.", show_default=False)]  # noqa: UP045
Out = Annotated[Optional[Path], typer.Option(help="Run folder. [default: runs/<data>-<network>-<model>]", show_default=False)]  # noqa: UP045
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]


@app.command()
def train(
    data: Data,
    model: Model = "mobilenet_v2",
    stride: Annotated[int, typer.Option(help="Prediction stride: 32, 16, 8 or 4.")] = 8,
    weights: Weights = "imagenet",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    recipe: RecipeName = "modern",
    epochs: Epochs = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train one network on labelled images."""
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.train import Job
    from fullconv.learn.train import train as run

    dataset = find_dataset(data)
    spec = _spec(model, dataset.labels.num_classes, stride, head_width, upsample)
    job = Job(spec, _recipe(recipe, epochs, batch, crop, lr, set_), None if weights == "none" else weights)
    folder = out or Path("runs") / f"{data.resolve().name}-{spec.name.lower()}-{model}"
    result = run(dataset, job, folder, resume=resume, tell=_say)
    _print_scores(result.scores)
    _say(f"run folder: {folder}")


@app.command()
def ladder(
    data: Data,
    model: Model = "vgg16",
    weights: Weights = "imagenet",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    recipe: RecipeName = "modern",
    epochs: Epochs = None,
    fixed_epochs: Annotated[Optional[int], typer.Option(help="Epochs of the first rung, which are cheap. [default: --epochs]", show_default=False)] = None,  # noqa: UP045, E501
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Climb FCN-32s-fixed, FCN-32s, FCN-16s, FCN-8s, each from the one before, and print the table."""
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.ladder import climb, table
    from fullconv.learn.train import Job

    dataset = find_dataset(data)
    spec = _spec(model, dataset.labels.num_classes, 32, head_width, upsample)
    job = Job(spec, _recipe(recipe, epochs, batch, crop, lr, set_), None if weights == "none" else weights)
    folder = out or Path("runs") / f"{data.resolve().name}-ladder-{model}"
    rungs = climb(dataset, job, folder, fixed_epochs=fixed_epochs, resume=resume, tell=_say)
    _print_table(table(rungs))
    _say(f"run folders: {folder}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Run folder or weights file.", show_default=False)],
    data: Data,
    split: Annotated[str, typer.Option(help="Which images: train, val or test.")] = "val",
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the scores there; - is stdout.", show_default=False)] = None,  # noqa: UP045, E501
) -> None:
    """Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU of a model."""
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.errors import ModelError
    from fullconv.image import write_text
    from fullconv.net.runner import TorchRunner
    from fullconv.run.evaluate import evaluate as score

    dataset = find_dataset(data)
    runner = TorchRunner.load(model)
    if runner.labels.class_names != dataset.labels.class_names:
        ours, theirs = ", ".join(runner.labels.class_names), ", ".join(dataset.labels.class_names)
        raise ModelError(f"{model} knows the classes {ours}; {data} has {theirs}")
    scores = score(runner, (dataset.read(sample) for sample in dataset.split(split)))
    text = json.dumps(scores.to_dict(), indent=1)
    if json_file is None:
        _print_scores(scores)
    elif str(json_file) == "-":
        print(text)
    else:
        write_text(json_file, text)
        _print_scores(scores)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Fully convolutional networks: label every pixel of your own images."""
    if version:
        print(__version__)
        raise typer.Exit


def _need_torch() -> None:
    from importlib.util import find_spec

    for package in ("torch", "torchvision", "lightning"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")


def _spec(model: str, num_classes: int, stride: int, head_width: int | None, upsample: str) -> NetSpec:
    from fullconv.net.fcn import NetSpec

    if upsample not in ("fixed", "learned"):
        raise UsageError(f"--upsample {upsample}: there is 'fixed' and 'learned'")
    return NetSpec(model, num_classes, stride, head_width, upsample=upsample)  # type: ignore[arg-type]


def _recipe(
    name: str, epochs: int | None, batch: int | None, crop: int | None, lr: float | None, others: list[str] | None
) -> Recipe:
    from fullconv.learn.recipe import modern, override

    if name != "modern":
        raise UsageError(f"--recipe {name}: there is 'modern'")
    values: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "crop": crop, "lr": lr}
    given = {key: value for key, value in values.items() if value is not None}
    for entry in others or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--set {entry}: write it as NAME=VALUE")
        given[key.strip().replace("-", "_")] = value
    return override(modern(), given)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_scores(scores: Scores) -> None:
    rows = [["pixel acc.", "mean acc.", "mean IU", "f.w. IU"]]
    values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
    rows.append([f"{100 * value:.1f}" for value in values])
    _print_table(rows)
    pairs = zip(scores.class_names, scores.per_class_iou, strict=True)
    _print_table([["class", "IU"], *([name, "absent" if iou is None else f"{100 * iou:.1f}"] for name, iou in pairs)])


def _print_table(rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


def main() -> None:
    """The entry point: a user's mistake ends in one message and its exit code, never in a traceback."""
    try:
        app()
    except FullconvError as error:
        if os.environ.get("FULLCONV_DEBUG"):
            raise
        _say(f"fullconv: {error}")
        sys.exit(error.exit_code)

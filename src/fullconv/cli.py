"""The commands: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullconv import __version__
from fullconv.arguments import need_torch as _need_torch
from fullconv.arguments import parse_size as _parse_size
from fullconv.arguments import say as _say
from fullconv.cli_bench import bench
from fullconv.errors import FullconvError, Interrupted, UsageError
from fullconv.terminal import print_inspection, print_scores, print_table, progress_bar

if TYPE_CHECKING:
    from fullconv.learn.recipe import Recipe
    from fullconv.net.spec import NetSpec
    from fullconv.run.runner import Runner

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(bench)

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of images and masks: folder, CamVid, VOC or VOC with SBD layout.")
]
Trained = Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder or weights file.")]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Classifier: torchvision's and timm's by name (vgg16, alexnet, resnet18, resnet34, resnet50, "
        "mobilenet_v2, ...), caffenet, digits, or FILE.py:FUNCTION for your own, whose code is run.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(metavar="FILE", help="Weights of the classifier: a file, 'imagenet' (the library's), or 'none'."),
]
HeadWidth = Annotated[
    int | None,
    typer.Option(metavar="N", help="Channels of fc6 and fc7, from scratch.", show_default="the classifier's"),
]
Upsampling = Annotated[
    str,
    typer.Option(
        metavar="fixed|learned|unpool|resize",
        help="Bilinear kernels, fixed or learned; or the indices of the poolings; or a plain resize.",
    ),
]
Padding = Annotated[
    str, typer.Option(metavar="minimal|reference", help="Padding: the least, or 100 pixels as in the published nets.")
]
Dilate = Annotated[
    int | None,
    typer.Option(
        metavar="16|8|4",
        help="Keep the backbone's maps at this stride: later layers are dilated, and no prediction stride is coarser.",
        show_default="the classifier's strides",
    ),
]
RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="modern|paper", help="How it learns: in a modern way, or as published.")
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", help="Passes over the training images.", show_default="the recipe's")
]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Crops in a step.", show_default="the recipe's")]
Crop = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Side of the training crops.", show_default="the recipe's")
]
Rate = Annotated[
    float | None,
    typer.Option("--lr", metavar="X", help="Learning rate of the pretrained layers.", show_default="by the classifier"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe, as in recipe.yaml; repeatable."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]


@app.command()
def train(
    data: Data,
    model: Model = "mobilenet_v2",
    stride: Annotated[int, typer.Option(metavar="32|16|8|4", help="Prediction stride, in pixels.")] = 8,
    weights: Weights = "imagenet",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    padding: Padding = "minimal",
    dilate: Dilate = None,
    recipe: RecipeName = "modern",
    epochs: Epochs = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder.", show_default="runs/<data>-<network>-<model>")
    ] = None,
    resume: Resume = False,
) -> None:
    """Train one network on labelled images."""
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.train import Job
    from fullconv.learn.train import train as run

    dataset = find_dataset(data)
    spec = _spec(model, dataset.labels.num_classes, stride, head_width, upsample, padding, dilate, recipe)
    spec = replace(spec, at_once=recipe == "paper")
    job = Job(spec, _recipe(recipe, epochs, batch, crop, lr, set_), None if weights == "none" else weights)
    folder = out or Path("runs") / f"{data.resolve().name}-{spec.name.lower()}-{_slug(model)}"
    result = run(dataset, job, folder, resume=resume, tell=_say)
    print_scores(result.scores)
    _say(f"run folder: {folder}")


@app.command()
def ladder(
    data: Data,
    model: Model = "vgg16",
    weights: Weights = "imagenet",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    padding: Padding = "minimal",
    dilate: Dilate = None,
    recipe: RecipeName = "modern",
    epochs: Epochs = None,
    epochs_each: Annotated[
        str | None,
        typer.Option(metavar="N,N,N,N", help="Epochs of the four networks, one by one.", show_default="--epochs"),
    ] = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the runs.", show_default="runs/<data>-ladder-<model>")
    ] = None,
    resume: Resume = False,
) -> None:
    """Climb the paper's ladder and print its table.

    FCN-32s-fixed, FCN-32s, FCN-16s, FCN-8s, each from the one before. On the paper's data (VOC with SBD) its
    published rows stand beside. With --dilate N it starts at stride N.
    """
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.ladder import climb, published, table
    from fullconv.learn.train import Job

    dataset = find_dataset(data)
    spec = _spec(model, dataset.labels.num_classes, 32, head_width, upsample, padding, dilate, recipe)
    job = Job(spec, _recipe(recipe, epochs, batch, crop, lr, set_), None if weights == "none" else weights)
    folder = out or Path("runs") / f"{data.resolve().name}-ladder-{_slug(model)}"
    rungs = climb(dataset, job, folder, epochs_each=_numbers(epochs_each), resume=resume, tell=_say)
    print_table(table(rungs, published(dataset)))
    _say(f"run folders: {folder}")


@app.command()
def evaluate(
    model: Trained,
    data: Data,
    split: Annotated[
        str, typer.Option(metavar="train|val|test|val736", help="Which images; val736 is of VOC.")
    ] = "val",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores there too; - prints only them.")
    ] = None,
) -> None:
    """Score a model on labelled images.

    Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU, as in the paper.
    """
    _need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.errors import ModelError
    from fullconv.image import write_text
    from fullconv.net.runner import TorchRunner
    from fullconv.run.evaluate import evaluate as score

    dataset = find_dataset(data)
    samples = dataset.split(split)
    if dataset.about:
        _say(f"splits of {data}: {dataset.about}")
    runner = TorchRunner.load(model)
    if runner.labels.class_names != dataset.labels.class_names:
        ours, theirs = ", ".join(runner.labels.class_names), ", ".join(dataset.labels.class_names)
        raise ModelError(f"{model} knows the classes {ours}; {data} has {theirs}")
    with progress_bar() as bar:
        scores = score(runner, (dataset.read(sample) for sample in bar.track(samples, description="scoring")))
    text = json.dumps(scores.to_dict(), indent=1)
    if str(json_file) == "-":
        print(text)
        return
    if json_file is not None:
        write_text(json_file, text)
    print_scores(scores)


@app.command()
def predict(
    model: Trained,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB", help="Images, folders of them, patterns.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, named as the images.")],
    save: Annotated[
        str, typer.Option(metavar="LIST", help="What to write: labels, overlay or both.")
    ] = "labels,overlay",
    patchwise: Annotated[
        bool, typer.Option("--patchwise", help="Slide over the image, one patch for each label; slow, for comparison.")
    ] = False,
    step: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="From patch to patch, with --patchwise.", show_default="8")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Patches at a time, with --patchwise.", show_default="16")
    ] = None,
) -> None:
    """Label every pixel of images.

    Writes DIR/<stem>.png, class ids with the palette, and DIR/overlays/<stem>.jpg, both at the size of the image.
    An image that fails is told at the end, and the others are still done. With --patchwise, MODEL may also be a
    classifier that was saved with its classes, as the demo's digits.safetensors.
    """
    _need_torch()
    from fullconv.net.runner import TorchRunner
    from fullconv.run.predict import expand_inputs, predict_files

    if not patchwise and (step is not None or batch is not None):
        raise UsageError("--step and --batch are for --patchwise")
    paths = expand_inputs(images, out)
    runner = (
        _patchwise(model, 8 if step is None else step, 16 if batch is None else batch)
        if patchwise
        else TorchRunner.load(model)
    )
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=len(paths))
        report = predict_files(runner, paths, out, kinds, lambda path, message: bar.advance(task))
    print(f"{len(report.done)} of {len(paths)} images labelled in {out}")
    if report.failed:
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {len(paths)} images failed{lines}")


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a classifier, run folder or weights file.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Height and width of the image.", show_default="the classifier's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Instead, compare the dense map of a classifier with the classifier on its crops."
        ),
    ] = False,
) -> None:
    """Show a network layer by layer.

    Kernel, stride, padding and output of each layer; stride, receptive field and offset of its cells in pixels of
    the image; parameters and multiply-accumulates. A classifier is shown convolutionalized; with --check, on a random
    image (its own size and two strides more) and with random weights, it is told which cells equal it.
    """
    pixels = None if size is None else _parse_size(size)
    _need_torch()
    if check:
        from fullconv.net.check import check_classifier

        outcome = check_classifier(model, pixels)
        print(json.dumps(outcome.to_dict(), indent=1) if as_json else "\n".join(outcome.lines()))
        return
    from fullconv.net.inspect import inspect_model

    found = inspect_model(model, pixels)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print_inspection(found)


@app.command("import")
def import_(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="Published weights: .caffemodel, .npz, .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    net: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="fcn32s, fcn16s, fcn8s, fcn8s-atonce or alexnet.", show_default="by the layers"
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="classes.txt or dataset.yaml.", show_default="VOC's where there are 21"),
    ] = None,
) -> None:
    """Make the published FCN weights a model of fullconv.

    FILE gives the published logits with evaluate, predict and inspect: docs/reference.md. At-once weights without
    their scale layers look like those of fcn8s and need --net.
    """
    _need_torch()
    from fullconv.data.names import labels_for
    from fullconv.net.checkpoint import Saved, save_net
    from fullconv.net.published import read_published

    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: name a file that ends in .safetensors")
    name, spec, state = read_published(weights, net)
    labels = labels_for(spec.num_classes, classes)
    save_net(out, state, Saved(spec, labels, {"imported": weights.name, "net": name}))
    print(f"{out}: {name} with {spec.num_classes} classes, {spec.upsample} upsampling")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that the demo makes.")] = Path("demo"),
) -> None:
    """Show the whole story, offline, in minutes.

    Trains a classifier of handwritten digits, makes it convolutional, compares its heat map with a sliding window's,
    climbs the ladder on scenes of digits, prints the table and draws DIR/story.png. Stopped, it goes on where it was.
    """
    _need_torch()
    from fullconv.learn.demo import run_demo

    done = run_demo(out, tell=_say)
    for line in done.lines():
        print(line)
    print_table(done.table)
    print(f"picture: {out / 'story.png'}")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Fully convolutional networks: label every pixel of your own images."""
    if version:
        print(__version__)
        raise typer.Exit


def _spec(
    model: str,
    num_classes: int,
    stride: int,
    head_width: int | None,
    upsample: str,
    padding: str,
    dilate: int | None,
    recipe: str,
) -> NetSpec:
    from typing import get_args

    from fullconv.net.spec import NetSpec, Padding
    from fullconv.net.upsample import UpsampleMode

    for option, value, known in (("upsample", upsample, UpsampleMode), ("padding", padding, Padding)):
        if value not in get_args(known):
            choices = ", ".join(get_args(known))
            raise UsageError(f"--{option} {value}: choose from {choices}")
    if dilate not in (None, 16, 8, 4):
        raise UsageError(f"--dilate {dilate}: choose from 16, 8, 4")
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


def _patchwise(model: Path, step: int, batch: int) -> Runner:
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.runner import TorchClassifier, TorchRunner
    from fullconv.run.patchwise import PatchwiseRunner

    if holds_classifier(model):
        return PatchwiseRunner.sliding(TorchClassifier.load(model), step, batch)
    runner = TorchRunner.load(model)
    fields = runner.net.geometry[0].field, runner.net.geometry[1].field
    return PatchwiseRunner.over(runner, fields, runner.mean_color, step, batch)


def _slug(model: str) -> str:
    """A classifier's name as part of a folder's: my_module.py:build becomes my_module-build."""
    path, _, function = model.rpartition(".py:")
    return f"{Path(path).name}-{function}" if path else model.replace("/", "-")


def _numbers(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--epochs-each {text}: write whole numbers with commas, as 10,6,6,10") from error


def _recipe(
    name: str, epochs: int | None, batch: int | None, crop: int | None, lr: float | None, others: list[str] | None
) -> Recipe:
    from fullconv.learn.recipe import RECIPES, override

    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: there is {' and '.join(repr(known) for known in RECIPES)}")
    values: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "crop": crop, "lr": lr}
    given = {key: value for key, value in values.items() if value is not None}
    for entry in others or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--set {entry}: write it as NAME=VALUE")
        given[key.strip().replace("-", "_")] = value
    return override(RECIPES[name](), given)


def main() -> None:
    """The entry point: a user's mistake ends in one message and its exit code, never in a traceback."""
    try:
        app()
    except FullconvError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        _say(f"fullconv: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)

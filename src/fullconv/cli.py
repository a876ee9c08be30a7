"""The commands: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv import __version__
from fullconv.arguments import need_torch, parse_numbers, parse_recipe, parse_spec, recipe_values, say, slug
from fullconv.cli_bench import bench
from fullconv.cli_convert import convert
from fullconv.cli_data import check
from fullconv.cli_model import export, import_, inspect
from fullconv.cli_predict import evaluate, predict
from fullconv.cli_report import report
from fullconv.errors import FullconvError, Interrupted
from fullconv.options import (
    Batch,
    ChosenModel,
    Crop,
    Data,
    Dilate,
    Epochs,
    HeadWidth,
    Model,
    Padding,
    Rate,
    RecipeName,
    Resume,
    RunFolder,
    Set,
    Stride,
    Upsampling,
    Weights,
)
from fullconv.terminal import print_scores, print_table, show_log

if TYPE_CHECKING:
    from fullconv.learn.train import TrainResult

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(bench)


@app.command()
def train(
    data: Data,
    model: ChosenModel = None,
    stride: Stride = None,
    weights: Weights = "pretrained",
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
    out: RunFolder = None,
    resume: Resume = False,
) -> None:
    """Train one network on labelled images.

    Backbone, stride, crop, batch, epochs and class weights are chosen by the data unless they are asked for, and told
    with the reason. The run folder then holds the weights, model.onnx to predict with, and report.html.
    """
    need_torch()
    from fullconv.data.fingerprint import read_fingerprint
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.choose import choose
    from fullconv.learn.train import Job
    from fullconv.learn.train import train as run

    dataset = find_dataset(data)
    given = recipe_values(epochs, batch, crop, lr, set_)
    numbers, paper, classes = parse_recipe(recipe, given), recipe == "paper", dataset.labels.num_classes
    found = read_fingerprint(dataset)
    chosen = choose(found, numbers, given, model=model, stride=stride, dilate=dilate, published=paper)
    spec = parse_spec(chosen.model, classes, chosen.stride, head_width, upsample, padding, dilate, recipe)
    job = Job(
        replace(spec, at_once=paper), chosen.recipe, None if weights == "none" else weights, choices=chosen.choices
    )
    folder = out or Path("runs") / f"{data.resolve().name}-{spec.name.lower()}-{slug(chosen.model)}"
    for choice in chosen.choices:
        say(str(choice))
    _told(run(dataset, job, folder, resume=resume, tell=say), folder)


def _told(result: TrainResult, folder: Path) -> None:
    """The scores, and what the run folder holds: model.onnx only of a network that has learnt something."""
    print_scores(result.scores)
    if result.alarm:
        say(f"attention: {result.alarm} Causes and remedies are in {folder / 'report.html'}; no model.onnx is written.")
    else:
        say(f"run folder: {folder}, with report.html{_exported(folder)}")


def _exported(run: Path) -> str:
    """Write model.onnx beside the best weights, unless it is there; what to say of it."""
    from fullconv.errors import ModelError
    from fullconv.export.file import export as write

    target = run / "model.onnx"
    try:
        if not target.exists():
            write(run, target)
    except ModelError as error:
        return f"; no model.onnx, because {error}"
    return f" and model.onnx ({target.stat().st_size / 1e6:.1f} MB)"


@app.command()
def ladder(
    data: Data,
    model: Model = "vgg16",
    weights: Weights = "pretrained",
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
    need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.learn.ladder import climb, published, table
    from fullconv.learn.train import Job

    dataset = find_dataset(data)
    spec = parse_spec(model, dataset.labels.num_classes, 32, head_width, upsample, padding, dilate, recipe)
    job = Job(
        spec, parse_recipe(recipe, recipe_values(epochs, batch, crop, lr, set_)), None if weights == "none" else weights
    )
    folder = out or Path("runs") / f"{data.resolve().name}-ladder-{slug(model)}"
    rungs = climb(dataset, job, folder, epochs_each=parse_numbers(epochs_each), resume=resume, tell=say)
    print_table(table(rungs, published(dataset)))
    say(f"run folders: {folder}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that the demo makes.")] = Path("demo"),
) -> None:
    """Show the whole story, offline, in minutes.

    Trains a classifier of handwritten digits, makes it convolutional, compares its heat map with a sliding window's,
    climbs the ladder on scenes of digits, prints the table and draws DIR/story.png. Stopped, it goes on where it was.
    """
    need_torch()
    from fullconv.learn.demo import run_demo

    done = run_demo(out, tell=say)
    for line in done.lines():
        print(line)
    print_table(done.table)
    print(f"picture: {out / 'story.png'}")


for command in (check, evaluate, report, predict, inspect, export, convert):
    app.command()(command)
app.command("import")(import_)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Fully convolutional networks: label every pixel of your own images."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """The entry point: a user's mistake ends in one message and its exit code, never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be no Unicode
            stream.reconfigure(errors="backslashreplace")
    try:
        with show_log(), _stoppable():
            app()
    except FullconvError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        say(f"fullconv: {error}")
        sys.exit(error.exit_code)
    except (OSError, MemoryError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        what = str(error) or "the memory is not enough; use smaller images, a smaller --crop or --batch, or --tile"
        say(f"fullconv: {what}")
        sys.exit(FullconvError.exit_code)
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, unless it is ignored; a training has its own way to save and go on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    say(f"fullconv: stopped by {signal.Signals(number).name}; every file that is written is whole")
    raise KeyboardInterrupt

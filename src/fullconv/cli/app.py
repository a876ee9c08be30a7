"""The commands: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fullconv import __version__
from fullconv.cli.bench import bench
from fullconv.cli.check import check
from fullconv.cli.console import print_scores, print_table, show_log, training_bar
from fullconv.cli.convert import convert
from fullconv.cli.model_commands import export, import_, inspect
from fullconv.cli.options import (
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
    Recipe,
    Resume,
    RunFolder,
    Set,
    Stride,
    Upsampling,
    Weights,
)
from fullconv.cli.parsing import parse_numbers, parse_values, say
from fullconv.cli.predict import evaluate, predict
from fullconv.cli.report import report
from fullconv.errors import FullconvError, Interrupted
from fullconv.extras import need_torch

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
    recipe: Recipe = "default",
    epochs: Epochs = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Rate = None,
    set_: Set = None,
    out: RunFolder = None,
    resume: Resume = False,
) -> None:
    """Train one network on labelled images.

    Backbone, stride, crop, batch, epochs and class weights are chosen by the data unless you give them, and printed
    with the reason. The run folder then holds the weights, model.onnx to predict with, and report.html.
    """
    need_torch()
    from fullconv import api

    with training_bar() as on_progress:
        result = api.train(
            data,
            out=out,
            model=model,
            stride=stride,
            weights=weights,
            head_width=head_width,
            upsample=upsample,
            padding=padding,
            dilate=dilate,
            recipe=recipe,
            epochs=epochs,
            batch=batch,
            crop=crop,
            lr=lr,
            values=parse_values(set_),
            resume=resume,
            on_progress=on_progress,
        )
    print_scores(result.scores)
    if not result.alarm:
        size = "" if result.model is None else f" and {result.model.name} ({result.model.stat().st_size / 1e6:.1f} MB)"
        say(f"run folder: {result.folder}, with report.html{size}")


@app.command()
def ladder(
    data: Data,
    model: Model = "vgg16",
    weights: Weights = "pretrained",
    head_width: HeadWidth = None,
    upsample: Upsampling = "fixed",
    padding: Padding = "minimal",
    dilate: Dilate = None,
    recipe: Recipe = "default",
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
    published rows follow its own. With --dilate N it starts at stride N.
    """
    need_torch()
    from fullconv.data.statistics import read_training_data
    from fullconv.training.job import TrainingOptions, make_job, name_ladder_folder
    from fullconv.training.ladder import climb, find_published, make_table

    options = TrainingOptions(
        model, None, weights, head_width, upsample, padding, dilate, recipe, epochs, batch, crop, lr,
        parse_values(set_), by_data=False,
    )  # fmt: skip
    options.check()
    each = parse_numbers(epochs_each)
    dataset, statistics = read_training_data(data)
    job = make_job(dataset, options, statistics)
    folder = out or name_ladder_folder(data, job)
    with training_bar() as on_progress:
        rungs = climb(
            dataset, job, folder, statistics=statistics, epochs_each=each, resume=resume, on_progress=on_progress
        )
    print_table(make_table(rungs, find_published(dataset)))
    say(f"run folders: {folder}, with report.html")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that the demo makes.")] = Path("demo"),
) -> None:
    """Show the whole story, offline, in minutes.

    Trains a classifier of handwritten digits, makes it convolutional, compares its heat map with a sliding window's,
    climbs the ladder on scenes of digits, prints the table and draws DIR/story.png. Run again, it resumes.
    """
    need_torch()
    from fullconv.demo.story import run_demo

    with training_bar() as on_progress:
        done = run_demo(out, on_progress=on_progress)
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
    """SIGTERM ends a command as Ctrl-C does, unless it is ignored; a training saves its state instead."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    say(f"fullconv: stopped by {signal.Signals(number).name}; every file that is written is whole")
    raise KeyboardInterrupt

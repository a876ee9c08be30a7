"""The command `fullconv demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.cli.console import emit, print_table, training_bar
from fullconv.extras import need_torch

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all files of the demo.")] = Path("demo"),
) -> None:
    """Show each step from a classifier to FCN-8s, offline, in minutes.

    Trains a classifier of handwritten digits, makes it convolutional, and compares its heat map with the results of a
    sliding window. Then trains the ladder on scenes of digits, prints its table and draws DIR/story.png. The same
    command resumes a demo that was stopped.
    """
    need_torch()
    from fullconv.demo.story import run_demo

    with training_bar() as on_progress:
        result = run_demo(out, on_progress=on_progress)
    for line in result.lines():
        emit(line)
    print_table(result.table)
    emit(f"picture: {out / 'story.png'}")

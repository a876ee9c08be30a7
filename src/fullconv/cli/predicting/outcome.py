"""The end of a prediction: how many images are done, and those that failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fullconv.cli.console import emit
from fullconv.errors import FullconvError
from fullconv.visible import make_visible

if TYPE_CHECKING:
    from fullconv.labels import LabelSet
    from fullconv.predict.predict_files import PredictReport

__all__ = ["print_count", "raise_failed", "show_colors"]


def print_count(report: PredictReport, out: Path) -> None:
    """Print how many images are labelled."""
    total = len(report.done) + len(report.failed)
    emit(f"{len(report.done)} of {total} images labelled in {out}")


def show_colors(labels: LabelSet) -> None:
    """Show the colour of each class on stderr, if that is a terminal with at least 256 colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.color_system not in ("256", "truecolor"):
        return
    line = Text("colours:")
    for name, (red, green, blue) in zip(labels.class_names, labels.palette, strict=True):
        line.append("  ").append("\u2588\u2588", f"rgb({red},{green},{blue})")
        line.append(f"\u00a0{make_visible(name)}".replace(" ", "\u00a0"))
    console.print(line)


def raise_failed(report: PredictReport, problem: FullconvError | None = None) -> None:
    """Raise FullconvError that lists the images that failed, if there are any, and then a further problem."""
    if report.failed:
        total = len(report.done) + len(report.failed)
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        further = "" if problem is None else f"\n{problem}"
        raise FullconvError(f"{len(report.failed)} of {total} images failed:{lines}{further}", code="images-failed")
    if problem is not None:
        raise problem
